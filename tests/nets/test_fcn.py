"""The fully connected network equals its formula, and has the published sizes."""

import inspect

import pytest
import torch

from udl_lab.nets.fcn import FCN
from udl_lab.nets.nonlinearity import nonlinearity
from udl_lab.randomness import generator, seeded

FORMULAS = {
    "relu": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "silu": lambda x: x / (1 + (-x).exp()),
    "identity": lambda x: x,
}


def build(*args, **kwargs):
    with seeded(0, "net"):
        return FCN(*args, **kwargs).double()


def batch(*shape):
    return torch.randn(*shape, generator=generator(0, "batch"), dtype=torch.float64)


@pytest.mark.parametrize("activation", FORMULAS)
@pytest.mark.parametrize("widths", [[], [5], [6, 4], [3, 8, 2]])
def test_the_outputs_are_matrix_products_with_nonlinearities_between(widths, activation):
    net = build([2, 3, 4], 3, widths, activation)
    x = batch(7, 2, 3, 4)
    parameters = list(net.parameters())
    layers = list(zip(parameters[0::2], parameters[1::2], strict=True))
    h = x.reshape(7, 24)
    for weight, bias in layers[:-1]:
        h = FORMULAS[activation](h @ weight.T + bias)
    weight, bias = layers[-1]
    torch.testing.assert_close(net(x), h @ weight.T + bias, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("in_shape", "widths", "n_parameters"),
    [
        ([1, 28, 28], [1024, 128], 936_330),  # jax-p1-base
        ([1, 28, 28], [4], 3_190),  # jax-p1-under
        ([1, 28, 28], [2048, 1024, 512, 1024, 512, 128], 5_347_722),  # jax-p1-over
        ([1, 40], [100, 100], 15_210),  # mnist1d's MLP
        ([1, 40], [], 410),  # mnist1d's logistic regression
    ],
)
def test_the_numbers_of_parameters_are_those_published(in_shape, widths, n_parameters):
    net = FCN(in_shape, 10, widths)
    assert sum(p.numel() for p in net.parameters()) == n_parameters


def test_the_sites_have_the_names_that_the_recorder_is_told():
    names = dict(build([1, 2, 2], 3, [5, 4]).named_modules())
    for site in ("hidden.0.linear", "hidden.1.activation", "output"):
        assert site in names


def test_an_unknown_activation_is_refused_with_the_nearest():
    unchecked = inspect.unwrap(nonlinearity)  # as users call it, without the tests' type checker
    with pytest.raises(ValueError, match="no activation 'relo'; did you mean 'relu'"):
        unchecked("relo")
