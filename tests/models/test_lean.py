"""The two short cuts change nothing but the time."""

import inspect

import torch
from torch import nn

from udl_lab.models.lean import known_signature, set_attribute


class Lean(nn.Module):
    __setattr__ = set_attribute


def test_parameters_buffers_and_modules_are_still_registered():
    module = Lean()
    module.weight = nn.Parameter(torch.zeros(2))
    module.register_buffer("table", torch.zeros(3))
    module.part = nn.Linear(1, 1)
    module._current_fx_name = "training_step"
    assert set(module.state_dict()) == {"weight", "table", "part.weight", "part.bias"}
    assert module._current_fx_name == "training_step"
    module._current_fx_name = None
    assert module._current_fx_name is None


def test_a_known_signature_is_the_functions_own():
    def function(a: int, b: str = "x") -> None: ...

    expected = inspect.signature(function)
    assert inspect.signature(known_signature(function)) == expected
    assert "__signature__" in vars(function)
