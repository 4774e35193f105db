"""The velocity of moving images, in closed form, and the stride that sizes tell."""

import math

import pytest
import torch

from udl_lab.probes.flow import stride_by_sizes, velocity
from udl_lab.randomness import generator


def normal(*shape):
    return torch.randn(shape, generator=generator(0), dtype=torch.float64)


def blob(angle, side=64):
    """A round blob 6 pixels right of the centre, rotated counter-clockwise by an angle."""
    c = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    right, below = 6 * math.cos(angle), -6 * math.sin(angle)
    squared = (c - right) ** 2 + (c[:, None] - below) ** 2
    return (-squared / (2 * 2.5**2)).exp()[None, None]


def test_an_image_that_moves_right_or_down_falls_where_it_rose():
    angle = 2 * torch.pi * torch.arange(12, dtype=torch.float64) / 12
    x = angle.sin().expand(1, 1, 5, 12)  # d/dt sin(a - 2 pi t / 12) = -(2 pi / 12) cos a
    expected = (-2 * torch.pi / 12 * angle.cos()).expand(1, 1, 5, 12)
    assert torch.allclose(velocity(x, "right"), expected, atol=1e-14, rtol=0)
    assert torch.allclose(velocity(x.mT, "down"), expected.mT, atol=1e-14, rtol=0)
    assert velocity(x, "down").abs().max() < 1e-15


@pytest.mark.parametrize("side", [64, 65])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_the_velocity_of_a_rotation_is_that_of_a_rotating_blob(side, angle):
    assert torch.allclose(blob(torch.pi / 2, side), torch.rot90(blob(0, side), 1, (-2, -1)))
    c = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    right, below = 6 * math.cos(angle), -6 * math.sin(angle)
    # d/dt exp(-|p - c(t)|² / 2s²), where c' = (below, -right).
    along = (c - right) * below + (c[:, None] - below) * -right
    expected = along / 2.5**2 * blob(angle, side)
    # The blob's Fourier transform at the Nyquist frequency is exp(-(2.5 pi)² / 2) = 4e-14, and its
    # value at the border exp(-(25 / 2.5)² / 2) = 2e-22: both times a lever of at most 32 pixels.
    assert torch.allclose(velocity(blob(angle, side), "rotation"), expected, atol=1e-11, rtol=0)


def test_the_velocity_of_a_rotation_turns_with_the_image():
    for side in (7, 8):
        x = normal(2, 3, side, side)
        turned = velocity(torch.rot90(x, 1, (-2, -1)), "rotation")
        expected = torch.rot90(velocity(x, "rotation"), 1, (-2, -1))
        assert torch.allclose(turned, expected, atol=1e-12, rtol=0)


def test_signals_have_no_other_motion_than_to_the_right():
    x = normal(2, 1, 9)
    assert torch.equal(velocity(x, "right"), velocity(x[:, :, None], "right")[:, :, 0])
    for direction in ("down", "rotation"):
        with pytest.raises(ValueError, match=f"'{direction}' is no motion of 1-dimensional maps"):
            velocity(x, direction)


@pytest.mark.parametrize(
    ("maps", "stride"),
    [
        ([(28, 28)], 1),
        ([(28, 28), (14, 14), (7, 7)], 4),
        ([(28, 28), (24, 24), (4, 4)], None),  # cropped, then pooled: not 7
        ([(14, 28)], None),  # two strides
        ([(56, 56)], None),  # finer than the input
        ([(28,)], None),
    ],
)
def test_the_stride_is_told_by_sizes_that_all_divide(maps, stride):
    assert stride_by_sizes([torch.Size(m) for m in maps], torch.Size((28, 28))) == stride
