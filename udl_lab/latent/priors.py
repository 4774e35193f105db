"""Priors p(z): what the latents are before any data."""

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.latent.normal import LOG_2PI, Normal
from udl_lab.ranges import Positive


class AbstractPrior(nn.Module, ABC):
    """A distribution over `size` latents."""

    def __init__(self, size: Positive) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"latent={size}: a model needs at least one latent; use 1 or more")
        self.size = size

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """The log-density of latents in nats, summed over the last axis, with all constants."""

    @abstractmethod
    def sample(self, n: Positive, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """Draw `n` times from the prior, with a CPU generator."""


@final
class StandardNormal(AbstractPrior):
    """N(0, I)."""

    def log_prob(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """−½ Σ z² − ½ latent log 2π, in nats."""
        return -0.5 * z.square().sum(dim=-1) - 0.5 * self.size * LOG_2PI

    def sample(self, n: Positive, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """Draw `n` times; the draws are on the CPU, as there is no parameter to follow."""
        return torch.randn(n, self.size, generator=generator)


@final
class VampPrior(AbstractPrior):
    """The average of the encoder's posteriors at learned inputs (Tomczak & Welling 2018, eq. 9).

    p(z) = 1/K Σ_c q(z | u_c). The pseudo-inputs u_c are free parameters: they need not be valid
    data for p(z) to be a distribution. Memory: samples × K × latent numbers, several times.
    """

    def __init__(
        self, size: Positive, encoder: nn.Module, pseudo_inputs: Float[Tensor, " n *shape"]
    ) -> None:
        """Start from given pseudo-inputs.

        Args:
            size: the number of latents.
            encoder: the model's own encoder; it is shared, and stays the model's to save.
            pseudo_inputs: the first u_c, for instance examples of the training set.
        """
        super().__init__(size)
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())
        # In a tuple, so that the encoder's parameters are not listed and saved a second time.
        self._encoder = (encoder,)

    def components(self) -> Normal:
        """The K posteriors that the prior is the average of."""
        return Normal.from_outputs(self._encoder[0](self.pseudo_inputs))

    def log_prob(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """The log of 1/K Σ_c q(z | u_c), in nats."""
        n = len(self.pseudo_inputs)
        against_all = z.unsqueeze(-2).expand(*z.shape[:-1], n, self.size)
        return self.components().log_prob(against_all).logsumexp(dim=-1) - math.log(n)

    def sample(self, n: Positive, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """Draw `n` times: a component, then from it."""
        components = self.components()
        choice = torch.randint(len(components.mean), (n,), generator=generator)
        choice = choice.to(components.mean.device)
        eps = torch.randn(n, self.size, generator=generator).to(components.mean)
        return Normal(components.mean[choice], components.log_std[choice]).sample(eps)
