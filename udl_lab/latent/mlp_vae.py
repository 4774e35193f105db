"""Models of fully connected networks: IWAE's of one and two stochastic layers, and a linear one."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.errors import nearest
from udl_lab.latent.heads import AbstractHead, Gaussian, HeadName, head_named
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.latent.priors import StandardNormal, VampPrior
from udl_lab.ranges import Positive

PriorName = Literal["standard", "vamp"]


class TanhMLP(nn.Module):
    """Linear layers with tanh between, initialised as in Burda et al. 2016.

    Weights are Glorot-uniform and biases zero. The output layer may stand for `blocks` layers side
    by side (mean and log_std), each with the limits of its own size.
    """

    def __init__(self, n_in: int, widths: Sequence[int], n_out: int, blocks: int = 1) -> None:
        super().__init__()
        sizes = [n_in, *widths]
        self.hidden = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes))
        )
        self.output = nn.Linear(sizes[-1], n_out)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                parts = module.weight.chunk(blocks if module is self.output else 1)
                for part in parts:
                    nn.init.xavier_uniform_(part)
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch out"]:
        """The outputs for examples of any shape, which are flattened."""
        return self.output(self.hidden(x.flatten(1)))


@final
class MLPVAE(LatentModel):
    """One stochastic layer; the defaults are IWAE's nets (Burda et al. 2016, section 5).

    With latent = 50 and 28 × 28 pixels: 784-200-200-50 and 50-200-200-784 with tanh.
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        latent: Positive,
        widths: Sequence[Positive] = (200, 200),
        head: HeadName = "bernoulli",
        soft_targets: bool = False,
        prior: PriorName = "standard",
        n_pseudo: Positive = 500,
    ) -> None:
        """Build and initialise the model.

        Args:
            in_shape: the shape of one example.
            latent: the number of latents.
            widths: of the encoder's hidden layers; the decoder has them in reverse.
            head: `bernoulli`, `gaussian` (one learned standard deviation) or `logistic`
                (discretised, 256 grey levels).
            soft_targets: allow grey pixels under the Bernoulli head; see there.
            prior: `standard` normal, or `vamp` (Tomczak & Welling 2018).
            n_pseudo: the number of pseudo-inputs of a `vamp` prior; they start uniform in [0, 1].

        Raises:
            ValueError: for latent = 0, an unknown head or prior, soft targets of another head.
        """
        _check_latent(latent)
        d = math.prod(in_shape)
        distribution = head_named(head, soft_targets)
        encoder = TanhMLP(d, widths, 2 * latent, blocks=2)
        decoder = TanhMLP(latent, widths[::-1], distribution.n_outputs * d, distribution.n_outputs)
        if prior == "standard":
            over_z = StandardNormal(latent)
        elif prior == "vamp":
            over_z = VampPrior(latent, encoder, torch.rand(n_pseudo, *in_shape))
        else:
            raise ValueError(f"there is no prior {prior!r}; {nearest(prior, ['standard', 'vamp'])}")
        super().__init__(encoder, decoder, over_z, distribution)
        self.in_shape = tuple(in_shape)

    def start_at(self, x: Float[Tensor, " n *in_shape"]) -> None:
        """Start the output bias at the mean of training data, and pseudo-inputs at its first rows.

        For the Bernoulli head the bias is the logit of the mean pixel, as in Burda et al. 2016.

        Raises:
            ValueError: for fewer examples than pseudo-inputs.
        """
        _start_bias(self.decoder, self.head, x)
        if isinstance(self.prior, VampPrior):
            pseudo = self.prior.pseudo_inputs
            if len(x) < len(pseudo):
                raise ValueError(
                    f"{len(x)} examples for n_pseudo={len(pseudo)} pseudo-inputs; give more"
                )
            pseudo.data.copy_(x[: len(pseudo)])


@final
class TwoLayerVAE(HierarchicalModel):
    """Two stochastic layers; the defaults are IWAE's nets (Burda et al. 2016, section 5).

    x-[200, 200]-h1(100)-[100, 100]-h2(50), and back.
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        latents: Sequence[Positive] = (100, 50),
        widths: Sequence[Positive] = (200, 200),
        upper_widths: Sequence[Positive] = (100, 100),
        head: HeadName = "bernoulli",
        soft_targets: bool = False,
    ) -> None:
        """Build and initialise the model.

        Args:
            in_shape: the shape of one example.
            latents: the numbers of latents h1 and h2.
            widths: of the hidden layers between x and h1; the decoder has them in reverse.
            upper_widths: of those between h1 and h2.
            head: as for `MLPVAE`.
            soft_targets: as for `MLPVAE`.

        Raises:
            ValueError: for other than two layers, a layer of 0, an unknown head.
        """
        if len(latents) != 2:
            raise ValueError(f"latents={list(latents)}: give two numbers, of h1 and of h2")
        n1, n2 = latents
        _check_latent(n1)
        _check_latent(n2)
        d = math.prod(in_shape)
        distribution = head_named(head, soft_targets)
        n_out = distribution.n_outputs
        super().__init__(
            encoder=TanhMLP(d, widths, 2 * n1, blocks=2),
            upper_encoder=TanhMLP(n1, upper_widths, 2 * n2, blocks=2),
            decoder=TanhMLP(n1, widths[::-1], n_out * d, blocks=n_out),
            upper_decoder=TanhMLP(n2, upper_widths[::-1], 2 * n1, blocks=2),
            n_lower=n1,
            prior=StandardNormal(n2),
            head=distribution,
        )
        self.in_shape = tuple(in_shape)

    def start_at(self, x: Float[Tensor, " n *in_shape"]) -> None:
        """Start the output bias at the mean of training data, as `MLPVAE.start_at`."""
        _start_bias(self.decoder, self.head, x)


class LinearEncoder(nn.Module):
    """A linear mean, and one log_std for each latent whatever x is."""

    def __init__(self, n_in: int, latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(n_in, latent)
        self.log_std = nn.Parameter(torch.zeros(latent))

    def forward(self, x: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch two_latent"]:
        """The means, then the log standard deviations."""
        mean = self.mean(x.flatten(1))
        return torch.cat([mean, self.log_std.expand_as(mean)], dim=-1)


@final
class LinearVAE(LatentModel):
    """x = W z + b + σ noise with a linear encoder: probabilistic PCA, learned by a bound.

    At the optimum of the ELBO the columns of W are orthogonal, the posterior is exact, and the ELBO
    is log p(x) (Lucas et al. 2019).
    """

    def __init__(self, in_shape: Sequence[Positive], latent: Positive) -> None:
        """Build the model, with torch's initial weights.

        Args:
            in_shape: the shape of one example.
            latent: the number of latents.

        Raises:
            ValueError: for latent = 0.
        """
        _check_latent(latent)
        d = math.prod(in_shape)
        super().__init__(
            LinearEncoder(d, latent), nn.Linear(latent, d), StandardNormal(latent), Gaussian()
        )
        self.in_shape = tuple(in_shape)


def _check_latent(latent: int) -> None:
    # Before torch builds a layer of no outputs and warns of it.
    if latent < 1:
        raise ValueError(f"latent={latent}: a model needs at least one latent; use 1 or more")


def _start_bias(decoder: nn.Module, head: AbstractHead, x: Tensor) -> None:
    assert isinstance(decoder, TanhMLP)
    decoder.output.bias.data.copy_(head.outputs_at(x.mean(dim=0)))
