"""Kernel distance between features: unbiased MMD^2 with a cubic polynomial kernel.

The kernel is (x.y / dim + 1)^3 (Bińkowski, Sutherland, Arbel & Gretton 2018, section 4). It sees
the first three moments of the features and nothing else. It is a polynomial of the features, so a
number is comparable only with others in the same features and scale; unlike the Fréchet distance
its mean does not depend on the number of samples.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.sample_quality.points import ROWS, blocks, pair


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """An MMD^2 (it may be negative) and its standard error, in the kernel's unit."""

    mmd_squared: float
    standard_error: float


def kernel_distance(
    a: Float[Tensor, "a_sample dim"], b: Float[Tensor, "b_sample dim"]
) -> KernelDistance:
    """Unbiased MMD^2 over all pairs of different samples, with a jackknife standard error.

    The error comes from leaving out each sample of either set once: with d_i the MMD^2 without
    sample i, each set adds (n - 1)/n sum_i (d_i - mean d)^2 to the variance. On average this is
    never too small (Efron & Stein 1981); where the laws are equal, so that the first-order term
    vanishes, it is about sqrt(2) times too large. Samples are the independent units. Works in
    blocks of 1024 rows: 10,000 against 10,000 samples need 80 MiB.

    Raises:
        ValueError: with fewer than three samples, a feature not finite, or different dimensions.
    """
    a, b = pair(a, b, at_least=3)
    n, m = len(a), len(b)
    within_a, _ = _kernel_sums(a, a)
    within_b, _ = _kernel_sums(b, b)
    within_a, within_b = within_a - _own_kernel(a), within_b - _own_kernel(b)
    from_a, from_b = _kernel_sums(a, b)
    between = from_a.sum() / (n * m)
    mean_a = within_a.sum() / (n * (n - 1))
    mean_b = within_b.sum() / (m * (m - 1))
    without_a = _mean_without(within_a) + mean_b - 2 * (from_a.sum() - from_a) / ((n - 1) * m)
    without_b = mean_a + _mean_without(within_b) - 2 * (from_b.sum() - from_b) / (n * (m - 1))
    variance = (n - 1) * without_a.var(correction=0) + (m - 1) * without_b.var(correction=0)
    return KernelDistance(float(mean_a + mean_b - 2 * between), float(variance.sqrt()))


def _mean_without(sums: Float64[Tensor, " sample"]) -> Float64[Tensor, " sample"]:
    """The mean over pairs once a sample is left out: its row and its column go."""
    n = len(sums)
    return (sums.sum() - 2 * sums) / ((n - 1) * (n - 2))


def _own_kernel(a: Float64[Tensor, "sample dim"]) -> Float64[Tensor, " sample"]:
    return (a.square().mean(1) + 1) ** 3


def _kernel_sums(
    a: Float64[Tensor, "a_sample dim"], b: Float64[Tensor, "b_sample dim"]
) -> tuple[Float64[Tensor, " a_sample"], Float64[Tensor, " b_sample"]]:
    """Sums of the kernel over each row and over each column."""
    rows = []
    columns = torch.zeros(len(b), dtype=torch.float64, device=b.device)
    for _, block in blocks(a, ROWS):
        kernel = torch.mm(block, b.mT).div_(a.shape[1]).add_(1).pow_(3)
        rows.append(kernel.sum(1))
        columns += kernel.sum(0)
    return torch.cat(rows), columns
