"""The delete-a-group jackknife against the t interval, and its coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from udl_lab.probes.jackknife import leave_one_block_out


def test_of_a_mean_of_single_units_it_is_students_interval():
    """The jackknife of a mean has the standard error s/sqrt(n) exactly (Efron & Tibshirani §11)."""
    x = np.random.default_rng(0).normal(3, 1, 20)  # above 1, so no logit
    found = leave_one_block_out(lambda chosen: float(x[chosen].mean()), 20)
    low, high = stats.t.interval(0.95, 19, loc=x.mean(), scale=stats.sem(x))
    assert found.estimate == x.mean()
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_one_block_gives_no_bounds_and_no_number_gives_none():
    alone = leave_one_block_out(lambda chosen: 0.5, 1)
    assert alone.estimate == 0.5
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(leave_one_block_out(lambda chosen: np.nan, 8).estimate)


def test_an_estimate_that_never_changes_has_an_interval_without_width():
    for value in (0.3, 1.0, 0.0):
        found = leave_one_block_out(lambda chosen, value=value: value, 8)
        assert (found.estimate, found.low, found.high) == pytest.approx((value,) * 3, abs=1e-15)


def test_a_share_keeps_its_interval_between_0_and_1():
    x = np.random.default_rng(1).random(12) < 0.9
    found = leave_one_block_out(lambda chosen: float(np.mean([*x[chosen], 0.5])), 12)
    assert 0 < found.low < found.estimate < found.high < 1
