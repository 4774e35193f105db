"""Distances equal those of naive loops, and of a search over all permutations."""

import itertools
import math

import numpy as np
import pytest
import torch

from udl_lab.activations.distances import KnownAction, PairedDistance, SortedDistance, distance
from udl_lab.randomness import generator


def acts_of(*shape, stream="acts"):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, stream))


def reduced(reducer, acts):
    reducer.update(acts, torch.arange(acts.shape[1]))
    return reducer.result()


def apart(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True)))


def test_paired_distances_are_those_of_a_loop():
    acts = acts_of(4, 6, 2, 3)
    f = acts.numpy()
    found = reduced(PairedDistance(), acts)
    np.testing.assert_array_equal(found.ids, np.arange(6))
    for i, g in itertools.product(range(6), range(1, 4)):
        assert found.moved[i, g - 1] == pytest.approx(apart(f[g, i], f[0, i]), rel=1e-14)
    for p in range(3):
        expected = apart(f[0, 2 * p], f[0, 2 * p + 1])
        assert found.other[p] == pytest.approx(expected, rel=1e-14)


def test_rows_are_in_the_order_of_the_sample():
    acts = acts_of(2, 6, 3)
    reducer = PairedDistance()
    for ids in ([4, 5], [0, 1], [2, 3]):
        reducer.update(acts[:, ids], torch.tensor(ids))
    expected = reduced(PairedDistance(), acts)
    np.testing.assert_array_equal(reducer.result().ids, np.arange(6))
    np.testing.assert_allclose(reducer.result().moved, expected.moved, rtol=1e-14)
    np.testing.assert_allclose(reducer.result().other, expected.other, rtol=1e-14)


def test_float32_distances_are_accumulated_in_float64_but_for_short_runs():
    a, b = torch.ones(1, 2**20), torch.zeros(1, 2**20)
    a[0, 0] = 2.0**12
    assert distance(a, b).dtype == torch.float64
    # At worst the other 255 of the first run of 256 are lost in float32; the rest is exact.
    whole, lost = 2**24 + 2**20 - 1, 255
    assert math.sqrt(whole - lost) <= distance(a, b).item() <= math.sqrt(whole)
    a[0, 0] = 1.0
    assert distance(a, b).item() == 2.0**10  # a float32 sum of 2^20 ones in one run could drift


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_distances_do_not_depend_on_the_layout_in_memory(memory_format):
    a, b = (torch.from_numpy(np.random.default_rng(s).normal(size=(4, 3, 5, 7))) for s in (0, 1))
    here = distance(a.to(memory_format=memory_format), b.to(memory_format=memory_format))
    by_hand = ((a - b) ** 2).sum((1, 2, 3)).sqrt()
    torch.testing.assert_close(here, by_hand, rtol=1e-14, atol=0)
    mixed = distance(a, b.to(memory_format=torch.channels_last))
    torch.testing.assert_close(mixed, by_hand, rtol=1e-14, atol=0)


def test_the_sorted_distance_is_the_least_over_all_permutations():
    """Probes notes, oracle 17: all 8! permutations."""
    acts = acts_of(2, 2, 8)
    f = acts.numpy()
    found = reduced(SortedDistance(), acts)
    orders = np.array(list(itertools.permutations(range(8))))

    def least(a, b):
        return np.sqrt(((a[orders] - b) ** 2).sum(axis=1).min())

    np.testing.assert_allclose(found.moved[:, 0], [least(f[1, i], f[0, i]) for i in (0, 1)])
    np.testing.assert_allclose(found.other, [least(f[0, 0], f[0, 1])])
    np.testing.assert_allclose(found.other_moved[:, 0], [least(f[1, 0], f[0, 1])])
    np.testing.assert_allclose(found.norm[:, 0], np.linalg.norm(f[0], axis=1))


def test_units_of_a_map_are_sorted_all_together():
    acts = acts_of(3, 4, 2, 3, 3)
    flat = reduced(SortedDistance(), acts.flatten(2))
    np.testing.assert_array_equal(reduced(SortedDistance(), acts).moved, flat.moved)
    assert flat.norm.shape == flat.moved.shape == (4, 2)


def test_a_roll_that_depends_on_the_image_passes_the_sorted_test_and_fails_the_known_action():
    """Probes notes, oracle 18."""
    upright = acts_of(1, 20, 16)
    rolled = torch.stack([x.roll(int(10 * x[0].abs())) for x in upright[0]])
    acts = torch.cat([upright, rolled[None]])
    assert reduced(SortedDistance(), acts).moved.max() == 0
    known = reduced(KnownAction(lambda layer, e: layer), acts)
    assert (known.error.sum() / known.norm.sum()) > 1


def turn(layer, e):
    return torch.rot90(layer, e + 1, (-2, -1))


def test_the_known_action_has_no_error_where_it_holds_and_that_of_a_loop_where_not():
    upright = acts_of(6, 2, 4, 4)
    exact = torch.stack([upright, *(turn(upright, e) for e in range(3))])
    found = reduced(KnownAction(turn), exact)
    assert not found.error.any()
    assert found.control.min() > 1  # another image does not look like it
    noisy = exact + acts_of(*exact.shape, stream="noise")
    found = reduced(KnownAction(turn), noisy)
    for i, e in itertools.product(range(6), range(3)):
        moved, layer = noisy[e + 1].numpy(), turn(noisy[0], e).numpy()
        assert found.error[i, e] == pytest.approx(apart(moved[i], layer[i]), rel=1e-14)
        assert found.norm[i, e] == pytest.approx(apart(layer[i], 0 * layer[i]), rel=1e-14)
        if i % 2 == 0:
            expected = apart(moved[i], layer[i + 1])
            assert found.control[i // 2, e] == pytest.approx(expected, rel=1e-14)


def test_only_the_interior_is_compared():
    upright = acts_of(2, 3, 5, 5)
    moved = turn(upright, 0)
    moved[..., 0] += 1
    acts = torch.stack([upright, moved])
    assert reduced(KnownAction(turn), acts).error.min() > 1
    inside = reduced(KnownAction(turn, interior=(slice(1, -1), slice(1, -1))), acts)
    assert not inside.error.any()
    columns = reduced(KnownAction(turn, interior=slice(1, None)), acts)
    assert not columns.error.any()
    crop = turn(upright, 0)[..., 1:-1, 1:-1].numpy()
    expected = [apart(x, 0 * x) for x in crop]
    np.testing.assert_allclose(inside.norm[:, 0], expected, rtol=1e-14)


def test_an_unknown_action_is_nan_and_not_zero():
    found = reduced(KnownAction(lambda layer, e: layer if e else None), acts_of(3, 4, 2))
    for column in (found.error, found.norm, found.control):
        assert np.isnan(column[:, 0]).all()
        assert np.isfinite(column[:, 1]).all()


def test_an_action_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 1\) of \(4, 2\) for copy 0"):
        reduced(KnownAction(lambda layer, e: layer[:, :1]), acts_of(2, 4, 2))
