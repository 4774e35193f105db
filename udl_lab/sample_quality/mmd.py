"""Maximum mean discrepancy: do two sets of points come from one law?

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), with x, x' from one law and y, y' from the other
(Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012, lemma 6). The kernel is Gaussian,
exp(-|x - y|^2 / (2 bandwidth^2)), so MMD^2 has no unit. The estimates here are unbiased: they
scatter about 0, negative half of the time, when the laws are equal.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.sample_quality.points import pair, squared_distances


@dataclass(frozen=True, slots=True)
class TwoSampleTest:
    """An MMD^2, the bandwidth it was taken with (unit of the data) and its permutation p-value."""

    mmd_squared: float
    p_value: float
    bandwidth: float


def unbiased(
    within_a: Float64[Tensor, "a a"],
    within_b: Float64[Tensor, "b b"],
    between: Float64[Tensor, "a b"],
) -> float:
    """MMD^2 from the kernel's values (Gretton et al. 2012, lemma 6).

    Means over pairs of different points: the diagonals are left out.
    """
    return float(_different(within_a) + _different(within_b) - 2 * between.mean())


def median_distance(a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]) -> float:
    """Median distance between different points of both sets together, in the unit of the data.

    The usual bandwidth (Gretton et al. 2012). It sees the coarsest scale only: modes
    much closer than it are smeared into one. Give a smaller bandwidth to look for those.

    Raises:
        ValueError: as `mmd_squared`.
    """
    points = torch.cat(_centred(a, b))
    return _median(squared_distances(points, points))


def mmd_squared(
    a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"], bandwidth: float | None = None
) -> float:
    """Unbiased MMD^2 with a Gaussian kernel, its bandwidth `median_distance` unless given.

    Needs (a + b)^2 numbers in float64, twice for the median.

    Raises:
        ValueError: with fewer than two points, a point not finite, different dimensions, a
            bandwidth not above 0, or if most points coincide.
    """
    gram, _ = _gram(a, b, bandwidth)
    n = len(a)
    return unbiased(gram[:n, :n], gram[n:, n:], gram[:n, n:])


def two_sample_test(
    a: Float[Tensor, "a dim"],
    b: Float[Tensor, "b dim"],
    generator: torch.Generator,
    n_permutations: int = 199,
    bandwidth: float | None = None,
) -> TwoSampleTest:
    """MMD^2 with the p-value of "both sets come from one law", by permuting the labels.

    p = (1 + number of permutations with an MMD^2 at least as large) / (1 + n_permutations), so it
    is never below 1 / (1 + n_permutations) and never too small (Phipson & Smyth 2010). The median
    bandwidth is that of the pooled points, which no permutation changes.

    Raises:
        ValueError: as `mmd_squared`, or without permutations.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; give at least 1, better 199")
    gram, width = _gram(a, b, bandwidth)
    gram.fill_diagonal_(0)
    n, m = len(a), len(b)
    labels = torch.zeros(n + m, 1 + n_permutations, dtype=torch.float64)
    labels[:n, 0] = 1  # the first column is the observed assignment
    for column in range(1, 1 + n_permutations):
        labels[torch.randperm(n + m, generator=generator)[:n], column] = 1
    labels = labels.to(gram.device)
    # With s the labels as a column, the sum within a is s.Ks and the sum over a's rows is s.K1.
    within_a = (labels * (gram @ labels)).sum(0)
    rows = gram.sum(1)
    between = rows @ labels - within_a
    within_b = rows.sum() - within_a - 2 * between
    found = within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m)
    # Ties in exact arithmetic (repeated points, or the same split again) differ by rounding.
    as_extreme = int((found[1:] >= found[0] - 1e-12).sum())
    return TwoSampleTest(float(found[0]), (1 + as_extreme) / (1 + n_permutations), width)


def energy_distance(a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|, unbiased, in the unit of the data (not its root).

    Székely & Rizzo 2013, here over pairs of different points. It is MMD^2 with the kernel
    -|x - y| (Sejdinovic, Sriperumbudur, Gretton & Fukumizu 2013), and needs no bandwidth.

    Raises:
        ValueError: with fewer than two points, a point not finite, or different dimensions.
    """
    a, b = _centred(a, b)
    kernels = (-squared_distances(*two).sqrt() for two in ((a, a), (b, b), (a, b)))
    return unbiased(*kernels)


def _different(within: Float64[Tensor, "a a"]) -> Float64[Tensor, ""]:
    n = len(within)
    return (within.sum() - within.trace()) / (n * (n - 1))


def _centred(a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]) -> tuple[Tensor, Tensor]:
    """Both sets about their common mean, which no distance sees and rounding does."""
    a, b = pair(a, b, at_least=2)
    centre = torch.cat([a, b]).mean(0)
    return a - centre, b - centre


def _median(squared: Float64[Tensor, "point point"]) -> float:
    above = torch.ones_like(squared, dtype=torch.bool).triu_(diagonal=1)
    median = float(squared[above].median().sqrt())
    if median == 0:
        raise ValueError("more than half of the pairs of points coincide; give a bandwidth")
    return median


def _gram(
    a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"], bandwidth: float | None
) -> tuple[Float64[Tensor, "point point"], float]:
    """The kernel between all points of both sets, and its bandwidth."""
    points = torch.cat(_centred(a, b))
    squared = squared_distances(points, points)
    width = _median(squared) if bandwidth is None else bandwidth
    if not width > 0:
        raise ValueError(f"bandwidth {width} is not above 0; give a distance, or None")
    return squared.div_(-2 * width**2).exp_(), width
