"""MMD and energy distance against double loops and closed forms, and the test's own error rate."""

import math

import pytest
import torch
from scipy import stats
from sklearn.metrics.pairwise import rbf_kernel

from udl_lab.randomness import generator
from udl_lab.sample_quality.mmd import (
    energy_distance,
    median_distance,
    mmd_squared,
    two_sample_test,
)


def normal(n, dim, *name):
    return torch.randn(n, dim, dtype=torch.float64, generator=generator(0, *name))


def mean_over_pairs(a, b, kernel, different):
    values = [
        kernel(float((x - y).norm()))
        for i, x in enumerate(a)
        for j, y in enumerate(b)
        if not different or i != j
    ]
    return sum(values) / len(values)


def by_loops(a, b, kernel):
    return (
        mean_over_pairs(a, a, kernel, True)
        + mean_over_pairs(b, b, kernel, True)
        - 2 * mean_over_pairs(a, b, kernel, False)
    )


def test_mmd_is_a_double_loop_over_different_points():
    a, b = normal(6, 3, "a"), normal(9, 3, "b") + 1
    direct = by_loops(a, b, lambda d: math.exp(-(d**2) / (2 * 1.3**2)))
    assert mmd_squared(a, b, bandwidth=1.3) == pytest.approx(direct, abs=1e-14)


def test_mmd_is_that_of_sklearns_kernel():
    a, b = normal(30, 4, "a"), normal(20, 4, "b")
    k = rbf_kernel(torch.cat([a, b]).numpy(), gamma=1 / (2 * 0.8**2))
    aa, bb = (block.sum() - len(block) for block in (k[:30, :30], k[30:, 30:]))
    expected = aa / (30 * 29) + bb / (20 * 19) - 2 * k[:30, 30:].mean()
    assert mmd_squared(a, b, bandwidth=0.8) == pytest.approx(float(expected), abs=1e-13)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_mmd_of_gaussians_has_the_closed_form_as_its_mean(shift):
    # In one dimension with bandwidth h: E k(x, y) = h / sqrt(h^2 + 2) exp(-d^2 / (2 (h^2 + 2))) for
    # unit variances and means d apart.
    h, repeats, n = 0.9, 400, 10
    peak = h / math.sqrt(h**2 + 2)
    exact = 2 * peak * (1 - math.exp(-(shift**2) / (2 * (h**2 + 2))))
    found = torch.tensor(
        [mmd_squared(normal(n, 1, "a", i), normal(n, 1, "b", i) + shift, h) for i in range(repeats)]
    )
    # Four standard errors; the V-statistic with its diagonal would be off by 2 (1 - peak) / n = .1.
    error = 4 * float(found.std()) / math.sqrt(repeats)
    assert error < 0.05
    assert abs(float(found.mean()) - exact) < error


def test_the_bandwidth_is_the_median_over_different_pairs():
    a = torch.tensor([[0.0], [1.0]])
    b = torch.tensor([[3.0], [7.0]])
    # Distances 1, 3, 7, 2, 6, 4: of an even number the lower of the two in the middle.
    assert median_distance(a, b) == pytest.approx(3, abs=1e-12)


def test_the_given_median_is_the_default():
    a, b = normal(12, 2, "a"), normal(8, 2, "b")
    assert mmd_squared(a, b) == mmd_squared(a, b, median_distance(a, b))


def test_mmd_does_not_see_where_the_origin_is_nor_the_unit():
    a, b = normal(12, 2, "a"), normal(8, 2, "b") + 1
    moved = mmd_squared(1e3 * a + 1e6, 1e3 * b + 1e6)
    # Coordinates near 1e6 are rounded by 1e-10, of distances of 1e3.
    assert moved == pytest.approx(mmd_squared(a, b), abs=1e-11)


def test_permutations_by_a_product_are_permutations_one_by_one():
    a, b = normal(7, 2, "a"), normal(5, 2, "b") + 0.7
    points, width = torch.cat([a, b]), median_distance(a, b)
    found = two_sample_test(a, b, generator(4, "permute"), n_permutations=60)
    again = generator(4, "permute")
    observed = mmd_squared(a, b, width)
    count = 0
    for _ in range(60):
        order = torch.randperm(12, generator=again)
        count += mmd_squared(points[order[:7]], points[order[7:]], width) >= observed - 1e-12
    assert found.mmd_squared == pytest.approx(observed, abs=1e-14)
    assert found.bandwidth == width
    assert found.p_value == (1 + count) / 61
    assert 1 < count < 60  # neither end, or the count would prove little


def test_p_values_are_uniform_where_the_laws_are_equal():
    n_runs = 400
    p = [
        two_sample_test(
            normal(12, 2, "a", i), normal(15, 2, "b", i), generator(i, "labels"), 49
        ).p_value
        for i in range(n_runs)
    ]
    # Uniform on 1/50 ... 1: minus a uniform number of that step it is uniform on [0, 1].
    smear = torch.rand(n_runs, generator=generator(0, "smear")).numpy() / 50
    assert stats.kstest(p - smear, stats.uniform.cdf).pvalue > 1e-3


def test_a_shift_gives_the_smallest_p_value():
    found = two_sample_test(normal(40, 2, "a"), normal(40, 2, "b") + 1.5, generator(0, "p"), 99)
    assert found.p_value == 1 / 100
    assert found.mmd_squared > 0


def test_equal_points_on_both_sides_give_a_p_value_of_one():
    # Every split of equal points has the same MMD, so all count, whatever rounding says.
    points = torch.zeros(6, 2)
    found = two_sample_test(points, points, generator(0, "p"), 19, bandwidth=1.0)
    assert found.p_value == 1


def test_two_thousand_points_against_two_thousand_are_tested_in_one_product():
    a, b = normal(2000, 2, "a"), normal(2000, 2, "b")
    found = two_sample_test(a, b, generator(0, "p"), n_permutations=19, bandwidth=1.0)
    assert 1 / 20 <= found.p_value <= 1


def test_energy_distance_is_a_double_loop():
    a, b = normal(6, 3, "a"), normal(9, 3, "b") + 1
    assert energy_distance(a, b) == pytest.approx(by_loops(a, b, lambda d: -d), abs=1e-13)


def test_energy_distance_on_the_line_is_scipys_without_the_diagonal():
    a, b = normal(40, 1, "a"), normal(30, 1, "b") + 1
    # scipy: root of the V-statistic, in which pairs of a point with itself count with distance 0.
    v = float(stats.energy_distance(a[:, 0].numpy(), b[:, 0].numpy())) ** 2
    within = [float((x - x.mT).abs().mean()) for x in (a, b)]
    expected = v + within[0] - within[0] * 40 / 39 + within[1] - within[1] * 30 / 29
    assert energy_distance(a, b) == pytest.approx(expected, abs=1e-13)


def test_energy_distance_has_the_unit_of_the_data():
    a, b = normal(6, 3, "a"), normal(9, 3, "b") + 1
    assert energy_distance(10 * a, 10 * b) == pytest.approx(10 * energy_distance(a, b), rel=1e-10)


def test_what_has_no_bandwidth_or_no_permutation_is_refused():
    same, g = torch.ones(5, 2), generator(0, "p")
    with pytest.raises(ValueError, match="coincide; give a bandwidth"):
        mmd_squared(same, same)
    with pytest.raises(ValueError, match=r"bandwidth 0\.0 is not above 0"):
        mmd_squared(same, same, bandwidth=0.0)
    with pytest.raises(ValueError, match="n_permutations is 0"):
        two_sample_test(same, same, g, n_permutations=0)
    with pytest.raises(ValueError, match="b has 1 points; give at least 2"):
        energy_distance(same, same[:1])
