"""Poolings over windows of space by their usual names."""

from typing import Literal

from torch import nn

from udl_lab.errors import nearest

Pooling = Literal["max", "average"]

_POOLINGS = {"max": (nn.MaxPool1d, nn.MaxPool2d), "average": (nn.AvgPool1d, nn.AvgPool2d)}


def pooling(name: Pooling, dimensions: int, window: int, stride: int | None = None) -> nn.Module:
    """A new module that takes the largest or the mean value of each window, without padding.

    Args:
        name: "max" or "average".
        dimensions: 1 for signals, 2 for images.
        window: the side of the window, in pixels.
        stride: in pixels; `None` for the window's side.

    Raises:
        ValueError: for a name that is none of them.
    """
    if name not in _POOLINGS:
        raise ValueError(f"there is no pooling {name!r}; {nearest(name, _POOLINGS)}")
    return _POOLINGS[name][dimensions - 1](window, stride)
