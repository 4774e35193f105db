"""Circular shifts by parts of a pixel."""

import math

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.fourier import fourier_shift
from udl_lab.symmetry.fractional import FractionalShifts

X = torch.randn(2, 3, 7, 8, generator=generator(0, "images"))


def test_whole_pixels_are_rolled_bit_for_bit_and_the_rest_is_fouriers():
    action = FractionalShifts([[1, -2], [0.5, 0.25], [0.5, 3]])
    assert action.interpolation == "fourier"
    assert [action.exact(g) for g in action.elements()] == [True, False, False]
    assert torch.equal(action.apply(X, (1.0, -2.0), 0.0), X.roll((1, -2), (-1, -2)))
    assert torch.equal(action.apply(X, (0.5, 0.25), 0.0), fourier_shift(X, 0.5, 0.25))
    rolled = fourier_shift(X, 0.5, 0.0).roll(3, -2)
    # Both axes go through a transform in one of the two; float32.
    torch.testing.assert_close(action.apply(X, (0.5, 3.0), 0.0), rolled, rtol=0, atol=1e-5)


def test_a_wave_in_a_signal_is_read_between_its_samples():
    u = torch.arange(40, dtype=torch.float64)
    wave = torch.sin(2 * math.pi * 3 * u / 40)[None, None]
    moved = torch.sin(2 * math.pi * 3 * (u - 0.7) / 40)[None, None]
    action = FractionalShifts([[0.7]])
    torch.testing.assert_close(action.apply(wave, (0.7,), 0.0), moved, rtol=0, atol=1e-13)


def test_sums_that_miss_whole_pixels_by_rounding_are_whole():
    action = FractionalShifts([[0.1], [0.3], [0.6]])
    assert 0.6 + 0.3 + 0.1 != 1
    assert action.compose(action.compose((0.6,), (0.3,)), (0.1,)) == (1.0,)
    assert action.exact((1.0,))
    assert action.inverse((0.6,)) == (-0.6,)
    assert str(action.compose((-0.6,), (0.6,))) == "(0.0,)"  # no negative zero
    assert action.label((0.1 + 0.2,)) == "right0.3"


def test_every_real_shift_divides_by_every_stride():
    action = FractionalShifts([[2, 1]])
    assert action.restrict((2.0, 1.0), 2) == (1.0, 0.5)
    assert not action.exact((1.0, 0.5))


def test_a_list_of_whole_pixels_resamples_nothing():
    assert FractionalShifts([[1, 2], [3, 0]]).interpolation == "none"
    assert not FractionalShifts([[1, 2], [3, 0]]).is_group


@pytest.mark.parametrize(
    ("shifts", "interpolation", "message"),
    [
        ([], "fourier", "the list is empty"),
        ([[0.0, 0]], "fourier", "is the identity"),
        ([[1e-12, 0]], "fourier", "is the identity"),
        ([[0.5], [0.5]], "fourier", "are the same"),
        ([[0.5], [0.5, 1]], "fourier", r"\[0.5, 1\] is no shift"),
        ([[float("inf")]], "fourier", "inf is no number of pixels"),
        ([[0.5]], "none", r"shift of \[0.5\] pixels resamples"),
    ],
)
def test_shifts_that_make_no_family_are_refused(shifts, interpolation, message):
    with pytest.raises(ValueError, match=message):
        FractionalShifts(shifts, interpolation)
