"""Does a model draw each class as often as it should? Counts of a classifier's predictions."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int, Int64
from scipy import stats
from torch import Tensor

SMALLEST_EXPECTED = 5  # expected count from which chi-square is trusted (Cochran 1954)


@dataclass(frozen=True, slots=True)
class ClassHistogram:
    """Counts per class beside what was expected.

    Attributes:
        counts: samples predicted in each class.
        chi_square: Pearson's sum of (count - expected)^2 / expected over classes.
        p_value: of chi_square if the samples were independent draws of the expected shares.
        total_variation: half the sum over classes of |share - expected share|, in [0, 1].
        total_variation_by_chance: its exact mean for as many independent draws of the shares.
    """

    counts: Int64[Tensor, " label"]
    chi_square: float
    p_value: float
    total_variation: float
    total_variation_by_chance: float


def class_histogram(
    predicted: Int[Tensor, " sample"], expected: Float[Tensor, " label"]
) -> ClassHistogram:
    """Predicted classes 0 to C - 1 against their expected shares, taken as known.

    The expected shares should come from the same classifier on real data, so that its errors
    cancel. p is from chi-square with C - 1 degrees of freedom (Pearson 1900), an approximation.

    Raises:
        ValueError: if the shares are not positive or do not sum to 1, a class has no share, or
            a class has an expected count below 5.
    """
    shares = _shares(expected)
    predicted = predicted.cpu().long()
    n = len(predicted)
    least = float(shares.min())
    if n * least < SMALLEST_EXPECTED:
        raise ValueError(
            f"{n} samples expect {n * least:.3g} of the rarest class, too few for chi-square; give "
            f"at least {int(-(-SMALLEST_EXPECTED // least))} samples"
        )
    outside = predicted[(predicted < 0) | (predicted >= len(shares))]
    if len(outside) > 0:
        raise ValueError(
            f"predicted holds the class {int(outside[0])}, and there are shares for 0 to "
            f"{len(shares) - 1}; give a share for each class"
        )
    counts = torch.bincount(predicted, minlength=len(shares))
    difference = counts - n * shares
    chi_square = float((difference.square() / (n * shares)).sum())
    return ClassHistogram(
        counts,
        chi_square,
        float(stats.chi2.sf(chi_square, len(shares) - 1)),
        float(difference.abs().sum() / (2 * n)),
        _by_chance(shares, n),
    )


def _by_chance(shares: Float64[Tensor, " label"], n: int) -> float:
    """Mean total variation of n draws, from the mean absolute deviation of a binomial count.

    De Moivre's: E|K - n p| = 2 v (1 - p) P(K = v) with v = floor(n p) + 1.
    """
    p = shares.numpy()
    v = (n * shares).floor().numpy() + 1
    return float((2 * v * (1 - p) * stats.binom.pmf(v, n, p)).sum() / (2 * n))


def _shares(expected: Float[Tensor, " label"]) -> Float64[Tensor, " label"]:
    shares = expected.cpu().double()
    total = float(shares.sum())
    # Shares in float32 sum to 1 within 1e-6; what is further off was not meant as shares.
    if len(shares) < 2 or not bool((shares > 0).all()) or not abs(total - 1) < 1e-5:
        raise ValueError(
            f"expected shares {shares.tolist()} sum to {total}; give at least two, all above 0, "
            "with sum 1 (leave out a class that never occurs)"
        )
    return shares / total
