"""Sliced Wasserstein-2 against assignments, scipy and Gaussians in closed form."""

import itertools
import math

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.sample_quality.line import midpoints
from udl_lab.sample_quality.sliced import directions, sliced_wasserstein, squared_along


def normal(n, dim, name):
    return torch.randn(n, dim, dtype=torch.float64, generator=generator(0, name))


def test_directions_are_unit_vectors_uniform_on_the_sphere():
    u = directions(20_000, 3, generator(0, "directions"))
    assert torch.allclose(u.norm(dim=1), torch.ones(1, dtype=torch.float64))
    # E u u^T = I / 3; an entry of u u^T has variance at most 4/45, so 5 sd are .011.
    second = u.mT @ u / len(u)
    assert (second - torch.eye(3) / 3).abs().max() < 5 * math.sqrt(4 / 45 / len(u))


def test_squared_distance_along_a_line_is_the_best_assignment():
    a, b = normal(5, 1, "a"), normal(5, 1, "b")
    best = min(float((a - b[list(p)]).square().mean()) for p in itertools.permutations(range(5)))
    found = squared_along(a, b, torch.ones(1, 1, dtype=torch.float64))
    assert float(found) == pytest.approx(best, abs=1e-14)


def test_sets_of_unequal_size_are_their_repetitions_to_equal_size():
    a, b = normal(6, 3, "a"), normal(4, 3, "b")
    u = directions(7, 3, generator(0, "directions"))
    repeated = squared_along(a.repeat(2, 1), b.repeat(3, 1), u)
    assert torch.allclose(squared_along(a, b, u), repeated, rtol=0, atol=1e-13)


def test_a_shift_is_seen_by_its_length_over_the_root_of_the_dimension():
    # Shifted copies: W2^2 along u is (u . shift)^2, whose mean over the sphere is |shift|^2 / dim
    # and whose variance is below 2 |shift|^4 / dim^2.
    a = normal(50, 4, "a")
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    u = directions(4000, 4, generator(0, "directions"))
    found = squared_along(a, a + shift, u)
    assert torch.allclose(found, (u @ shift).square(), rtol=0, atol=1e-12)
    expected = float(shift.square().sum()) / 4
    n_sd = 4 * expected * math.sqrt(2 / 4000)
    by_name = sliced_wasserstein(a, a + shift, generator(0, "directions"), n_directions=4000)
    assert abs(by_name**2 - expected) < n_sd


def test_isotropic_gaussians_are_apart_by_the_difference_of_sd():
    # Along every direction N(0, r^2) against N(0, s^2): W2 = |r - s|. Points on the plane that
    # project to Gaussian quantiles along both axes; along an axis the distance is exact up to the
    # variance missing in n midpoints.
    z = torch.special.ndtri(midpoints(400))
    grid = torch.cartesian_prod(z, z)
    axes = torch.eye(2, dtype=torch.float64)
    found = squared_along(3 * grid, 1.2 * grid, axes).sqrt()
    spread = float(z.square().mean().sqrt())  # .998, in place of 1
    assert torch.allclose(found, torch.full((2,), 1.8 * spread, dtype=torch.float64), rtol=1e-12)
    anywhere = sliced_wasserstein(3 * grid, 1.2 * grid, generator(0, "directions"), n_directions=8)
    assert anywhere == pytest.approx(1.8, rel=0.005)


def test_gaussian_samples_come_near_the_expectation_of_the_closed_form():
    # W2^2 along u is (u.m)^2 + (sd_a - sd_b)^2 with variances u.C u; its mean over the same
    # directions is compared, so the directions add no error.
    n = 20_000
    scales = torch.tensor([1.0, 2.0, 0.5]).double()
    shift = torch.tensor([1.0, 0.0, -1.0]).double()
    a, b = normal(n, 3, "a"), normal(n, 3, "b") * scales + shift
    u = directions(64, 3, generator(0, "directions"))
    exact = ((u @ shift).square() + (1 - (u * scales).norm(dim=1)).square()).mean()
    # Sampling moves a mean or an sd by about 2 / sqrt(n) = .014, against distances of about 1.
    assert float(squared_along(a, b, u).mean()) == pytest.approx(float(exact), abs=0.05)


def test_equal_generators_give_equal_directions():
    a, b = normal(9, 2, "a"), normal(8, 2, "b")
    twice = [sliced_wasserstein(a, b, generator(3, "sliced")) for _ in range(2)]
    assert twice[0] == twice[1] > 0
    assert sliced_wasserstein(a, a, generator(3, "sliced")) == 0


def test_no_direction_is_refused():
    with pytest.raises(ValueError, match="0 directions in 2 dimensions"):
        sliced_wasserstein(normal(3, 2, "a"), normal(3, 2, "b"), generator(0, "d"), n_directions=0)
