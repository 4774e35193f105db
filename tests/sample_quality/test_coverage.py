"""Precision, recall, density and coverage against loops and their exact means."""

import math

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.sample_quality.coverage import coverage, coverage_by_chance


def normal(n, dim, *name):
    return torch.randn(n, dim, dtype=torch.float64, generator=generator(0, *name))


def by_loops(real, samples, k):
    def reach(points):
        return [sorted(float((x - y).norm()) for y in points)[k] for x in points]

    inside_real = [
        [float((x - y).norm()) < r for x, r in zip(real, reach(real), strict=True)] for y in samples
    ]
    inside_sample = [
        [float((x - y).norm()) < r for y, r in zip(samples, reach(samples), strict=True)]
        for x in real
    ]
    return (
        sum(map(any, inside_real)) / len(samples),
        sum(map(any, inside_sample)) / len(real),
        sum(map(sum, inside_real)) / (k * len(samples)),
        sum(any(column) for column in zip(*inside_real, strict=True)) / len(real),
    )


@pytest.mark.parametrize("k", [1, 3])
def test_all_four_are_double_loops(k):
    real, samples = normal(15, 2, "real"), 0.7 * normal(11, 2, "samples") + 0.5
    found = coverage(real, samples, k)
    four = (found.precision, found.recall, found.density, found.coverage)
    assert four == pytest.approx(by_loops(real, samples, k), abs=1e-15)


def test_sets_larger_than_a_block_are_counted_whole():
    real, samples = normal(1500, 2, "real"), normal(1100, 2, "samples") + 1
    found = coverage(real, samples, 2)
    inside = torch.cdist(real, samples) < torch.cdist(real, real).sort(dim=1).values[:, 2:3]
    assert found.density == pytest.approx(float(inside.double().sum()) / (2 * 1100), abs=1e-12)
    assert found.coverage == pytest.approx(float(inside.any(1).double().mean()), abs=1e-12)


def test_equal_laws_have_density_one_and_the_coverage_of_chance_on_average():
    runs = [coverage(normal(25, 2, "r", i), normal(20, 2, "s", i), 3) for i in range(120)]
    for exact, values in (
        (1.0, torch.tensor([r.density for r in runs])),
        (runs[0].coverage_by_chance, torch.tensor([r.coverage for r in runs])),
    ):
        assert abs(float(values.mean()) - exact) < 3 * float(values.std()) / math.sqrt(120)


def test_coverage_by_chance_counts_orders_of_real_and_samples():
    # C(n - 1, k) of the C(n - 1 + m, k) sets of the nearest k hold real points only.
    for n, m, k in ((25, 20, 3), (100, 100, 5), (4, 1, 3)):
        exact = 1 - math.comb(n - 1, k) / math.comb(n - 1 + m, k)
        assert coverage_by_chance(n, m, k) == pytest.approx(exact, abs=1e-14)


def test_a_model_of_one_mode_of_two_covers_half_and_stays_dense():
    real = torch.cat([normal(100, 2, "left"), normal(100, 2, "right") + 100])
    found = coverage(real, normal(200, 2, "samples"), 5)
    assert found.coverage <= 0.5 < found.coverage_by_chance
    assert found.recall <= 0.5
    assert found.density > 0.5


def test_samples_elsewhere_score_zero():
    found = coverage(normal(20, 2, "real"), normal(20, 2, "samples") + 1e6)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_no_more_points_than_neighbours_are_refused():
    with pytest.raises(ValueError, match="a has 5 points; give at least 6"):
        coverage(normal(5, 2, "real"), normal(9, 2, "samples"), k=5)
