"""The sample that every run shares, and networks that are run without a trace."""

import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.probes.subject import Subject, device_of, evaluating, logits
from udl_lab.randomness import generator


class Noise(nn.Module):
    """Random in evaluation mode too."""

    def forward(self, x):
        return x + torch.randn(x.shape)


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(2)


def subject(n):
    examples = Examples(torch.arange(2.0 * n).view(n, 2), torch.arange(n))
    return Subject(nn.Identity(), nn.Identity(), examples, 0.0)


def test_a_sample_holds_different_examples_with_their_own_labels():
    x, y = subject(100).sample(30)
    assert len(y.unique()) == 30
    assert torch.equal(x, torch.stack([2.0 * y, 2.0 * y + 1], dim=1))


def test_a_sample_is_the_same_every_time_and_not_the_head_of_the_data():
    torch.manual_seed(1)
    first = subject(100).sample(30)
    torch.manual_seed(2)
    again = subject(100).sample(30)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.y.sort().values, torch.arange(30))


@pytest.mark.parametrize("n", [None, 100, 101])
def test_no_limit_or_one_beyond_the_data_gives_all_examples_in_order(n):
    assert torch.equal(subject(100).sample(n).y, torch.arange(100))


def test_logits_are_the_networks_outputs_whatever_the_batch_size():
    with torch.no_grad():
        linear = nn.Linear(3, 4).double()
        x = torch.randn(7, 3, dtype=torch.float64, generator=generator(0))
        expected = x @ linear.weight.T + linear.bias
    for batch_size in (1, 2, 7, 1000):
        found = logits(linear, x, batch_size)
        assert torch.allclose(found, expected, rtol=0, atol=1e-14)  # sums of 3 numbers near 1
        assert not found.requires_grad


def test_a_network_that_works_in_place_does_not_write_into_the_examples():
    x = torch.ones(5, 2)
    assert torch.equal(logits(InPlace(), x, 2), 2 * torch.ones(5, 2))
    assert torch.equal(x, torch.ones(5, 2))


def test_logits_are_those_of_evaluation_mode():
    net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2, eps=0.0)).train()
    statistics = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.tensor([[1.0, 2], [3, 4]])
    assert torch.equal(logits(net, x), x)  # running mean 0 and variance 1
    for name, value in net.state_dict().items():
        assert torch.equal(value, statistics[name])


def test_every_module_gets_its_own_mode_back():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout())).train()
    net[1].eval()  # frozen inside a training network
    modes = [module.training for module in net.modules()]
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == modes
    with pytest.raises(ZeroDivisionError), evaluating(net):
        _ = 1 / 0
    assert [module.training for module in net.modules()] == modes


def test_gradients_are_off_inside_and_as_they_were_afterwards():
    with evaluating(nn.Identity()):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_a_random_network_draws_the_same_each_time_and_leaves_the_generator_alone():
    x = torch.zeros(4, 3)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = logits(Noise(), x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(logits(Noise(), x), first)
    assert first.unique().numel() == first.numel()


def test_a_network_without_parameters_is_where_its_buffers_are_or_else_on_the_cpu():
    net = nn.Module()
    assert device_of(net) == torch.device("cpu")
    net.register_buffer("filters", torch.empty(1, device="meta"))
    assert device_of(net) == torch.device("meta")
    net.weight = nn.Parameter(torch.empty(1))
    assert device_of(net) == torch.device("cpu")
