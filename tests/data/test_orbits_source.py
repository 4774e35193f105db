"""Orbits: whole, exact, and apart; arcs: neither whole nor symmetric."""

import math

import pytest
import torch

from udl_lab.data.orbits import orbits


def turned(x, degrees):
    a = math.radians(degrees)
    turn = torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    return (x.double() @ turn.double()).float()


def test_there_are_as_many_points_as_asked_and_every_class_is_as_large():
    for part in orbits("", n_orbits=4, n_angles=12):
        assert part.x.shape == (48, 2)
        assert part.x.dtype == torch.float32
        assert torch.bincount(part.y).tolist() == [12] * 4


def test_the_label_is_the_radius():
    for part in orbits(""):
        # Two coordinates rounded to float32.
        torch.testing.assert_close(part.x.norm(dim=1), (part.y + 1) / 5, rtol=2**-22, atol=0)


@pytest.mark.parametrize("part", [0, 1])
def test_a_turn_by_one_step_carries_every_orbit_into_itself(part):
    x, y = orbits("", n_angles=90)[part]
    for label in range(5):
        orbit = x[y == label]
        torch.testing.assert_close(turned(orbit, 4), orbit.roll(-1, 0), rtol=0, atol=2**-22)


def test_the_test_points_lie_half_way_between_the_training_angles():
    train, test = orbits("", n_angles=90)
    torch.testing.assert_close(turned(train.x, 2), test.x, rtol=0, atol=2**-22)


def test_the_covariance_of_whole_orbits_is_a_multiple_of_the_identity():
    x = orbits("").train.x.double()
    covariance = x.T @ x / len(x)
    mean_square = sum((k / 5) ** 2 for k in range(1, 6)) / 5
    torch.testing.assert_close(
        covariance, torch.eye(2).double() * mean_square / 2, atol=1e-8, rtol=0
    )


def test_an_arc_is_the_beginning_of_an_orbit():
    whole, arc = orbits("", n_angles=360).train, orbits("", n_angles=360, n_kept=90).train
    kept = torch.arange(5 * 360) % 360 < 90
    assert torch.equal(arc.x, whole.x[kept])
    assert torch.equal(arc.y, whole.y[kept])


def test_more_points_than_the_orbit_has_are_refused():
    with pytest.raises(ValueError, match="n_kept=91 is more than the n_angles=90"):
        orbits("", n_kept=91)
