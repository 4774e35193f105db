"""Heads: which distribution p(x|z) over data the numbers mean that a decoder gives.

`d` is the number of dimensions of one example (for an image: pixels). A decoder gives
`n_outputs · d` numbers. All log-probabilities are in nats, summed over the d dimensions.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.errors import nearest
from udl_lab.latent.normal import LOG_2PI

HeadName = Literal["bernoulli", "gaussian", "logistic"]


class AbstractHead(nn.Module, ABC):
    """A distribution over examples whose parameters a decoder gives."""

    n_outputs: int  # for each dimension of x

    @abstractmethod
    def check(self, x: Float[Tensor, " batch *shape"]) -> None:
        """Refuse data that the distribution is not one of, with a ValueError."""

    @abstractmethod
    def log_prob(
        self, x: Float[Tensor, " batch *shape"], outputs: Float[Tensor, "k batch out"]
    ) -> Float[Tensor, "k batch"]:
        """The log of p(x|z) in nats, summed over dimensions, for k latents of each example."""

    @abstractmethod
    def mean(self, outputs: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch d"]:
        """E[x|z], flattened."""

    @abstractmethod
    def sample(
        self, outputs: Float[Tensor, "*batch out"], generator: torch.Generator
    ) -> Float[Tensor, "*batch d"]:
        """One draw of x given z, flattened, from a CPU generator."""

    @abstractmethod
    def outputs_at(self, mean: Float[Tensor, " *shape"]) -> Float[Tensor, " out"]:
        """Decoder outputs whose mean is about `mean`: where to start an output bias."""


@final
class Bernoulli(AbstractHead):
    """Pixels 0 and 1; the outputs are logits."""

    n_outputs = 1

    def __init__(self, soft_targets: bool = False) -> None:
        """Choose what to do with grey pixels.

        Args:
            soft_targets: allow x between 0 and 1. The cross-entropy is then no log-probability
                of x, and its "ELBO" bounds nothing.
        """
        super().__init__()
        self.soft_targets = soft_targets

    def check(self, x: Float[Tensor, " batch *shape"]) -> None:
        """Refuse grey pixels, or with `soft_targets` only those outside [0, 1]."""
        valid = (x >= 0) & (x <= 1) if self.soft_targets else (x == 0) | (x == 1)
        if not valid.all():
            value = x[~valid].flatten()[0].item()
            remedy = (
                "scale the pixels to [0, 1]"
                if self.soft_targets or not 0 <= value <= 1
                else "binarise the data, or set soft_targets=True (its value is then no "
                "log-probability)"
            )
            raise ValueError(f"a Bernoulli head cannot give x = {value:.6g}; {remedy}")

    def log_prob(
        self, x: Float[Tensor, " batch *shape"], outputs: Float[Tensor, "k batch out"]
    ) -> Float[Tensor, "k batch"]:
        """Σ_d x_d logit_d − Σ_d log(1 + exp(logit_d)), in nats.

        The first sum is a product of matrices, in which x is not repeated for its k latents.
        """
        _check_where_possible(self, x)
        # Not einsum: its gradient has another memory layout than the softplus's, and is copied.
        fit = torch.linalg.vecdot(x.reshape(len(x), -1), outputs)
        # Beyond 40 log(1 + e^l) equals l in double precision; torch's default of 20 errs by 2e-9.
        return fit - F.softplus(outputs, threshold=40).sum(dim=-1)

    def mean(self, outputs: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch d"]:
        """The probability of a 1."""
        return outputs.sigmoid()

    def sample(
        self, outputs: Float[Tensor, "*batch out"], generator: torch.Generator
    ) -> Float[Tensor, "*batch d"]:
        """Zeros and ones."""
        return (_uniform(outputs, generator) < self.mean(outputs)).to(outputs.dtype)

    def outputs_at(self, mean: Float[Tensor, " *shape"]) -> Float[Tensor, " out"]:
        """logit(mean), with the mean kept within [.001, .999] as in Burda et al.'s code."""
        return mean.flatten().logit(eps=1e-3)


@final
class Gaussian(AbstractHead):
    """Real numbers with one standard deviation for all dimensions; the outputs are means."""

    n_outputs = 1

    def __init__(self, log_std: float = 0.0, learned: bool = True) -> None:
        """Set the standard deviation.

        Args:
            log_std: its logarithm, at the start if it is learned.
            learned: whether it is a parameter of the model, or fixed.
        """
        super().__init__()
        if learned:
            self.log_std = nn.Parameter(torch.tensor(log_std))
        else:
            self.register_buffer("log_std", torch.tensor(log_std))

    def check(self, x: Float[Tensor, " batch *shape"]) -> None:
        """Refuse numbers that are not finite."""
        if not x.isfinite().all():
            raise ValueError("a Gaussian head was given x with NaN or infinity; clean the data")

    def log_prob(
        self, x: Float[Tensor, " batch *shape"], outputs: Float[Tensor, "k batch out"]
    ) -> Float[Tensor, "k batch"]:
        """−½ Σ_d (x_d − mean_d)²/std² − d log_std − ½ d log 2π, in nats."""
        _check_where_possible(self, x)
        squares = (x.reshape(len(x), -1) - outputs).square().sum(dim=-1)
        constants = outputs.shape[-1] * (self.log_std + 0.5 * LOG_2PI)
        return -0.5 * squares * (-2 * self.log_std).exp() - constants

    def mean(self, outputs: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch d"]:
        """The outputs themselves."""
        return outputs

    def sample(
        self, outputs: Float[Tensor, "*batch out"], generator: torch.Generator
    ) -> Float[Tensor, "*batch d"]:
        """The mean with noise."""
        eps = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype)
        return outputs + self.log_std.exp() * eps.to(outputs.device)

    def outputs_at(self, mean: Float[Tensor, " *shape"]) -> Float[Tensor, " out"]:
        """The mean itself."""
        return mean.flatten()


@final
class DiscretisedLogistic(AbstractHead):
    """The 256 grey levels 0, 1/255, …, 1, as probabilities of bins of a logistic distribution.

    The outputs are first the d locations, in [0, 1] like pixels, then the d log-scales. A level's
    bin reaches half a level to both sides, and those of 0 and 1 to infinity (Salimans et al. 2017,
    eq. 2), so that the probabilities of the 256 levels sum to one.
    """

    n_outputs = 2

    def check(self, x: Float[Tensor, " batch *shape"]) -> None:
        """Refuse anything but whole levels, to a thousandth of a level."""
        off = (255 * x - (255 * x).round().clamp(0, 255)).abs()
        if not (off < 1e-3).all():
            value = x[~(off < 1e-3)].flatten()[0].item()
            raise ValueError(
                f"x = {value:.6g} is none of the 256 grey levels 0, 1/255, …, 1; divide bytes by "
                "255 and add no noise, or use head='gaussian'"
            )

    def log_prob(
        self, x: Float[Tensor, " batch *shape"], outputs: Float[Tensor, "k batch out"]
    ) -> Float[Tensor, "k batch"]:
        """Σ_d log(σ(b_d) − σ(a_d)), in nats, with a_d and b_d the standardised ends of the bin.

        With σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(a − b)) the logarithm is exact however far x lies
        in the tail: there is no floor under the probability.
        """
        _check_where_possible(self, x)
        x = x.reshape(len(x), -1)
        location, log_scale = _location_and_log_scale(outputs)
        precision = (-log_scale).exp()
        b = (x + 0.5 / 255 - location) * precision
        a = (x - 0.5 / 255 - location) * precision
        below_b, above_a = F.logsigmoid(b), F.logsigmoid(-a)
        inside = below_b + above_a + (-(-precision / 255).expm1()).log()
        lowest, highest = x < 0.5 / 255, x > 1 - 0.5 / 255
        return torch.where(lowest, below_b, torch.where(highest, above_a, inside)).sum(dim=-1)

    def mean(self, outputs: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch d"]:
        """The exact mean over the 256 levels: 1/255 Σ_{j<255} P(level > j)."""
        location, log_scale = _location_and_log_scale(outputs)
        precision = (-log_scale).exp()
        total = torch.zeros_like(location)
        for j in range(255):
            total += ((location - (j + 0.5) / 255) * precision).sigmoid()
        return total / 255

    def sample(
        self, outputs: Float[Tensor, "*batch out"], generator: torch.Generator
    ) -> Float[Tensor, "*batch d"]:
        """A draw of the logistic distribution, rounded to the nearest level."""
        location, log_scale = _location_and_log_scale(outputs)
        # Uniform numbers may be 0, whose logit is not finite.
        noise = _uniform(location, generator).clamp(min=torch.finfo(location.dtype).tiny).logit()
        return (255 * (location + log_scale.exp() * noise)).round().clamp(0, 255) / 255

    def outputs_at(self, mean: Float[Tensor, " *shape"]) -> Float[Tensor, " out"]:
        """The mean as location, and scales of a tenth of the range."""
        mean = mean.flatten()
        return torch.cat([mean, torch.full_like(mean, math.log(0.1))])


def head_named(name: HeadName, soft_targets: bool = False) -> AbstractHead:
    """A new head by its name; `soft_targets` is the Bernoulli head's.

    Raises:
        ValueError: for a name that is none of them, and for soft targets of another head.
    """
    heads = {"bernoulli": Bernoulli, "gaussian": Gaussian, "logistic": DiscretisedLogistic}
    if name not in heads:
        raise ValueError(f"there is no head {name!r}; {nearest(name, heads)}")
    if name == "bernoulli":
        return Bernoulli(soft_targets)
    if soft_targets:
        raise ValueError(f"soft_targets=True is of the Bernoulli head; head={name!r} has none")
    return heads[name]()


def _location_and_log_scale(outputs: Tensor) -> tuple[Tensor, Tensor]:
    location, log_scale = outputs.chunk(2, dim=-1)
    # At exp(-12) a level is 638 scales wide; a smaller scale only overflows.
    return location, log_scale.clamp(min=-12)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), drawn on the CPU."""
    return torch.rand(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _check_where_possible(head: AbstractHead, x: Tensor) -> None:
    """Check the data, unless a CUDA graph is being captured, which cannot look at values."""
    if not (x.is_cuda and torch.cuda.is_current_stream_capturing()):
        head.check(x)
