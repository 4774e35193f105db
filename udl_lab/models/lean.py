"""Two of Lightning's costs per step, avoided: they matter when a step takes .1 ms.

`benchmarks/step_overhead.py` measures what is left.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Function = TypeVar("Function", bound=Callable[..., Any])


def set_attribute(module: nn.Module, name: str, value: object) -> None:
    """A module's `__setattr__` that lets Lightning note the running hook at once.

    Lightning sets `_current_fx_name` about forty times a step, and torch looks each time whether
    the string is a parameter, a buffer or a module.
    """
    if name == "_current_fx_name":
        object.__setattr__(module, name, value)
    else:
        nn.Module.__setattr__(module, name, value)


def known_signature(function: Function) -> Function:
    """Write a function's signature down: Lightning inspects that of `training_step` every step."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function
