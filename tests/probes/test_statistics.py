"""Intervals against textbook formulas written again, scipy's bootstrap, and their own coverage."""

import itertools
import math
import statistics as textbook
import tracemalloc
from types import SimpleNamespace

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
    ratio_of_sums,
    sign_flip_test,
)
from udl_lab.randomness import derive


def bounds(intervals):
    return np.array([[i.estimate, i.low, i.high] for i in intervals])


def sum_ratio(d, c, axis=-1):
    return d.sum(axis) / c.sum(axis)


def skewed(n, *elements, seed=0):
    """Positive, skewed integers, so that sums are exact and tests can ask for equal bits."""
    return np.ceil(np.random.default_rng(seed).lognormal(3, 1, size=(n, *elements)))


def gathered_bootstrap(d, c, n_boot, seed):
    """The resamples of `ratio_of_sums`, by indexing instead of by weights, in one block."""
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    drawn = rng.integers(len(d), size=(n_boot, len(d)))
    return d[drawn].sum(axis=1) / c[drawn].sum(axis=1)


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


def test_float32_distances_are_summed_in_float64():
    # As above; as a denominator the same four lose their ones too.
    values, ones = np.array([2**24, 1, 1, 2], dtype=np.float32), np.ones(4, dtype=np.float32)
    [ratio], [inverse] = ratio_of_sums(values[:, None], ones), ratio_of_sums(ones[:, None], values)
    assert ratio.estimate == (2**24 + 4) / 4
    assert inverse.estimate == 4 / (2**24 + 4)


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


@pytest.mark.parametrize("n, method", [(12, "BCa"), (99, "BCa"), (100, "percentile")])
def test_bounds_are_scipys_on_the_same_resamples(n, method):
    for d, c in (
        (skewed(n, seed=n), skewed(n, seed=n + 1)),
        (np.arange(n) % 3.0, np.ones(n)),  # 14 % of the resamples of 12 clusters tie with it
    ):
        check_bounds_against_scipy(d, c, method)


def check_bounds_against_scipy(d, c, method):
    resamples = gathered_bootstrap(d, c, 500, seed=5)
    oracle = scipy.stats.bootstrap(
        (d, c),
        sum_ratio,
        paired=True,
        vectorized=True,
        method=method,
        confidence_level=0.9,
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=resamples),
    ).confidence_interval
    [found] = ratio_of_sums(d[:, None], c, n_boot=500, seed=5, level=0.9)
    assert found.estimate == d.sum() / c.sum()
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-9)


def test_bca_bounds_are_scipys_within_monte_carlo_error():
    n_boot = 100_000
    d, c = skewed(15, seed=2), skewed(15, seed=3)
    oracle = scipy.stats.bootstrap(
        (d, c),
        sum_ratio,
        paired=True,
        vectorized=True,
        method="BCa",
        n_resamples=n_boot,
        rng=np.random.default_rng(8),
    )
    [found] = ratio_of_sums(d[:, None], c, n_boot=n_boot, seed=9)
    # In units of the bootstrap's sd, one bound has a Monte Carlo sd of about
    # sqrt(.025 * .975 / B) / density(1.96) = 2.7 / sqrt(B) from the quantile and
    # 2 * sqrt(.25) / density(0) = 2.5 / sqrt(B) from the bias, so 3.7 / sqrt(B); two runs:
    # 5.2 / sqrt(B). 4 of these, and a factor 2 because the
    # upper tail here is thinner than normal. (The percentile bound is 8 tolerances away.)
    tolerance = 2 * 4 * 5.2 / math.sqrt(n_boot) * float(oracle.standard_error)
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=tolerance)


def coverage(intervals, truth):
    intervals = bounds(intervals)
    return np.mean((intervals[:, 1] <= truth) & (truth <= intervals[:, 2]))


def simulated_distances(n_images, n_angles, n_data_sets, seed):
    """Distances d (image angle dataset) and controls c (image dataset); true ratio exp(.01)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(n_images, 1, n_data_sets))
    own = rng.normal(size=(n_images, n_data_sets))
    angle = rng.normal(size=(n_images, n_angles, n_data_sets))
    # d: of the log's variance .25 + .02, all but .02 is shared by the angles of an image.
    # c: correlated with d through the image (weights .6 and .8, squares add up to 1).
    d = np.exp(0.5 * image + math.sqrt(0.02) * angle)
    c = np.exp(0.5 * (0.6 * image[:, 0] + 0.8 * own))
    return d, c


# A data set is an element: 1000 intervals from one call. The binomial sd of the coverage is 0.7 %;
# 92 % allows for 1.5 % of true shortfall (skewed data, finite n) and 2 sd, 97 % is +3 sd.
@pytest.mark.parametrize("n_images", [60, 120])
def test_the_interval_clustered_by_image_covers_at_its_level(n_images):
    d, c = simulated_distances(n_images, 8, 1000, seed=10)
    covered = coverage(ratio_of_sums(d.mean(axis=1), c, n_boot=1000), truth=math.exp(0.01))
    assert 0.92 < covered < 0.97


def test_the_interval_over_image_times_angle_covers_far_too_rarely():
    # All but 1/13 of the variance is shared by 8 angles, so the standard error comes out nearly
    # sqrt(8) too small: P(|z| < 1.96 / sqrt(8)) = 51 %.
    d, c = simulated_distances(60, 8, 1000, seed=10)
    naive = ratio_of_sums(d.reshape(480, 1000), c.repeat(8, axis=0), n_boot=400)
    assert coverage(naive, truth=math.exp(0.01)) < 0.75


@pytest.mark.parametrize("n", [20, 150])
def test_scaling_either_sum_scales_the_interval(n):
    d, c = skewed(n, 3, seed=11), skewed(n, 3, seed=12)
    plain = bounds(ratio_of_sums(d, c))
    # Powers of two, so that no rounding can move a resample past the estimate.
    assert np.array_equal(bounds(ratio_of_sums(4 * d, c)), 4 * plain)
    assert np.array_equal(bounds(ratio_of_sums(d, 4 * c)), plain / 4)


def test_the_order_of_the_clusters_does_not_matter_to_the_estimate():
    d, c = skewed(50, 2, seed=13), skewed(50, seed=14)
    order = np.random.default_rng(15).permutation(50)
    straight, shuffled = bounds(ratio_of_sums(d, c)), bounds(ratio_of_sums(d[order], c[order]))
    assert np.array_equal(straight[:, 0], shuffled[:, 0])
    # The bounds move by Monte Carlo error alone: 8.3 / sqrt(2000) sd, see the test against scipy;
    # an interval is about 4 sd wide.
    assert np.abs(straight - shuffled).max() < 0.2 * (straight[:, 2] - straight[:, 1]).max()


@pytest.mark.parametrize("n", [20, 150])
def test_every_element_meets_the_same_resamples(n):
    d, c = skewed(n, seed=16), skewed(n, seed=17)
    together = bounds(ratio_of_sums(np.stack([d, 2 * d, d], axis=1), c))
    [alone] = bounds(ratio_of_sums(d[:, None], c))
    assert np.array_equal(together, [alone, 2 * alone, alone])


def test_blocks_of_resamples_and_of_elements_do_not_change_the_result():
    # 3000 clusters: resamples in 3 blocks of at most 349 rows, elements in 2 of at most 349.
    d, c = skewed(3000, 400, seed=18), skewed(3000, seed=19)
    found = bounds(ratio_of_sums(d, c, n_boot=1000, seed=20))
    for element in (0, 399):
        resamples = gathered_bootstrap(d[:, element], c, 1000, seed=20)
        expected = [d[:, element].sum() / c.sum(), *np.quantile(resamples, [0.025, 0.975])]
        assert found[element] == pytest.approx(expected, rel=1e-12)


def test_the_bootstrap_stays_under_64_megabytes():
    d, c = np.ones((20_000, 3)), np.ones(20_000)
    tracemalloc.start()
    ratio_of_sums(d, c, n_boot=500)  # all weights at once would take 80 MB, and indices as much
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6


def test_the_seed_decides_the_bounds_and_not_the_estimate():
    d, c = skewed(150, 1, seed=21), skewed(150, seed=22)
    [first], [again], [other] = (ratio_of_sums(d, c, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.estimate == other.estimate and first.low != other.low


@pytest.mark.parametrize("n", [10, 150])
def test_equal_ratios_give_an_interval_without_width(n):
    c = skewed(n, seed=23)
    found = bounds(ratio_of_sums(np.stack([0 * c, c, 2 * c], axis=1), c))
    assert np.array_equal(found, [[0, 0, 0], [1, 1, 1], [2, 2, 2]])


def test_equal_ratios_up_to_rounding_give_an_interval_as_narrow_as_rounding():
    # All 40 resamples of some element then lie on one side of the estimate: its bias correction must stay finite.
    c = skewed(10, seed=10)
    ratio = np.arange(1, 60) / 10
    found = bounds(ratio_of_sums(c[:, None] * ratio, c, n_boot=40))
    # Two sums of 10 terms and a division: at most about 22 roundings of 1.1e-16.
    assert np.abs(found / ratio[:, None] - 1).max() < 25 * 1.2e-16


def test_one_denominator_for_all_elements_is_that_denominator_repeated():
    d, c = skewed(30, 4, seed=24), skewed(30, seed=25)
    assert ratio_of_sums(d, c) == ratio_of_sums(d, np.stack([c] * 4, axis=1))


def test_a_single_cluster_has_an_estimate_and_no_bounds():
    [found] = ratio_of_sums(np.array([[3.0]]), np.array([2.0]))
    assert found.estimate == 1.5
    assert math.isnan(found.low) and math.isnan(found.high)


def test_an_element_carried_by_too_few_clusters_has_no_bounds():
    d, c = skewed(20, 2, seed=26), skewed(20, 2, seed=27)
    c[1:, 1] = 0  # 36 % of the resamples miss the one cluster that is left
    rare, alone = ratio_of_sums(d, c)[1], ratio_of_sums(d[:, :1], c[:, :1])[0]
    assert rare.estimate == d[:, 1].sum() / c[0, 1]
    assert math.isnan(rare.low) and math.isnan(rare.high)
    assert ratio_of_sums(d, c)[0] == alone


def test_no_elements_give_no_intervals():
    assert ratio_of_sums(np.ones((5, 0)), np.ones(5)) == []


def test_a_denominator_that_sums_to_zero_is_refused_with_a_remedy():
    c = np.ones((5, 3))
    c[:, 1] = 0
    with pytest.raises(ValueError, match=r"1 of 3 .*\[1\].*sums to 0.*leave these degenerate"):
        ratio_of_sums(np.ones((5, 3)), c)


def test_a_negative_denominator_is_refused():
    with pytest.raises(ValueError, match="negative denominator"):
        ratio_of_sums(np.ones((3, 1)), np.array([1.0, -0.5, 1.0]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(bad):
    ones, spoilt = np.ones((3, 2)), np.ones((3, 2))
    spoilt[0, 1] = bad
    for d, c in ((ones, spoilt), (spoilt, ones)):
        with pytest.raises(ValueError, match=r"1 of 2 .*\[1\].*not finite"):
            ratio_of_sums(d, c)


def test_a_bootstrap_needs_clusters_and_enough_resamples():
    with pytest.raises(ValueError, match="no clusters"):
        ratio_of_sums(np.ones((0, 1)), np.ones(0))
    with pytest.raises(ValueError, match="n_boot >= 40"):
        ratio_of_sums(np.ones((3, 1)), np.ones(3), n_boot=39)
    ratio_of_sums(np.ones((3, 1)), np.ones(3), n_boot=40)


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
