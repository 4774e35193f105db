"""What a forward computes beside its modules is listed."""

import torch
import torch.nn.functional as F
from torch import nn

from udl_lab.activations.recorder import activations
from udl_lab.activations.tap import Tap
from udl_lab.activations.unseen import unseen
from udl_lab.randomness import seeded


class Block(nn.Module):
    """A functional ReLU, a sum, a reshape and a functional layer."""

    def __init__(self, tapped=False):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.summed = Tap() if tapped else None

    def forward(self, x):
        y = F.relu(self.fc(x))
        y = F.relu(self.fc(y))
        y = x + y
        if self.summed is not None:
            y = self.summed(y)
        return self.head(y.view(-1, 2, 2).flatten(1)) * self.fc.weight.abs().sum()


def built(cls, *args):
    with seeded(0, "net"):
        return cls(*args)


def listed(net, *inputs):
    return {str(found) for found in unseen(net, *inputs)}


def test_functional_layers_and_sums_are_listed_with_their_counts():
    # The last product is the network's output, views are what they view, and the weight's absolute
    # value does not depend on the input.
    assert listed(built(Block), torch.ones(3, 4)) == {
        ".: torch.nn.functional.relu (2)",
        ".: torch.Tensor.add (1)",
    }


def test_a_tap_makes_a_sum_seen():
    net, x = built(Block, True), torch.ones(3, 4)
    assert listed(net, x) == {".: torch.nn.functional.relu (2)"}
    acts = activations(net, x, sites="summed")
    inner = net.fc(F.relu(net.fc(x)).detach()).relu()
    assert torch.equal(acts["summed"], (x + inner).detach())
    assert list(net.state_dict()) == list(built(Block).state_dict())


def test_operations_are_named_by_the_module_in_whose_forward_they_stand():
    net = nn.Sequential(built(Block), nn.Linear(2, 2))
    assert {found.module for found in unseen(net, torch.ones(3, 4))} == {"0"}


def test_a_network_of_layers_alone_has_nothing_unseen():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2))
    net(torch.ones(2, 1, 4, 4))
    assert unseen(net.eval(), torch.ones(2, 1, 4, 4)) == []


def test_writing_in_place_makes_a_new_value():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.fc(x)
            y += 1
            F.relu(y, inplace=True)
            return self.out(y)

    assert listed(built(InPlace), torch.ones(3, 4)) == {
        ".: torch.Tensor.add_ (1)",
        ".: torch.nn.functional.relu (1)",
    }


def test_a_value_is_seen_when_a_module_returns_a_view_of_it():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attend(x, x, x, need_weights=False)[0] + x

    # batch_first transposes what torch's function made; the sum is the network's own output.
    assert listed(built(Attention), torch.ones(2, 3, 4)) == set()


def test_no_hook_stays_also_when_the_forward_fails():
    class Broken(nn.Sequential):
        def forward(self, x):
            super().forward(x)
            raise ZeroDivisionError

    net = Broken(nn.Linear(4, 4))
    for run in (unseen, unseen):
        try:
            run(net, torch.ones(2, 4))
        except ZeroDivisionError:
            pass
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._forward_hooks_always_called
