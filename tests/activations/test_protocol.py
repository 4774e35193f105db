"""Every reducer gives one result, in whatever batches, processes and order the images came."""

import dataclasses
import itertools
from copy import deepcopy

import numpy as np
import pytest
import torch

from udl_lab.activations.costs import ChannelCost
from udl_lab.activations.distances import KnownAction, PairedDistance, SortedDistance
from udl_lab.activations.moments import Moments
from udl_lab.activations.protocol import Reducer
from udl_lab.activations.reservoir import Reservoir
from udl_lab.activations.variance import OrbitVariance
from udl_lab.randomness import generator

N_PAIRS = 65


def turn(layer, e):
    return torch.rot90(layer, e + 1, (-2, -1)) if e < 2 else None  # unknown for the third


REDUCERS = {
    "paired": PairedDistance,
    "sorted": SortedDistance,
    "known": lambda: KnownAction(turn, interior=(slice(1, 3), slice(1, 3))),
    "variance": lambda: OrbitVariance(8, N_PAIRS),
    "cost": lambda: ChannelCost(turn, 8, N_PAIRS),
    "wide cost": lambda: ChannelCost(turn, 8, N_PAIRS, max_channels=2),
    "moments": Moments,
    "reservoir": lambda: Reservoir(41),
}
every_reducer = pytest.mark.parametrize("make", REDUCERS.values(), ids=REDUCERS)


def orbits(dtype=torch.float64):
    """Activations [element, image, channel, height, width] of an upright image and 3 copies."""
    return torch.randn(4, 2 * N_PAIRS, 3, 4, 4, generator=generator(0, "acts")).to(dtype)


def fed(reducer, acts, batches):
    """The reducer, after the pairs of each batch (lists of pair numbers)."""
    for pairs in batches:
        ids = torch.tensor([image for p in pairs for image in (2 * p, 2 * p + 1)])
        reducer.update(acts[:, ids], ids)
    return reducer


def arrays(result):
    return {} if result is None else dataclasses.asdict(result)


def in_batches(size):
    return [range(i, min(i + size, N_PAIRS)) for i in range(0, N_PAIRS, size)]


SHUFFLED = torch.randperm(N_PAIRS, generator=generator(0, "order")).tolist()
RAGGED = [SHUFFLED[:1], SHUFFLED[1:12], SHUFFLED[12:40], SHUFFLED[40:]]
SPLITS = {"1": in_batches(1), "7": in_batches(7), "64": in_batches(64), "ragged": RAGGED}


@every_reducer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_batches_of_any_size_give_the_result_of_one(make, split, dtype):
    acts = orbits(dtype)
    whole, parts = (arrays(fed(make(), acts, s).result()) for s in (in_batches(N_PAIRS), split))
    for name in whole:
        # Sums of at most 130 x 16 terms of order 1, in float64.
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12, atol=1e-12)


@every_reducer
def test_merging_in_any_order_gives_the_same_bit_for_bit(make):
    acts = orbits()
    parts = [fed(make(), acts, [pairs[::2], pairs[1::2]]) for pairs in RAGGED[1:]]
    parts.append(fed(make(), acts, RAGGED[:1]))

    def merged(order, nested):
        first, second, third, fourth = (deepcopy(parts[i]) for i in order)
        if nested:
            third.merge(fourth)
            second.merge(third)
            first.merge(second)
        else:
            for other in (second, third, fourth):
                first.merge(other)
        return arrays(first.result())

    reference = merged((0, 1, 2, 3), nested=False)
    for order in itertools.permutations(range(4)):
        found = merged(order, nested=order[0] % 2 == 0)
        for name in reference:
            np.testing.assert_array_equal(found[name], reference[name])
    whole = arrays(fed(make(), acts, [range(N_PAIRS)]).result())
    for name in whole:
        np.testing.assert_allclose(reference[name], whole[name], rtol=1e-12, atol=1e-12)


@every_reducer
def test_a_merged_reducer_takes_more_and_does_not_change_the_one_it_was_merged_with(make):
    acts = orbits()
    one, other = fed(make(), acts, [range(9)]), fed(make(), acts, [range(9, 20)])
    before = arrays(other.result())
    one.merge(other)
    fed(one, acts, [range(20, 25)])
    after, expected = (arrays(r.result()) for r in (one, fed(make(), acts, [range(25)])))
    for name in expected:
        np.testing.assert_allclose(after[name], expected[name], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(arrays(other.result())[name], before[name])
    fed(other, acts, [range(30, 33)])
    for name in expected:
        np.testing.assert_array_equal(arrays(one.result())[name], after[name])


@every_reducer
def test_an_image_that_comes_twice_is_refused_and_counts_nothing(make):
    acts = orbits()
    reducer = fed(make(), acts, [range(5)])
    before = arrays(reducer.result())
    with pytest.raises(ValueError, match="twice"):
        fed(reducer, acts, [[7, 4]])
    with pytest.raises(ValueError, match="twice"):
        fed(reducer, acts, [[7, 7]])
    with pytest.raises(ValueError, match="twice"):
        reducer.merge(fed(make(), acts, [[4, 9]]))
    with pytest.raises(ValueError, match="twice"):
        reducer.merge(reducer)
    for name, value in arrays(reducer.result()).items():
        np.testing.assert_array_equal(value, before[name])
    fed(reducer, acts, [[7]])  # was not counted by the refused batch


@every_reducer
def test_images_that_are_not_whole_pairs_are_refused(make):
    acts = orbits()
    for ids in ([0], [1, 2], [0, 2], [1, 0], [-2, -1], [0, 1, 2]):
        with pytest.raises(ValueError, match="pairs"):
            make().update(acts[:, : len(ids)], torch.tensor(ids))
    with pytest.raises(ValueError, match="at least one copy"):
        make().update(acts[:1, :4], torch.arange(4))
    with pytest.raises(ValueError, match="0 images"):
        make().update(acts[:, :0], torch.arange(0))


@every_reducer
def test_a_reducer_without_images_merges_but_has_no_result(make):
    acts = orbits()
    with pytest.raises(ValueError, match="no image was counted"):
        make().result()
    empty = make()
    empty.merge(make())
    empty.merge(fed(make(), acts, [range(5)]))
    expected = arrays(fed(make(), acts, [range(5)]).result())
    for name, value in arrays(empty.result()).items():
        np.testing.assert_array_equal(value, expected[name])


@every_reducer
def test_reducers_are_reducers(make):
    assert isinstance(make(), Reducer)


@pytest.mark.parametrize("name", ["paired", "variance", "moments", "reservoir"])
def test_layers_or_lists_of_elements_are_not_mixed(name):
    acts, make = orbits(), REDUCERS[name]
    other = acts[:, :, :2] if name == "moments" else acts[:3]
    if name == "variance":
        other = acts[..., :2]
    with pytest.raises(ValueError, match="one layer"):
        fed(fed(make(), acts, [range(5)]), other, [range(5, 9)])
    with pytest.raises(ValueError, match="one layer"):
        fed(make(), acts, [range(5)]).merge(fed(make(), other, [range(5, 9)]))


def test_reducers_of_other_settings_do_not_merge():
    with pytest.raises(ValueError, match="4 blocks of 65 pairs do not merge with 8"):
        OrbitVariance(8, N_PAIRS).merge(OrbitVariance(4, N_PAIRS))
    with pytest.raises(ValueError, match="reservoir of 3"):
        Reservoir(4).merge(Reservoir(3))


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_layer_may_have_any_shape_and_precision(shape, dtype):
    acts = torch.randn(3, 6, *shape, generator=generator(0, "acts")).to(dtype)
    exact = acts.double()
    for make in (PairedDistance, SortedDistance, Moments, lambda: OrbitVariance(3, 3)):
        found, expected = (arrays(fed(make(), a, [range(3)]).result()) for a in (acts, exact))
        for name in expected:
            # A float32 difference is rounded to 6e-8 of it; the half precisions differ exactly.
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-6)
    features = fed(Reservoir(6), acts, [range(3)]).result().features
    np.testing.assert_array_equal(features, exact.reshape(3, 6, -1).numpy())


def test_a_graph_is_no_hindrance():
    acts = orbits().requires_grad_()
    for make in REDUCERS.values():
        fed(make(), acts, [range(3)]).result()
