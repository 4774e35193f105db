"""Initial weights have the published variances, and the homework's very numbers."""

import inspect
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.nets.cnn import CNN
from udl_lab.nets.fcn import FCN
from udl_lab.nets.initialise import initialise
from udl_lab.randomness import seeded


def layer(kind, scheme):
    """A large layer, its fan in and its fan out."""
    modules = {
        "linear": (nn.Linear(600, 400), 600, 400),
        "conv1d": (nn.Conv1d(64, 96, 7), 64 * 7, 96 * 7),
        "conv2d": (nn.Conv2d(48, 64, 5), 48 * 25, 64 * 25),
    }
    module, fan_in, fan_out = modules[kind]
    with seeded(0, "initialise", scheme, kind):
        initialise(module, scheme)
    return module, fan_in, fan_out


def assert_normal(values, variance):
    """Mean, variance and kurtosis of n normal numbers, to five standard errors of each."""
    z = values.detach().double().flatten() / variance**0.5
    n = z.numel()
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.square().mean() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5  # E z^8 - (E z^4)^2 = 105 - 9


kinds = pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d"])


@kinds
def test_he_weights_have_variance_2_over_fan_in_and_biases_are_0(kind):
    module, fan_in, _ = layer(kind, "he")
    assert_normal(module.weight, 2 / fan_in)
    assert not module.bias.any()


@kinds
def test_glorot_weights_have_variance_2_over_both_fans_and_biases_a_hundredth(kind):
    module, fan_in, fan_out = layer(kind, "glorot")
    assert_normal(module.weight, 2 / (fan_in + fan_out))
    assert_normal(module.bias, 0.01**2)


@kinds
def test_normal_weights_and_biases_have_standard_deviation_a_tenth(kind):
    module, _, _ = layer(kind, "normal")
    assert_normal(module.weight, 0.1**2)
    assert_normal(module.bias, 0.1**2)


def test_he_keeps_the_mean_square_through_relu_layers():
    """What it is for (He et al. 2015, section 2.2), by simulation."""
    with seeded(0, "depth"):
        net = FCN([1000], 1000, [1000] * 5, "identity", init="he").double()
        x = torch.randn(50, 1000, dtype=torch.float64)
    first = x.square().mean()
    for block in net.hidden:
        x = block.linear(x.clamp(min=0) if block is not net.hidden[0] else x)
        # The first layer sees no ReLU and doubles; the others keep it. One example wanders by
        # sqrt(5 / 1000) = 7 percent a layer, the mean of fifty by less; another scheme is off by a
        # factor of 2 a layer.
        assert abs(x.square().mean() / (2 * first) - 1) < 0.15


@kinds
def test_torch_leaves_torchs_own_weights(kind):
    with seeded(0, "default"):
        module, _, _ = layer(kind, "torch")
        before = {name: value.clone() for name, value in module.state_dict().items()}
        state = torch.get_rng_state()
        initialise(module, "torch")
        assert torch.equal(torch.get_rng_state(), state)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def homework(layer_sizes, scale, rng):
    """`init_random_params` of the JAX homework: weight (in, out), then bias, for each layer."""
    return [(scale * rng.randn(m, n), scale * rng.randn(n)) for m, n in pairwise(layer_sizes)]


def test_numpy_normal_is_the_homeworks_stream():
    net = FCN([1, 28, 28], 10, [64, 32], "tanh", init="numpy_normal")
    parameters = list(net.parameters())
    layers = zip(parameters[0::2], parameters[1::2], strict=True)
    theirs = homework([784, 64, 32, 10], 0.1, np.random.RandomState(0))
    for (weight, bias), (w, b) in zip(layers, theirs, strict=True):
        np.testing.assert_array_equal(weight.detach().numpy(), w.T.astype(np.float32))
        np.testing.assert_array_equal(bias.detach().numpy(), b.astype(np.float32))


def test_numpy_normal_ignores_the_seed_and_leaves_the_generators_alone():
    np_state = np.random.get_state()[1].copy()
    with seeded(1, "other"):
        state = torch.get_rng_state()
        first = nn.Linear(20, 30)
        second = nn.Linear(20, 30)
        torch.set_rng_state(state)
        initialise(first, "numpy_normal")
        initialise(second, "numpy_normal")
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    np.testing.assert_array_equal(np.random.get_state()[1], np_state)


def test_numpy_normal_fills_convolutions_input_axis_first():
    module = nn.Conv2d(3, 4, 2)
    initialise(module, "numpy_normal")
    drawn = 0.1 * np.random.RandomState(0).randn(3 * 2 * 2, 4)
    for unit in range(4):
        np.testing.assert_array_equal(
            module.weight[unit].detach().numpy(), drawn[:, unit].reshape(3, 2, 2).astype(np.float32)
        )


@pytest.mark.parametrize("scheme", ["torch", "he", "glorot", "normal", "numpy_normal"])
def test_every_scheme_accepts_a_layer_without_bias(scheme):
    module = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2))
    initialise(module, scheme)
    if scheme == "numpy_normal":
        drawn = 0.1 * np.random.RandomState(0).randn(6 + 4)
        np.testing.assert_array_equal(
            module[1].weight.detach().numpy().T.ravel(), drawn[6:].astype(np.float32)
        )


def test_networks_pass_the_scheme_on():
    with seeded(0, "scheme"):
        assert not FCN([1, 4, 4], 2, [5], init="he").output.bias.any()
        assert not CNN([1, 28, 28], 2, init="he").blocks[0].convolution.bias.any()


def test_a_scheme_that_does_not_exist_is_refused_with_the_nearest():
    unchecked = inspect.unwrap(initialise)  # as users call it, without the tests' type checker
    with pytest.raises(ValueError, match="no init 'glorott'; did you mean 'glorot'"):
        unchecked(nn.Linear(2, 2), "glorott")
