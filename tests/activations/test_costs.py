"""Costs are those of a loop over channels, and reveal a hidden permutation of them."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from udl_lab.activations.costs import ChannelCost
from udl_lab.activations.distances import KnownAction
from udl_lab.randomness import generator


def acts_of(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "acts"))


def turn(layer, e):
    return torch.rot90(layer, e + 1, (-2, -1))


def stay(layer, e):
    return layer


def fed(reducer, acts):
    reducer.update(acts, torch.arange(acts.shape[1]))
    return reducer.result()


@pytest.mark.parametrize("space", [(), (5,), (4, 4)])
def test_costs_are_those_of_a_loop(space):
    carry = turn if len(space) == 2 else stay
    acts = acts_of(3, 10, 3, *space)  # 5 pairs in 2 blocks: 0 0 0 1 1
    found = fed(ChannelCost(carry, 2, 5), acts)
    np.testing.assert_array_equal(found.counts, [6, 4])
    for e in range(2):
        f, r = acts[e + 1].numpy(), carry(acts[0], e).numpy()
        for block, images in enumerate((range(6), range(6, 10))):
            norm = sum((r[i] ** 2).sum() for i in images)
            np.testing.assert_allclose(found.norm[e, block], norm, rtol=1e-12)
            for c in range(3):
                for d in range(3):
                    cost = sum(((f[i, c] - r[i, d]) ** 2).sum() for i in images)
                    control = sum(((f[i, c] - r[i ^ 1, d]) ** 2).sum() for i in images)
                    np.testing.assert_allclose(found.cost[e, block, c, d], cost, rtol=1e-12)
                    np.testing.assert_allclose(found.control[e, block, c, d], control, rtol=1e-12)


def test_the_identity_permutation_costs_the_error_of_the_known_action():
    acts = acts_of(4, 8, 3, 4, 4)
    cost, known = fed(ChannelCost(turn, 1, 4), acts), fed(KnownAction(turn), acts)
    traces = np.trace(cost.cost[:, 0], axis1=1, axis2=2)
    np.testing.assert_allclose(traces, (known.error**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(cost.norm[:, 0], (known.norm**2).sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_hidden_permutation_is_found_and_costs_nothing(offset):
    """Probes notes, oracle 19. An offset that all channels share does not drown it."""
    upright = acts_of(20, 8, 6, 6) + offset
    hidden = torch.randperm(8, generator=generator(0, "hidden"))
    acts = torch.stack([upright, turn(upright, 0)[:, hidden]])
    found = fed(ChannelCost(turn, 2, 10), acts)
    rows, columns = linear_sum_assignment(found.cost[0, 0])
    np.testing.assert_array_equal(columns, hidden)
    held_out = found.cost[0, 1, rows, columns].sum()
    spread = (upright - offset).square().sum().item() / 2
    assert np.sqrt(held_out / spread) < 1e-7
    assert np.sqrt(found.control[0, 1, rows, columns].sum() / spread) > 1


def test_costs_are_never_negative():
    upright = acts_of(40, 16, 3) * 1e3
    found = fed(ChannelCost(stay, 4, 20), torch.stack([upright, upright]))
    assert found.cost.min() >= 0


def test_an_unknown_action_is_nan_and_a_layer_that_is_too_wide_is_passed_over():
    acts = acts_of(3, 4, 5)
    found = fed(ChannelCost(lambda layer, e: layer if e else None, 2, 2, max_channels=5), acts)
    for part in (found.cost, found.control, found.norm):
        assert np.isnan(part[0]).all()
        assert np.isfinite(part[1]).all()
    assert fed(ChannelCost(stay, 2, 2, max_channels=4), acts) is None
