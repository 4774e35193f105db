"""The kernel distance against loops and moments, and its standard error against its own spread."""

import math

import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel

from udl_lab.randomness import generator
from udl_lab.sample_quality.kernel_distance import kernel_distance


def normal(n, dim, *name):
    return torch.randn(n, dim, dtype=torch.float64, generator=generator(0, *name))


def of_sklearns_kernel(a, b):
    n, m = len(a), len(b)
    aa, bb, ab = (
        torch.from_numpy(polynomial_kernel(x, y, degree=3, gamma=1 / x.shape[1], coef0=1))
        for x, y in ((a, a), (b, b), (a, b))
    )
    within = (aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def test_distance_is_that_of_sklearns_kernel_over_different_samples():
    a, b = normal(20, 5, "a"), normal(30, 5, "b") + 0.5
    assert kernel_distance(a, b).mmd_squared == pytest.approx(of_sklearns_kernel(a, b), abs=1e-12)


def test_sets_larger_than_a_block_are_summed_whole():
    a, b = normal(1500, 3, "a"), normal(1100, 3, "b")
    assert kernel_distance(a, b).mmd_squared == pytest.approx(of_sklearns_kernel(a, b), abs=1e-11)


def test_the_standard_error_is_the_jackknife_by_leaving_out_each_sample():
    a, b = normal(7, 3, "a"), normal(5, 3, "b") + 1

    def without(points, i):
        return torch.cat([points[:i], points[i + 1 :]])

    leave_a = torch.tensor([of_sklearns_kernel(without(a, i), b) for i in range(7)]).double()
    leave_b = torch.tensor([of_sklearns_kernel(a, without(b, i)) for i in range(5)]).double()
    variance = sum(
        (len(d) - 1) / len(d) * float((d - d.mean()).square().sum()) for d in (leave_a, leave_b)
    )
    # sklearn's numbers pass through a float32 list in torch.tensor: 1e-7 of kernels of about 10.
    assert kernel_distance(a, b).standard_error == pytest.approx(math.sqrt(variance), rel=1e-5)


def test_on_the_line_the_kernel_compares_three_moments():
    # (x y + 1)^3 = 1 + 3 x y + 3 x^2 y^2 + x^3 y^3, so for laws with known moments MMD^2 is
    # 3 (d1)^2 + 3 (d2)^2 + (d3)^2. N(0, 1) against N(.5, 1): moments 0, 1, 0 and .5, 1.25, 1.625.
    exact = 3 * 0.5**2 + 3 * 0.25**2 + 1.625**2
    runs = [kernel_distance(normal(60, 1, "a", i), normal(50, 1, "b", i) + 0.5) for i in range(400)]
    found = torch.tensor([r.mmd_squared for r in runs])
    assert abs(float(found.mean()) - exact) < 3 * float(found.std()) / math.sqrt(400)


@pytest.mark.parametrize("shift, low, high", [(0.0, 1.4, 2.8), (3.0, 0.8, 1.3)])
def test_the_jackknife_variance_is_right_apart_and_twice_too_large_at_equality(shift, low, high):
    # Efron & Stein: the term of order k of the variance is counted k times. Bounds: the spread of
    # a variance over 500 runs of a skewed statistic is about 15 %.
    runs = [
        kernel_distance(normal(30, 3, "a", i), normal(40, 3, "b", i) + shift) for i in range(500)
    ]
    found = torch.tensor([r.mmd_squared for r in runs])
    claimed = torch.tensor([r.standard_error for r in runs]).square().mean()
    assert low < float(claimed / found.var()) < high


def test_equal_laws_are_at_zero_on_average():
    runs = [kernel_distance(normal(20, 4, "a", i), normal(20, 4, "b", i)) for i in range(300)]
    found = torch.tensor([r.mmd_squared for r in runs])
    assert abs(float(found.mean())) < 3 * float(found.std()) / math.sqrt(300)
    assert (found < 0).any()


def test_two_samples_are_too_few_for_the_jackknife():
    with pytest.raises(ValueError, match="b has 2 points; give at least 3"):
        kernel_distance(normal(5, 2, "a"), normal(2, 2, "b"))
