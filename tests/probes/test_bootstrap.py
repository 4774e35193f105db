"""The bootstrap of a ratio of sums against scipy's, on the same resamples, and its coverage."""

import math
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from udl_lab.probes.bootstrap import ratio_of_sums
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


def test_float32_distances_are_summed_in_float64():
    # 2**24 + 1 is not a float32: a float32 sum of these four loses the ones.
    values, ones = np.array([2**24, 1, 1, 2], dtype=np.float32), np.ones(4, dtype=np.float32)
    [ratio], [inverse] = ratio_of_sums(values[:, None], ones), ratio_of_sums(ones[:, None], values)
    assert ratio.estimate == (2**24 + 4) / 4
    assert inverse.estimate == 4 / (2**24 + 4)


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
    # All 40 resamples of some element then lie on one side of its estimate: the bias correction
    # must stay finite.
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
