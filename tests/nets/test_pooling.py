"""Poolings reduce every window, as written out with `unfold`."""

import inspect

import pytest
import torch

from udl_lab.nets.pooling import pooling
from udl_lab.randomness import generator


@pytest.mark.parametrize("name", ["max", "average"])
@pytest.mark.parametrize(("window", "stride"), [(2, None), (3, 2), (2, 1), (1, 3)])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_pooling_is_the_largest_or_the_mean_value_of_each_window(
    dimensions, window, stride, name
):
    shape = (2, 3, 8, 11)[: dimensions + 2]
    x = torch.randn(*shape, generator=generator(0, "pooling"), dtype=torch.float64)
    cut = x
    for axis in range(2, 2 + dimensions):
        cut = cut.unfold(axis, window, stride or window)
    cut = cut.flatten(2 + dimensions)
    expected = cut.amax(-1) if name == "max" else cut.mean(-1)
    torch.testing.assert_close(
        pooling(name, dimensions, window, stride)(x), expected, rtol=1e-12, atol=1e-12
    )


def test_an_unknown_pooling_is_refused_with_the_nearest():
    unchecked = inspect.unwrap(pooling)  # as users call it, without the tests' type checker
    with pytest.raises(ValueError, match="no pooling 'averag'; did you mean 'average'"):
        unchecked("averag", 2, 2)
