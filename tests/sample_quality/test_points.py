"""What is refused as a set of points, and squared distances against subtraction."""

import math

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.sample_quality.points import blocks, checked, pair, squared_distances


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_named_with_its_place(bad):
    points = torch.zeros(5000, 3)  # more than one block
    points[4500, 2] = bad
    with pytest.raises(ValueError, match=f"samples holds {bad} at row 4500, column 2"):
        checked("samples", points)


def test_too_few_points_are_refused_with_their_number():
    with pytest.raises(ValueError, match="samples has 1 points; give at least 2"):
        checked("samples", torch.zeros(1, 3), at_least=2)


def test_points_without_coordinates_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 0\)"):
        checked("samples", torch.zeros(4, 0))


def test_points_of_different_dimensions_do_not_pair():
    with pytest.raises(ValueError, match="3 and 4 coordinates"):
        pair(torch.zeros(5, 3), torch.zeros(5, 4))


def test_a_pair_is_in_float64():
    assert [x.dtype for x in pair(torch.zeros(2, 1), torch.zeros(3, 1))] == [torch.float64] * 2


def test_squared_distances_are_sums_of_squared_differences():
    g = generator(0, "points")
    a = torch.randn(7, 4, dtype=torch.float64, generator=g)
    b = torch.randn(5, 4, dtype=torch.float64, generator=g)
    direct = (a[:, None] - b).square().sum(2)
    # A few roundings of squared norms of about 4.
    assert torch.allclose(squared_distances(a, b), direct, rtol=0, atol=1e-13)


def test_blocks_cover_every_point_once():
    points = torch.arange(10.0)[:, None]
    found = list(blocks(points, 4))
    assert [start for start, _ in found] == [0, 4, 8]
    assert torch.cat([block for _, block in found]).flatten().tolist() == list(range(10))
