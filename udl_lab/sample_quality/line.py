"""Distances on the line, between samples and an exact law or between two samples.

The Wasserstein-1 distance is the area between two distribution functions, which is also the mean
distance between equal quantiles (Vallender 1974). Unit: that of the data.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor

# A continuous law: P(X <= x) for each x, in float64; torch or scipy (`scipy.stats.norm.cdf`).
Cdf = Callable[[Tensor], Tensor | np.ndarray]

TOLERANCE = 1e-11  # of the area, per unit of length integrated over
_TAIL = 1e-14  # probability beyond which a tail is left: 1 - F is rounded to about 1e-16
_FURTHEST = 200  # doublings: 2**200 is further than any law with a mean needs
_FINEST = 50  # bisections: as many as float64 can tell apart
# Lobatto's rule with six points, exact for degree nine. It has points at both ends, so a monotone
# integrand can hide nothing between the end and the first point.
_INNER = [np.sqrt(1 / 3 - 2 * np.sqrt(7) / 21), np.sqrt(1 / 3 + 2 * np.sqrt(7) / 21)]
_NODES = torch.tensor([-1, -_INNER[1], -_INNER[0], _INNER[0], _INNER[1], 1], dtype=torch.float64)
_WEIGHTS = torch.tensor(
    [
        1 / 15,
        (14 - 7**0.5) / 30,
        (14 + 7**0.5) / 30,
        (14 + 7**0.5) / 30,
        (14 - 7**0.5) / 30,
        1 / 15,
    ],
    dtype=torch.float64,
)


def midpoints(n: int) -> Float64[Tensor, " quantile"]:
    """The probabilities (i + 1/2) / n at which n equally likely quantiles stand."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def wasserstein_to_law(samples: Float[Tensor, " sample"], cdf: Cdf) -> float:
    """W1 between samples and a law: the integral of |F_n - F| over the line.

    Between neighbouring samples F_n is a constant that F crosses at most once; the two sides of
    that crossing are integrated by an adaptive rule, the tails outward until they hold nothing.
    The error is about 1e-11 per unit of length, and what lies beyond tail probabilities of 1e-14.
    Needs some 100 numbers per sample.

    For n samples of the law itself the distance is not 0 but about
    sqrt(2 / (pi n)) times the integral of sqrt(F (1 - F)).

    Raises:
        ValueError: without samples, with one not finite, if `cdf` is no distribution function in
            float64, or if the law has no mean.
    """
    order = _sorted("samples", samples)
    n = len(order)
    scale = _scale(cdf, order)
    low, high = order[:-1], order[1:]
    level = torch.arange(1, n, dtype=torch.float64) / n
    crossing = _crossing(cdf, low, high, level)

    def gap(x: Float64[Tensor, "piece node"], level: Float64[Tensor, " piece"]) -> Tensor:
        return (_at(cdf, x) - level[:, None]).abs()

    inner = _integral(gap, torch.cat([low, crossing]), torch.cat([crossing, high]), level.repeat(2))
    below = _tail(lambda x, _: _at(cdf, order[0] - x), scale)
    above = _tail(lambda x, _: 1 - _at(cdf, order[-1] + x), scale)
    return inner + below + above


def wasserstein_of_quantiles(
    q1: Float[Tensor, " quantile"], q2: Float[Tensor, " quantile"]
) -> float:
    """W1 from the quantiles of two laws at the same probabilities `midpoints(n)`: mean |q1 - q2|.

    For deterministic samplers that keep the order: push the quantiles of the start through. What
    lies beyond the outermost midpoints is left out, which costs about 1/n of the tails.

    Raises:
        ValueError: when there are no quantiles, their numbers differ, or they do not increase.
    """
    if q1.shape != q2.shape:
        raise ValueError(
            f"{len(q1)} and {len(q2)} quantiles do not pair; use the same midpoints(n) for both"
        )
    for name, quantiles in (("q1", q1), ("q2", q2)):
        ordered = _sorted(name, quantiles)
        slack = 1e-12 * (ordered[-1] - ordered[0])  # a flat stretch, rounded
        falls = torch.nonzero(quantiles.double().diff() < -slack)
        if len(falls) > 0:
            raise ValueError(
                f"{name} falls after position {int(falls[0])}, so these are no quantiles: the "
                "sampler swaps the order of points; use wasserstein_between, which sorts"
            )
    return float((q1.double() - q2.double()).abs().mean())


def wasserstein_between(a: Float[Tensor, " a_sample"], b: Float[Tensor, " b_sample"]) -> float:
    """W1 between two sets of samples, of equal numbers or not; exact.

    Raises:
        ValueError: without samples, or with one not finite.
    """
    x, y = (_sorted(name, s).numpy() for name, s in (("a", a), ("b", b)))
    return float(stats.wasserstein_distance(x, y))


def ks_distance(samples: Float[Tensor, " sample"], cdf: Cdf) -> float:
    """Kolmogorov's distance sup |F_n - F| to a continuous law; a probability, no unit.

    F_n jumps at each sample, so both sides of the jump are tried.

    Raises:
        ValueError: as `wasserstein_to_law`.
    """
    order = _sorted("samples", samples)
    n = len(order)
    below = torch.arange(n, dtype=torch.float64) / n
    law = _at(cdf, order)
    return float(torch.maximum(law - below, below + 1 / n - law).max())


def _sorted(name: str, samples: Float[Tensor, " sample"]) -> Float64[Tensor, " sample"]:
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(
            f"{name} has the shape {tuple(samples.shape)}; give a row of at least one number"
        )
    bad = torch.nonzero(~torch.isfinite(samples))
    if len(bad) > 0:
        raise ValueError(
            f"{name} holds {samples[bad[0]].item()} at position {int(bad[0])}; report samples that "
            "diverged, then leave them out"
        )
    return samples.detach().cpu().double().sort().values


def _at(cdf: Cdf, x: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    found = torch.as_tensor(cdf(x))
    if found.dtype != torch.float64 or found.shape != x.shape:
        raise ValueError(
            f"cdf gave {found.dtype} of shape {tuple(found.shape)} for float64 numbers of shape "
            f"{tuple(x.shape)}; give one float64 probability for each"
        )
    if not bool(((found >= -1e-12) & (found <= 1 + 1e-12)).all()):  # a sum of weights, rounded
        raise ValueError("cdf gave a number outside [0, 1]; give P(X <= x), not a density")
    return found


def _crossing(cdf: Cdf, low: Tensor, high: Tensor, level: Tensor) -> Float64[Tensor, " piece"]:
    """Where F passes `level` between low and high; one of the ends if it does not."""
    for _ in range(_FINEST):
        middle = (low + high) / 2
        under = _at(cdf, middle) < level
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    return (low + high) / 2


def _scale(cdf: Cdf, order: Float64[Tensor, " sample"]) -> float:
    """A length of the size of the samples' range and of the law's spread about them."""
    ends = torch.stack([order[0], order[-1]])
    reach = max(float(ends.diff()), 1e-9 * float(ends.abs().max()), 1e-9)
    for _ in range(_FURTHEST):
        if float(_at(cdf, ends + torch.tensor([-reach, reach])).diff()) >= 0.5:
            return reach
        reach *= 2
    raise ValueError("cdf does not rise from 0 to 1; give P(X <= x)")


def _tail(probability: Callable[[Tensor, Tensor], Tensor], scale: float) -> float:
    """The integral from 0 to infinity of a falling probability, over ever longer pieces."""
    start, end, area, rest = 0.0, scale, 0.0, 1.0
    unused = torch.zeros(1, dtype=torch.float64)
    for _ in range(_FURTHEST):
        piece = torch.tensor([start, end], dtype=torch.float64)
        area += _integral(probability, piece[:1], piece[1:], unused)
        rest = float(probability(piece[1:, None], unused))
        if rest <= _TAIL:
            if end * rest <= 1e-6 * scale:
                return area
            break
        start, end = end, 2 * end
    raise ValueError(
        f"cdf leaves the probability {rest:.3g} further than {end:.3g} from the samples, so the "
        "law's mean does not exist or is lost to rounding; use ks_distance, or mend cdf"
    )


def _integral(
    integrand: Callable[[Tensor, Tensor], Tensor],
    low: Float64[Tensor, " piece"],
    high: Float64[Tensor, " piece"],
    level: Float64[Tensor, " piece"],
) -> float:
    """Sum over pieces, each halved until its halves agree with the whole."""

    def rule(low: Tensor, high: Tensor, level: Tensor) -> Tensor:
        half = (high - low) / 2
        x = (low + half)[:, None] + half[:, None] * _NODES
        return half * (integrand(x, level) @ _WEIGHTS)

    area = 0.0
    for depth in range(_FINEST + 1):
        middle = (low + high) / 2
        halves = rule(low, middle, level) + rule(middle, high, level)
        wrong = (halves - rule(low, high, level)).abs() > TOLERANCE * (high - low)
        if depth == _FINEST:  # at a jump of F: a piece without length by now
            wrong = torch.zeros_like(wrong)
        area += float(halves[~wrong].sum())
        if not bool(wrong.any()):
            break
        low, middle, high = low[wrong], middle[wrong], high[wrong]
        level = level[wrong].repeat(2)
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
    return area
