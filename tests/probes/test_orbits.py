"""The walk over orbits: what reducers are given, and what is refused."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.activations.distances import PairedDistance
from udl_lab.activations.recorder import record
from udl_lab.errors import UsageError
from udl_lab.probes.orbits import PIXELS, in_float64, walk_orbits
from udl_lab.randomness import generator


def turn(x):
    return torch.rot90(x, 1, (-2, -1))


def paired(net, x, sites=("*",), size=4):
    found = walk_orbits(net, x, [turn], sites, lambda site: {"d": PairedDistance()}, size)
    return {site: reducers["d"].result() for site, reducers in found.items()}


def images(n=11, side=4):
    return torch.randn(n, 1, side, side, generator=generator(0, "images")).double()


class Twice(nn.Module):
    """One activation called twice, in place the second time."""

    def __init__(self):
        super().__init__()
        self.flat, self.act = nn.Flatten(), nn.ReLU(inplace=True)
        self.map = nn.Linear(16, 16)

    def forward(self, x):
        return self.act(self.map(self.act(self.map(self.flat(x)))))


def test_distances_are_those_of_each_image_and_its_own_copy():
    x = images()
    net = nn.Sequential(OrderedDict(flat=nn.Flatten(), map=nn.Linear(16, 3))).double()
    found = paired(net, x)
    assert list(found) == [PIXELS, "flat", "map"]
    with torch.no_grad():
        own, copy = net(x), net(turn(x))
    # The 11th image has no partner.
    np.testing.assert_allclose(found["map"].moved[:, 0], (copy - own).norm(dim=1)[:10], rtol=1e-12)
    other = (own[0:10:2] - own[1:10:2]).norm(dim=1)
    np.testing.assert_allclose(found["map"].other, other, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_batch_size_changes_nothing_but_rounding(size):
    x, net = images(30), in_float64(Twice())
    one, other = paired(net, x, size=5), paired(net, x, size=size)
    for site in one:
        np.testing.assert_allclose(one[site].moved, other[site].moved, rtol=1e-12)
        np.testing.assert_allclose(one[site].other, other[site].other, rtol=1e-12)


def test_a_layer_called_twice_has_its_calls_apart_and_its_bare_name_is_refused():
    net, x = in_float64(Twice()), images()
    found = paired(net, x)
    assert {"map#0", "map#1", "act#0", "act#1"} <= set(found)
    alone = paired(net, x, sites=["act#1"])
    assert set(alone) == {PIXELS, "act#1"}
    assert (alone["act#1"].moved == found["act#1"].moved).all()
    with torch.no_grad():
        # An in-place ReLU must not reach the activations before it.
        before = net.map(net.flat(x))
    np.testing.assert_allclose(
        found["map#0"].other, (before[0:10:2] - before[1:10:2]).norm(dim=1), rtol=1e-12
    )
    with pytest.raises(ValueError, match=r"'act' is called 2 times .* act#0, act#1"):
        paired(net, x, sites=["act"])
    with pytest.raises(ValueError, match="no such call"):
        paired(net, x, sites=["act#2"])


def test_what_cannot_be_walked_is_refused_by_name():
    x = images()
    flat = nn.Sequential(OrderedDict(flat=nn.Flatten()))
    with pytest.raises(UsageError, match="flta"):
        paired(flat, x, sites=["flta"])
    with pytest.raises(ValueError, match="no pair"):
        paired(flat, x[:1])
    with pytest.raises(ValueError, match="rename it"):
        paired(nn.Sequential(OrderedDict(pixels=nn.Flatten())), x)

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(0)

    with pytest.raises(ValueError, match="no row per image"):
        paired(nn.Sequential(OrderedDict(flat=nn.Flatten(), mean=Mean())), x)


def test_no_hook_mode_or_weight_is_left_behind_after_an_error():
    net = Twice().train()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}

    class Fails:
        gathered = None

        def update(self, acts, ids):
            raise ZeroDivisionError

        def merge(self, other): ...

        def result(self): ...

    with pytest.raises(ZeroDivisionError):
        walk_orbits(net, images().float(), [turn], ["*"], lambda site: {"f": Fails()}, 2)
    assert net.training
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
    with record(net, "map"):
        net(images().float())
