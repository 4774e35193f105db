"""Sums within and between orbits are those of a loop over images."""

import numpy as np
import pytest
import torch

from udl_lab.activations.variance import OrbitVariance
from udl_lab.randomness import generator


def acts_of(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "acts"))


def reduced(acts, n_blocks):
    reducer = OrbitVariance(n_blocks, acts.shape[1] // 2)
    reducer.update(acts, torch.arange(acts.shape[1]))
    return reducer.result()


def test_the_sums_of_a_block_are_those_of_a_loop_over_its_images():
    acts = acts_of(4, 14, 2, 3)  # 7 pairs in 3 blocks: 0 0 0 1 1 2 2
    found = reduced(acts, 3)
    np.testing.assert_array_equal(found.counts, [6, 4, 4])
    assert found.unit_shape == (2, 3)
    f = acts.flatten(2).numpy()
    for block, images in enumerate((range(6), range(6, 10), range(10, 14))):
        means = [f[:, i].mean(axis=0) for i in images]
        within = [f[:, i].var(axis=0) for i in images]
        np.testing.assert_allclose(found.mean_sum[block], sum(means), rtol=1e-12)
        np.testing.assert_allclose(found.square_sum[block], sum(m**2 for m in means), rtol=1e-12)
        np.testing.assert_allclose(found.within_sum[block], sum(within), rtol=1e-12)


def test_within_and_between_make_up_the_total_variance():
    """The law of total variance, unit by unit."""
    acts = acts_of(5, 40, 3)
    found = reduced(acts, 4)
    n = found.counts.sum()
    mean, square, within = (
        part.sum(axis=0) / n for part in (found.mean_sum, found.square_sum, found.within_sum)
    )
    total = acts.flatten(0, 1).numpy().var(axis=0)
    np.testing.assert_allclose(square - mean**2 + within, total, rtol=1e-12)


@pytest.mark.parametrize("n_elements", [2, 3, 7])
def test_an_invariant_layer_has_no_variance_within_at_all(n_elements):
    upright = acts_of(1, 6, 5)
    found = reduced(upright.expand(n_elements, -1, -1), 2)
    assert not found.within_sum.any()
    np.testing.assert_allclose(found.mean_sum.sum(axis=0), upright.sum(dim=(0, 1)), rtol=1e-12)


def test_a_small_variance_on_a_large_mean_keeps_its_digits():
    acts = acts_of(4, 6, 5)
    shifted = acts + 1e8  # each value is rounded to 1e-8 of a unit; E[f^2] - E[f]^2 would lose all
    expected, found = reduced(acts, 1).within_sum, reduced(shifted, 1).within_sum
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_blocks_must_be_of_pairs_in_the_sample():
    with pytest.raises(ValueError, match="choose n_blocks from 1 to 3"):
        OrbitVariance(4, 3)
    with pytest.raises(ValueError, match="pair 3 is beyond the sample of n_pairs=3"):
        OrbitVariance(3, 3).update(acts_of(2, 2, 1), torch.tensor([6, 7]))


def test_a_block_without_images_has_count_and_sums_zero():
    reducer = OrbitVariance(3, 3)
    reducer.update(acts_of(2, 2, 4), torch.tensor([2, 3]))
    found = reducer.result()
    np.testing.assert_array_equal(found.counts, [0, 2, 0])
    assert not found.square_sum[[0, 2]].any()
    assert found.square_sum[1].all()
