"""Nonlinearities by their usual names."""

from typing import Literal

from torch import nn

Nonlinearity = Literal["relu", "tanh", "gelu", "silu", "identity"]

_NONLINEARITIES = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def nonlinearity(name: Nonlinearity) -> nn.Module:
    """A new module that applies the named nonlinearity elementwise."""
    return _NONLINEARITIES[name]()
