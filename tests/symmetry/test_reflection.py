"""Signals read backwards."""

import pytest
import torch
import torch.nn.functional as F

from udl_lab.randomness import generator
from udl_lab.symmetry.reflection import Reflection


def test_a_signal_is_reversed():
    x = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]])
    assert Reflection().apply(x, "reflected", 0.0).tolist() == [[[3, 2, 1]], [[6, 5, 4]]]
    assert Reflection().compose("reflected", "reflected") == "identity"
    assert Reflection().restrict("reflected", 3) == "reflected"


def test_a_convolution_commutes_when_its_kernel_is_symmetric():
    x = torch.randint(-4, 5, (2, 1, 11), generator=generator(0)).float()
    action = Reflection()
    for kernel, commutes in (([1.0, -2.0, 1.0], True), ([1.0, 2.0, 3.0], False)):
        weight = torch.tensor(kernel)[None, None]
        reflected = F.conv1d(action.apply(x, "reflected", 0.0), weight, padding=1)
        after = action.apply(F.conv1d(x, weight, padding=1), "reflected", 0.0)
        assert torch.equal(reflected, after) == commutes


def test_an_unknown_element_is_refused():
    with pytest.raises(ValueError, match="did you mean 'reflected'"):
        Reflection().apply(torch.zeros(1, 1, 4), "reflect", 0.0)
