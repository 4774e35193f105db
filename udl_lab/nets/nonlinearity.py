"""Nonlinearities by their usual names."""

from typing import Literal

from torch import nn

from udl_lab.errors import nearest

Nonlinearity = Literal["relu", "tanh", "gelu", "silu", "identity"]

_NONLINEARITIES = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def nonlinearity(name: Nonlinearity) -> nn.Module:
    """A new module that applies the named nonlinearity elementwise.

    Raises:
        ValueError: for a name that is none of them.
    """
    if name not in _NONLINEARITIES:
        raise ValueError(f"there is no activation {name!r}; {nearest(name, _NONLINEARITIES)}")
    return _NONLINEARITIES[name]()
