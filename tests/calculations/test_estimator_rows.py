"""Rows of an estimator say how far its draws lie from its exact moments."""

import math

import pytest
import torch

from udl_lab.calculations.estimator_rows import estimator_rows, ratio_rows
from udl_lab.closed_form.moments import Moments, Running
from udl_lab.randomness import generator

# eps² for eps ~ N(0, 1), chi-squared of one degree: mean 1, variance 2, fourth central moment
# 12 k (k + 4) = 60 with k = 1.
CHI2 = Moments(1.0, 2.0, 60.0)


def drawn(n, scale=1.0, seed=0):
    noise = torch.randn(n, generator=generator(seed, "rows"), dtype=torch.float64)
    return Running.of(scale * noise.square())


def by_metric(rows):
    return {row.metric: row for row in rows}


def test_rows_carry_the_sample_beside_the_truth_and_their_difference_in_standard_errors():
    values = torch.tensor([0.0, 0, 1, 3], dtype=torch.float64)
    rows = by_metric(estimator_rows("chi2", "here", Running.of(values), CHI2))
    assert rows["mean"].estimate == 1 and rows["mean_exact"].estimate == 1
    assert rows["variance"].estimate == 2 and rows["variance_exact"].estimate == 2
    off = by_metric(estimator_rows("chi2", "here", Running.of(values + 1), CHI2))
    assert off["z"].estimate == pytest.approx(1 / math.sqrt(2 / 4))
    assert off["mean"].high - off["mean"].estimate == pytest.approx(1.96 * math.sqrt(0.5), rel=1e-4)
    assert {(row.site, row.element, row.n) for row in rows.values()} == {("chi2", "here", 4)}


def test_intervals_of_mean_variance_and_ratio_cover_the_truth_at_their_rate():
    """95 % of 400 samples; four standard errors of that share are .044."""
    inside = {"mean": 0, "z": 0, "variance": 0, "variance_ratio": 0}
    wanted = {"mean": 1.0, "z": 0.0, "variance": 2.0, "variance_ratio": 9.0}
    tripled = Moments(3.0, 18.0, 60.0 * 81)
    for seed in range(400):
        one, other = drawn(2000, 3.0, seed), drawn(2000, 1.0, 10_000 + seed)
        rows = estimator_rows("", "", other, CHI2)
        rows += ratio_rows("", "", (one, tripled), (other, CHI2))
        for name, row in by_metric(rows).items():
            if name in inside:
                inside[name] += row.low <= wanted[name] <= row.high
    for name, count in inside.items():
        assert count / 400 == pytest.approx(0.95, abs=0.044), name


def test_a_ratio_is_of_the_first_over_the_second_and_so_is_its_truth():
    rows = by_metric(
        ratio_rows("a", "b", (drawn(1000, 2.0), Moments(2, 8, 960)), (drawn(1000), CHI2))
    )
    assert rows["variance_ratio"].estimate == pytest.approx(4)
    assert rows["variance_ratio_exact"].estimate == 4
    assert rows["variance_ratio"].low < 4 < rows["variance_ratio"].high
