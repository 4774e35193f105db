"""The exact log p(x) and the exact posterior, for latent sizes 1 and 2.

Sums over a uniform grid (the trapezoid rule), in log space and float64. For smooth functions that
vanish at the edges this rule converges faster than any power of the spacing, and the sum over every
second point is a second resolution at no further cost.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.latent.heads import Bernoulli
from udl_lab.latent.model import LatentModel
from udl_lab.latent.normal import Normal

LogLikelihood = Callable[[Float[Tensor, "point latent"]], Float[Tensor, "point batch"]]
"""log p(x | z) of every example at the same points z, in nats."""

LogPrior = Callable[[Float[Tensor, "point latent"]], Float[Tensor, " point"]]

_PAIRED = 2**20  # numbers of points x examples x dimensions at once


@dataclass(frozen=True)
class Evidence:
    """log p(x) in nats, and how far off it may be."""

    log_prob: Float64[Tensor, " batch"]
    # The change when every second point is left out, plus the share of the integral that lies on
    # the edge of the grid. Far above the true error once the rule converges; over 0.01 it only
    # says that it has not yet: take a larger n, or reach.
    error: Float64[Tensor, " batch"]


@dataclass(frozen=True)
class PosteriorGrid:
    """p(z | x) as a density per unit of z (of area for two latents), not a probability per cell."""

    axis: Float64[Tensor, " n"]
    points: Float64[Tensor, "point latent"]  # n ** latent of them, the last latent fastest
    density: Float64[Tensor, "point batch"]
    cell: Float64[Tensor, " point"]  # (density * cell[:, None]).sum(0) is 1

    def moments(self) -> Normal:
        """The diagonal normal with the means and variances of each posterior."""
        mass = (self.density * self.cell[:, None]).T
        mean = mass @ self.points
        variance = mass @ self.points.square() - mean.square()
        return Normal(mean, 0.5 * variance.log())


def log_evidence(
    log_likelihood: LogLikelihood,
    latent: int,
    n: int = 401,
    log_prior: LogPrior | None = None,
    reach: float = 8.0,
    chunk: int = 20_000,
) -> Evidence:
    """The exact log p(x) of each example: the integral of likelihood times prior.

    Args:
        log_likelihood: log p(x | z) of all examples at given points.
        latent: the number of latent dimensions, 1 or 2.
        n: points per dimension; odd, so that every second one spans the same range. The spacing
            must be well under the narrowest posterior's deviation: `error` shows if it is not.
        log_prior: log p(z), N(0, I) if it is not given.
        reach: the grid's end in each direction. N(0, 1) has mass 1e-15 outside 8.
        chunk: points evaluated at once. It bounds the memory: a dozen times `chunk` x batch float64
            numbers, and what `log_likelihood` takes for so many points (see `log_likelihood_of`).

    Raises:
        ValueError: for a latent size other than 1 or 2, an even n or one under 5.
    """
    fine = coarse = edge = torch.tensor(-math.inf, dtype=torch.float64)
    spacing = 2 * reach / (n - 1)
    _, points, log_cell, every_second, outermost = _grid(latent, n, reach)
    for part in _parts(len(points), chunk):
        z = points[part]
        joint = log_likelihood(z).to(z) + _prior(log_prior, z)[:, None]
        joint = joint + log_cell[part, None]
        # With twice the spacing a cell is 2 ** latent times larger; the ends' halving is the same.
        doubled = joint + latent * math.log(2) + every_second[part, None]
        fine = torch.logaddexp(fine, joint.logsumexp(0))
        coarse = torch.logaddexp(coarse, doubled.logsumexp(0))
        edge = torch.logaddexp(edge, (joint + outermost[part, None]).logsumexp(0))
    # A tail of scale s cut at the edge holds about s / spacing outermost cells; s is at most reach.
    beyond = (edge - fine).exp() * reach / spacing
    return Evidence(fine, (fine - coarse).abs() + beyond)


def posterior_grid(
    log_likelihood: LogLikelihood,
    latent: int,
    n: int = 401,
    log_prior: LogPrior | None = None,
    reach: float = 8.0,
    chunk: int = 20_000,
) -> PosteriorGrid:
    """The density p(z | x) of each example on a grid; it integrates to one by the trapezoid rule.

    Args and errors as in `log_evidence`. The result holds n ** latent x batch numbers.
    """
    axis, points, log_cell, _, _ = _grid(latent, n, reach)
    joint = torch.cat(
        [
            log_likelihood(points[part]).to(points) + _prior(log_prior, points[part])[:, None]
            for part in _parts(len(points), chunk)
        ]
    )
    evidence = (joint + log_cell[:, None]).logsumexp(0)
    return PosteriorGrid(axis, points, (joint - evidence).exp(), log_cell.exp())


def log_likelihood_of(model: LatentModel, x: Float[Tensor, " batch *shape"]) -> LogLikelihood:
    """A model's log p(x | z) as a function of points that all examples share, each decoded once.

    Its memory is that of decoding all points of a call at once and of its point x batch result. A
    head other than Bernoulli's needs every pair's d numbers side by side: it is asked for so few
    points at a time that point x batch x d is at most 2^20 (or for one), of which the discretised
    logistic keeps about ten arrays: 42 MB in single precision.
    """

    @torch.no_grad()
    def function(z: Tensor) -> Tensor:
        outputs = model.decode(z.to(x))
        if isinstance(model.head, Bernoulli):
            # All pairs by one matrix product; the rest does not depend on x.
            model.head.check(x)
            pixels = x.reshape(len(x), -1)
            return outputs @ pixels.T - F.softplus(outputs, threshold=40).sum(1, keepdim=True)
        parts = outputs.split(max(1, _PAIRED // x.numel()))
        return torch.cat([model.head.log_prob(x, p[:, None].expand(-1, len(x), -1)) for p in parts])

    return function


def _grid(
    latent: int, n: int, reach: float
) -> tuple[
    Float64[Tensor, " n"],
    Float64[Tensor, "point latent"],
    Float64[Tensor, " point"],
    Float64[Tensor, " point"],
    Float64[Tensor, " point"],
]:
    """Axis, points, log cell sizes, and as log masks (0 or -inf) every second and outermost."""
    check_latent(latent)
    if n < 5 or n % 2 == 0:
        near = max(5, n + 1 - n % 2)
        raise ValueError(f"n={n} points per dimension: take an odd number, 5 or more, say {near}")
    index = torch.arange(n)
    axis = torch.linspace(-reach, reach, n, dtype=torch.float64)
    ends = (index == 0) | (index == n - 1)
    log_step = math.log(2 * reach / (n - 1)) - math.log(2) * ends.double()

    def spread(values: Tensor) -> Tensor:
        return torch.cartesian_prod(*[values] * latent).reshape(-1, latent)

    second = spread(index % 2 == 0).all(1).double().log()
    outermost = spread(ends).any(1).double().log()
    return axis, spread(axis), spread(log_step).sum(1), second, outermost


def _prior(log_prior: LogPrior | None, z: Float64[Tensor, "point latent"]) -> Tensor:
    if log_prior is not None:
        return log_prior(z).to(z)
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def _parts(n: int, chunk: int) -> Iterator[slice]:
    return (slice(start, start + chunk) for start in range(0, n, chunk))


def check_latent(latent: int) -> None:
    """Refuse a latent size that a grid cannot hold.

    Raises:
        ValueError: for a size other than 1 or 2.
    """
    if latent not in (1, 2):
        raise ValueError(
            f"latent={latent}: quadrature is for 1 or 2 latent dimensions; for more use "
            "latent.log_likelihood (importance sampling) or latent.annealing"
        )
