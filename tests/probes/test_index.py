"""The index against its definition, where it is known, and the coverage of its interval."""

import numpy as np
import pytest
import torch

from udl_lab.activations.variance import OrbitVariance
from udl_lab.probes.index import invariance_index


def gathered(acts, n_blocks=8):
    """The reducer's result for activations [element, image, unit]."""
    n = acts.shape[1]
    reducer = OrbitVariance(n_blocks, n // 2)
    reducer.update(torch.as_tensor(acts), torch.arange(n))
    return reducer.result()


def test_it_is_the_share_of_variance_between_orbit_means_by_its_definition():
    acts = np.random.default_rng(0).normal(size=(4, 40, 3))
    acts += np.random.default_rng(1).normal(size=(1, 40, 3))
    means = acts.mean(axis=0)
    between = ((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()
    total = ((acts - acts.mean(axis=(0, 1))) ** 2).sum(axis=2).mean()
    found = invariance_index(gathered(acts), 4, whole_group=True)
    assert found.index.estimate == pytest.approx(between / total, rel=1e-12)
    assert found.index.low < found.index.estimate < found.index.high
    assert found.n == 40
    assert found.degenerate == 0


def test_an_invariant_layer_has_index_one_exactly_and_no_width():
    acts = np.random.default_rng(0).integers(-8, 9, size=(1, 20, 5)).astype(float)
    found = invariance_index(gathered(np.repeat(acts, 4, axis=0)), 4, whole_group=True)
    assert (found.index.estimate, found.index.low, found.index.high) == (1, 1, 1)


def test_constant_units_are_counted_and_in_neither_sum():
    acts = np.random.default_rng(0).normal(size=(4, 20, 4))
    alone = invariance_index(gathered(acts[:, :, :3]), 4, whole_group=True)
    acts[:, :, 3] = 7.1
    found = invariance_index(gathered(acts), 4, whole_group=True)
    assert found.degenerate == 0.25
    assert found.index.estimate == pytest.approx(alone.index.estimate, rel=1e-12)
    assert np.isnan(found.by_channel(4)[3])
    constant = invariance_index(gathered(np.ones((4, 20, 2))), 4, whole_group=True)
    assert np.isnan(constant.index.estimate)


@pytest.mark.parametrize("whole_group", [True, False])
def test_the_index_of_a_layer_is_that_of_its_channels_weighted_by_their_variance(whole_group):
    acts = np.random.default_rng(0).normal(size=(4, 20, 6)) * np.arange(1, 7)
    found = invariance_index(gathered(acts), 4, whole_group)
    total = ((acts - acts.mean(axis=(0, 1))) ** 2).mean(axis=(0, 1)).reshape(3, 2).sum(axis=1)
    by_channel = found.by_channel(3)
    assert np.sum(by_channel * total) / total.sum() == pytest.approx(
        found.index.estimate, rel=1e-12
    )


def test_a_sample_of_the_orbit_estimates_the_index_of_the_whole_orbit_without_bias():
    """Three random points of each infinite orbit; the plain index would read .6, not .4."""
    rng = np.random.default_rng(0)
    n, between, within = 20_000, 0.4, 0.6
    acts = rng.normal(0, between**0.5, (1, n, 1)) + rng.normal(0, within**0.5, (3, n, 1))
    sampled = invariance_index(gathered(acts), 3, whole_group=False)
    plain = invariance_index(gathered(acts), 3, whole_group=True)
    # The standard error of an intraclass correlation of 20,000 triples is about .005.
    assert sampled.index.estimate == pytest.approx(0.4, abs=0.02)
    assert plain.index.estimate == pytest.approx(0.6, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("whole_group", "truth"), [(True, 0.625), (False, 0.5)])
def test_its_95_percent_interval_covers_between_92_and_97_percent(whole_group, truth):
    """Orbits of four points, 200 images, 3 correlated units of unequal variance, 1,500 repeats.

    A nominal coverage of 95 % has a standard error of .6 % over 1,500 repeats.
    """
    rng = np.random.default_rng(2)
    scale = np.array([1.0, 2.0, 0.5])
    # Between: variance b of the orbit's own level; within: w = b. The mean of four points has
    # variance b + w/4, and the plain index is that over b + w: 1.25 / 2.
    covered = 0
    for _ in range(1500):
        level = rng.normal(size=(1, 200, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1.0]])
        level /= np.sqrt([1.0, 1.25, 1.25])
        acts = scale * (level + rng.normal(size=(4, 200, 3)))
        found = invariance_index(gathered(acts, 32), 4, whole_group).index
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 1500 <= 0.97
