"""Does a model repeat its training set? Two measures from nearest neighbours.

Distances are Euclidean over all coordinates. Both need the training set that the model saw, in the
same scale as the samples; memory is that of `nearest`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor

from udl_lab.sample_quality.nearest import nearest

COPY_BELOW = 1 / 3  # Yoon et al. 2023


@dataclass(frozen=True, slots=True)
class ShareCloser:
    """The share of samples nearer to the training set than to held-out data, with its interval.

    `n_effective` is the number of independent samples that would be as uncertain.
    """

    estimate: float
    low: float
    high: float
    n_effective: float


def nearest_ratio(
    samples: Float[Tensor, "sample dim"], train: Float[Tensor, "example dim"]
) -> Float64[Tensor, " sample"]:
    """Distance to the nearest training example over that to the second nearest, in [0, 1].

    Yoon, Choi, Kwon & Ryu 2023. No unit. An exact copy has ratio 0. A near copy of an example that
    the training set holds twice has a ratio near 1: remove duplicates first. Real data have small
    ratios too, rarely: compare with the ratios of held-out examples.

    Raises:
        ValueError: with fewer than two examples, no sample, a value not finite, or different
            dimensions.
    """
    first, second = nearest(samples, train, k=2).distance.T
    return torch.where(first == 0, 0, first / second)


def share_copied(ratios: Float64[Tensor, " sample"], below: float = COPY_BELOW) -> float:
    """The share of samples whose `nearest_ratio` is under a threshold; 1/3 in Yoon et al. 2023.

    Raises:
        ValueError: without ratios.
    """
    if len(ratios) == 0:
        raise ValueError("there are no ratios; give those of at least one sample")
    return float((ratios < below).double().mean())


def share_closer_to_train(
    samples: Float[Tensor, "sample dim"],
    train: Float[Tensor, "example dim"],
    held_out: Float[Tensor, "held_out_example dim"],
    level: float = 0.95,
) -> ShareCloser:
    """The share of samples nearer to `train` than to `held_out` data; 1/2 when generalising.

    A sample equally far from both counts half. Where the model ignores which examples were
    trained on, the labels "train" and "held out" are a random half each of all 2 N examples. With
    c_j of the n samples nearest to example j, the share then has the variance of that drawing
    without replacement, sum_j (c_j - n / 2N)^2 / (4 n^2) * 2N / (2N - 1): samples that share their
    nearest example share its label. `n_effective` independent samples would have this variance,
    and at most n are counted. The interval is Wilson's (1927) for that number, and covers the
    draw of the two sets as well as that of the samples.

    Raises:
        ValueError: if the two sets differ in size (the larger would be nearer by that alone), or
            as `nearest`.
    """
    if len(train) != len(held_out):
        raise ValueError(
            f"{len(train)} training and {len(held_out)} held-out examples: the larger set is "
            f"nearer by its size; give {min(len(train), len(held_out))} of each, drawn at random"
        )
    to_train, to_held_out = nearest(samples, train, 1), nearest(samples, held_out, 1)
    gap = (to_held_out.distance - to_train.distance).squeeze(1)
    closer = torch.where(gap == 0, 0.5, (gap > 0).double())
    owner = torch.where(
        gap >= 0, to_train.index.squeeze(1), to_held_out.index.squeeze(1) + len(train)
    )
    n, n_examples = len(samples), 2 * len(train)
    falls = torch.bincount(owner, minlength=n_examples).double()
    inflation = float(falls.var() * n_examples) / n  # 1 where nearest examples are drawn alike
    n_effective = n / max(1.0, inflation)
    share = float(closer.mean())
    low, high = _wilson(share, n_effective, level)
    return ShareCloser(share, low, high, n_effective)


def _wilson(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's bounds of a probability, for a number of trials that need not be whole."""
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not a probability; write 0.95 for 95 %")
    z = float(stats.norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At a share of 0 or 1 one bound is that share itself, up to rounding.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
