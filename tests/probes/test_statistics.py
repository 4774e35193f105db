"""Intervals and tests against textbook formulas written again, and their own coverage."""

import itertools
import math
import statistics as textbook

import jaxtyping
import numpy as np
import pytest
import scipy.stats

from udl_lab.probes.statistics import (
    Interval,
    holm,
    mean,
    over_seeds,
    paired_difference,
    paired_ratio,
    proportion,
    sign_flip_test,
)


def bounds(intervals):
    return np.array([[i.estimate, i.low, i.high] for i in intervals])


@pytest.mark.parametrize("successes, trials", [(0, 10), (1, 10), (37, 50), (10, 10)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_proportion_is_wilsons_formula(successes, trials, level):
    z = textbook.NormalDist().inv_cdf((1 + level) / 2)
    p = successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    found = proportion(successes, trials, level)
    assert found.estimate == p
    # z comes from two implementations of the normal quantile, good to about 1e-15 each.
    assert found.low == pytest.approx(centre - half, abs=1e-12)
    assert found.high == pytest.approx(centre + half, abs=1e-12)


@pytest.mark.parametrize("successes, trials", [(0, 0), (3, 2), (-1, 5)])
def test_a_proportion_needs_trials_and_no_more_successes_than_trials(successes, trials):
    with pytest.raises(ValueError, match=f"{successes} successes in {trials} trials"):
        proportion(successes, trials)


def test_mean_is_students_interval_by_hand():
    # 1 ... 5: mean 3, standard deviation sqrt(5/2); 2.7764451052 is t(0.975) for 4 degrees of
    # freedom, from a printed table (ten digits, hence the tolerance).
    found = mean(np.array([1.0, 2, 3, 4, 5]))
    half = 2.7764451052 * math.sqrt(5 / 2) / math.sqrt(5)
    assert found.estimate == 3
    assert found.low == pytest.approx(3 - half, abs=1e-9)
    assert found.high == pytest.approx(3 + half, abs=1e-9)


def test_mean_is_the_set_of_centres_that_the_t_test_accepts():
    values = np.random.default_rng(0).gamma(2, size=9)
    found = mean(values, 0.9)
    for bound in (found.low, found.high):
        _, p_value = scipy.stats.ttest_1samp(values, bound)
        assert p_value == pytest.approx(0.1, abs=1e-9)


def test_mean_covers_at_its_level_for_gaussian_values():
    values = np.random.default_rng(1).normal(2, 3, size=(2000, 4))
    intervals = bounds(mean(row) for row in values)
    covered = np.mean((intervals[:, 1] <= 2) & (2 <= intervals[:, 2]))
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)  # 3 sd of the binomial


def test_one_value_has_an_estimate_and_no_bounds():
    for found in (mean(np.array([2.5])), over_seeds(np.array([2.5]))):
        assert found.estimate == 2.5
        assert math.isnan(found.low) and math.isnan(found.high)


def test_equal_values_give_an_interval_without_width():
    assert mean(np.full(7, 0.25)) == Interval(0.25, 0.25, 0.25)


def test_float32_values_are_summed_in_float64():
    # 2**24 + 1 is not a float32: a float32 sum of these four loses the ones.
    values = np.array([2**24, 1, 1, 2], dtype=np.float32)
    assert mean(values).estimate == (2**24 + 4) / 4


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [1.0, math.inf]])
def test_a_mean_needs_finite_values(bad):
    with pytest.raises(ValueError, match=r"no values|at position 1"):
        mean(np.array(bad, dtype=np.float64))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level):
    with pytest.raises(ValueError, match=r"write 0\.95"):
        mean(np.array([1.0, 2.0]), level)
    with pytest.raises(ValueError, match=r"write 0\.95"):
        proportion(1, 2, level)


def test_over_seeds_is_the_t_interval():
    values = np.array([0.91, 0.93, 0.90, 0.95, 0.92])
    expected = scipy.stats.t.interval(0.9, 4, loc=values.mean(), scale=scipy.stats.sem(values))
    found = over_seeds(values, 0.9)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


def test_paired_difference_does_not_see_what_the_seed_does_to_both_arms():
    seed_effect = np.array([0.0, 1024, -512, 4096])
    gain = np.array([1.0, 2, 3, 2])
    assert paired_difference(seed_effect + gain, seed_effect) == mean(gain)


def test_paired_difference_changes_sign_with_the_arms():
    a, b = np.random.default_rng(2).normal(size=(2, 6))
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert (forth.estimate, forth.low, forth.high) == (-back.estimate, -back.high, -back.low)


def test_paired_ratio_is_the_t_interval_of_the_logarithm():
    a, b = np.random.default_rng(3).lognormal(size=(2, 5))
    logs = [math.log(x / y) for x, y in zip(a, b, strict=True)]
    half = 2.7764451052 * textbook.stdev(logs) / math.sqrt(5)
    expected = [math.exp(textbook.mean(logs) + h) for h in (0, -half, half)]
    assert bounds([paired_ratio(a, b)])[0] == pytest.approx(expected, rel=1e-9)


def test_paired_ratio_inverts_with_the_arms():
    a, b = np.random.default_rng(4).lognormal(size=(2, 5))
    forth, back = paired_ratio(a, b), paired_ratio(b, a)
    assert forth.low == pytest.approx(1 / back.high, rel=1e-12)
    assert forth.estimate == pytest.approx(1 / back.estimate, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_ratio_of_arms_needs_positive_values(value):
    good, bad = np.array([1.0, 2.0]), np.array([1.0, value])
    with pytest.raises(ValueError, match=rf"a has the value {value}.*paired_difference"):
        paired_ratio(bad, good)
    with pytest.raises(ValueError, match=rf"b has the value {value}.*paired_difference"):
        paired_ratio(good, bad)


@pytest.mark.parametrize("paired", [paired_difference, paired_ratio])
def test_arms_with_different_seeds_are_not_paired(paired):
    # In a test the annotation refuses it. Without type checks a - b would broadcast one seed.
    with pytest.raises(jaxtyping.TypeCheckError):
        paired(np.ones(5), np.ones(1))
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match="same shape"):
            paired(np.ones(5), np.ones(1))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_the_sign_flip_test_lists_all_patterns(n):
    # Small integers: sums are exact and ties between patterns are common.
    differences = np.random.default_rng(n).integers(-3, 6, size=n).astype(np.float64)
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=n)
    ]
    expected = np.mean([s >= abs(sum(differences)) for s in sums])
    assert sign_flip_test(differences) == expected


def test_differences_of_one_sign_have_the_smallest_p_value():
    # Only the observed pattern and its mirror image reach the observed sum. Tenths are not binary
    # fractions: rounding must not lose either.
    assert sign_flip_test(np.full(14, 0.1)) == 2 / 2**14
    assert sign_flip_test(-0.1 * np.arange(1, 11)) == 2 / 2**10


def test_the_sampled_sign_flip_test_agrees_with_the_list():
    # Zeros change neither sum nor p, but push the number of differences past the exact limit.
    few = np.random.default_rng(28).normal(0.5, 1, size=10)
    exact = sign_flip_test(few)
    sampled = sign_flip_test(np.concatenate([few, np.zeros(10)]), n_flips=20_000)
    assert 0.02 < exact < 0.5
    assert abs(sampled - exact) < 4 * math.sqrt(exact * (1 - exact) / 20_000)  # 4 binomial sd


def test_the_sampled_p_value_counts_the_observed_pattern():
    # 2**-99 is the share of patterns as extreme as this one: no sampled one is.
    assert sign_flip_test(np.full(100, 0.1), n_flips=999) == 1 / 1000


def test_the_sampled_sign_flip_test_draws_all_its_flips_in_several_blocks():
    # 400 000 differences: 2 patterns to a block. The first dominates, so about every |sum| ties.
    differences = np.concatenate([[1.0], np.zeros(400_000)])
    assert sign_flip_test(differences, n_flips=7) == 1


def test_no_difference_at_all_has_p_value_one():
    assert sign_flip_test(np.zeros(5)) == 1
    assert sign_flip_test(np.zeros(50), n_flips=100) == 1


def test_the_sign_flip_test_rejects_a_true_null_at_its_level():
    differences = np.random.default_rng(29).laplace(size=(1000, 8))
    p = np.array([sign_flip_test(row) for row in differences])
    # Exact test: P(p <= k / 128) = k / 128 for continuous symmetric data; k = 6. 3 binomial sd.
    assert abs(np.mean(p <= 6 / 128) - 6 / 128) < 3 * math.sqrt(6 / 128 * 122 / 128 / 1000)


def test_the_sign_flip_test_refuses_the_logarithm_of_zero():
    with pytest.raises(ValueError, match="-inf at position 2"):
        sign_flip_test(np.array([0.1, 0.2, -math.inf]))


def test_holm_is_the_hand_example():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; the last is raised to .06.
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-15)


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(30)
    for _ in range(50):
        p_values = rng.beta(0.3, 3, size=6)
        rejected = np.zeros(6, dtype=bool)
        for rank, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (6 - rank):
                break
            rejected[index] = True
        assert np.array_equal(holm(p_values) <= 0.05, rejected)


def test_holm_leaves_one_test_alone_and_stops_at_one():
    assert holm(np.array([0.2])) == 0.2
    assert np.array_equal(holm(np.array([0.6, 0.7])), [1, 1])
    assert holm(np.array([])).shape == (0,)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_takes_only_probabilities(bad):
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        holm(np.array([0.5, bad]))
