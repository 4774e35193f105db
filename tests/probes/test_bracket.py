"""The bracket on planted permutations, on impostors, and against brute force."""

from itertools import permutations as all_permutations

import numpy as np
import pytest
import torch

from udl_lab.activations.costs import ChannelCost
from udl_lab.activations.distances import KnownAction, SortedDistance
from udl_lab.probes.bracket import compose, shared_permutations


def whole(layer, e):
    return layer


def measured(own, copies, n_blocks=8):
    """Costs, sorted and known distances of activations [image, channel, *space]."""
    acts = torch.stack([own, *copies])
    n = len(own)
    reducers = (ChannelCost(whole, n_blocks, n // 2), SortedDistance(), KnownAction(whole))
    for reducer in reducers:
        reducer.update(acts, torch.arange(n))
    return [reducer.result() for reducer in reducers]


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_a_planted_permutation_of_channels_is_recovered_and_misses_nothing_held_out():
    own = numbers(0, 64, 12, 3, 3)
    planted = np.random.default_rng(1).permutation(12)
    cost, _, _ = measured(own, [own[:, planted]])
    [found] = shared_permutations(cost)
    assert found.index.tolist() == planted.tolist()
    assert found.error.estimate < 1e-7  # the root of what float64 leaves of a cost of 0
    assert found.control.estimate > 1
    assert found.gap > 0.1


def test_the_assignment_is_the_best_of_all_permutations():
    own, copy = numbers(0, 16, 5), numbers(1, 16, 5)
    cost, _, _ = measured(own, [copy], n_blocks=2)
    [found] = shared_permutations(cost)
    fit = slice(0, 8)  # the first block
    best = min(
        all_permutations(range(5)),
        key=lambda p: float((copy[fit] - own[fit][:, list(p)]).square().sum()),
    )
    assert tuple(found.index) == best


def test_sorted_is_at_most_the_shared_permutation_which_is_at_most_the_known_action():
    """In sample, as minima over ever smaller sets; scored on the same images here."""
    own = numbers(0, 40, 6)
    copy = own[:, np.random.default_rng(3).permutation(6)] + 0.5 * numbers(4, 40, 6)
    cost, by_sorting, known = measured(own, [copy], n_blocks=2)
    everything = cost.cost[0].sum(axis=0)
    [p] = shared_permutations(cost)
    shared = everything[np.arange(6), p.index].sum()
    least = min(everything[np.arange(6), list(q)].sum() for q in all_permutations(range(6)))
    assert (by_sorting.moved**2).sum() <= least <= shared <= (known.error**2).sum()


def test_an_image_dependent_roll_passes_the_sorted_test_and_fails_the_shared_one():
    """notes/probes.md §6.1 (18): sorted error exactly 0, known-action error above 1."""
    own = numbers(0, 64, 10)
    rolls = (own[:, 0] * 5).long()
    copy = torch.stack([row.roll(int(k)) for row, k in zip(own, rolls, strict=True)])
    cost, by_sorting, known = measured(own, [copy])
    assert (by_sorting.moved == 0).all()
    assert (known.error.sum() / known.norm.sum()) > 1
    [found] = shared_permutations(cost)
    assert found.error.estimate > 0.9


def test_held_out_scoring_sees_through_an_overfitted_permutation():
    """Unrelated vectors, many more channels than images: in sample they look alike, not out."""
    own, copy = numbers(0, 8, 200), numbers(1, 8, 200)
    cost, _, _ = measured(own, [copy], n_blocks=2)
    [found] = shared_permutations(cost)
    half = cost.cost[0, 0]
    in_sample = np.sqrt(half[np.arange(200), found.index].sum() / cost.norm[0, 0])
    assert in_sample < 0.9
    assert found.error.estimate > 1.25  # unrelated vectors are sqrt(2) apart


def test_two_equal_channels_leave_the_permutation_open_and_the_gap_says_so():
    own = numbers(0, 32, 4)
    own[:, 3] = own[:, 2]
    cost, _, _ = measured(own, [own])
    [found] = shared_permutations(cost)
    assert found.gap == pytest.approx(0, abs=1e-15)


def test_composition_follows_the_elements():
    own = numbers(0, 1, 7).numpy()[0]
    p, q = (np.random.default_rng(s).permutation(7) for s in (1, 2))
    after_g = own[p]  # f_c(g x) = f(x)_{p[c]}
    assert (after_g[q] == own[compose(p, q)]).all()
