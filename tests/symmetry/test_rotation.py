"""Rotation, against torch.rot90, torchvision and a kernel written out by hand."""

import math

import numpy as np
import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.fourier import fourier_rotate
from udl_lab.symmetry.rotation import (
    RotationTable,
    check_interpolation,
    cyclic_order,
    rotate,
    rotation_index,
    same_angle,
)

INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "fourier"]
LOCAL = INTERPOLATIONS[:3]  # a pixel depends on its neighbours only
SIDES = [1, 2, 7, 8, 27, 28]
FILL = -0.4242
# No place of these angles lies half way between two pixels, so every rule for ties agrees.
UNTIED = [1.0, -7.3, 17.0, 44.0, 100.5, 123.4, -165.2]


def images(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(0, "images"), dtype=dtype)


def one_angle(x, degrees, interpolation, fill=FILL):
    angles = torch.full((len(x),), degrees, dtype=torch.float64)
    return rotate(x, angles, interpolation, fill)


def torchvision_rotate(x, degrees, interpolation):
    """Torchvision's rotation onto zeros."""
    from udl_lab.torchvision_repair import repair

    repair()
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import rotate as rotate_peer

    return rotate_peer(x, degrees, interpolation=InterpolationMode(interpolation))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multiples_of_90_degrees_are_rot90_bit_for_bit(side, interpolation, dtype):
    x = images(9, 2, side, side, dtype=dtype)
    turns = torch.arange(-4, 5)
    y = rotate(x, 90 * turns, interpolation, FILL)
    assert y.dtype == dtype
    for i, k in enumerate(turns.tolist()):
        assert torch.equal(y[i], torch.rot90(x[i], k, (-2, -1)))


def test_an_angle_that_misses_90_by_rounding_is_90():
    missed = -179.7 + 299 * 0.3
    assert missed != -90
    x = images(1, 1, 8, 8)
    for interpolation in INTERPOLATIONS:
        y = one_angle(x, missed, interpolation)
        assert torch.equal(y, torch.rot90(x, -1, (-2, -1)))


def test_positive_degrees_carry_a_dot_on_the_right_upwards():
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    x[0, 0, 10, 18] = 1.0  # 8 pixels right of the centre
    y = one_angle(x, 30.0, "bilinear", 0.0)
    places = torch.arange(21, dtype=torch.float64) - 10
    right = (y[0, 0].sum(0) * places).sum() / y.sum()
    up = -(y[0, 0].sum(1) * places).sum() / y.sum()
    # A spread dot keeps its place only to a fraction of a pixel.
    assert abs(right - 8 * math.cos(math.pi / 6)) < 0.25
    assert abs(up - 8 * math.sin(math.pi / 6)) < 0.25


@pytest.mark.parametrize("degrees", UNTIED)
@pytest.mark.parametrize("side", [7, 8, 27, 28])
def test_nearest_is_torchvisions_on_every_pixel(side, degrees):
    x = images(1, 2, side, side)
    expected = torchvision_rotate(x - FILL, degrees, "nearest") + FILL
    torch.testing.assert_close(one_angle(x, degrees, "nearest"), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("degrees", [*UNTIED, 30.0, 45.0, -135.0])
@pytest.mark.parametrize("side", [7, 8, 27, 28])
def test_bilinear_is_torchvisions_on_a_background_of_zero(side, degrees):
    # Given a fill, torchvision fades the border of the image twice; without one it does not.
    x = images(1, 2, side, side)
    expected = torchvision_rotate(x - FILL, degrees, "bilinear") + FILL
    # float64; places are known to 1e-14 pixels and neighbours differ by less than 10.
    torch.testing.assert_close(one_angle(x, degrees, "bilinear"), expected, rtol=0, atol=1e-12)


def keys(distance):
    """Keys' cubic convolution kernel (Keys 1981), with the a of torch."""
    t, a = abs(distance), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def tent(distance):
    return max(0.0, 1 - abs(distance))


@pytest.mark.parametrize(("interpolation", "kernel"), [("bicubic", keys), ("bilinear", tent)])
@pytest.mark.parametrize("degrees", [17.0, 45.0, -165.2])
def test_a_resampled_pixel_is_the_kernel_sum_over_the_image_on_an_endless_background(
    interpolation, kernel, degrees
):
    side, angle = 6, math.radians(degrees)
    x = images(1, 1, side, side)
    wide = np.full((side + 8, side + 8), FILL)
    wide[4:-4, 4:-4] = x[0, 0].numpy()
    expected = np.zeros((side, side))
    for row, column in np.ndindex(side, side):
        # Complex plane, y up: the content is multiplied by exp(+i angle).
        place = complex(column - 2.5, 2.5 - row) * np.exp(-1j * angle)
        weights_x = [kernel(place.real + 2.5 + 4 - j) for j in range(side + 8)]
        weights_y = [kernel(2.5 - place.imag + 4 - i) for i in range(side + 8)]
        expected[row, column] = np.array(weights_y) @ wide @ np.array(weights_x)
    y = one_angle(x, degrees, interpolation)[0, 0].numpy()
    # Weights sum to 1 only to rounding; values are of order 1.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def source_columns_and_rows(side, degrees):
    """Where each pixel comes from, as (column, row), by complex numbers with y up."""
    angle = math.radians(degrees)
    row, column = np.mgrid[:side, :side] - (side - 1) / 2
    place = (column - 1j * row) * np.exp(-1j * angle) + (side - 1) / 2 * (1 - 1j)
    return place.real, -place.imag


@pytest.mark.parametrize(("side", "degrees"), [(28, 45.0), (27, 30.0), (28, -135.0), (27, 60.0)])
def test_a_tie_goes_where_a_slightly_larger_angle_puts_it(side, degrees):
    column, row = source_columns_and_rows(side, degrees)
    tied = (np.abs(column % 1 - 0.5) < 1e-9) | (np.abs(row % 1 - 0.5) < 1e-9)
    assert tied.sum() >= side - 2  # these angles do have ties, so the next line says something
    now, later, before = (
        rotation_index(side, torch.tensor([degrees + by], dtype=torch.float64))
        for by in (0.0, 1e-6, -1e-6)
    )
    assert torch.equal(now, later)
    differ = (now != before).reshape(side, side).numpy()
    assert (differ & tied).any() and not (differ & ~tied).any()


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("degrees", [*UNTIED, 30.0, 45.0, 60.0])
def test_a_quarter_turn_before_or_after_a_nearest_rotation_adds_90_degrees(side, degrees):
    x = images(1, 1, side, side)
    total = one_angle(x, degrees + 90, "nearest")
    assert torch.equal(torch.rot90(one_angle(x, degrees, "nearest"), 1, (-2, -1)), total)
    assert torch.equal(one_angle(torch.rot90(x, 1, (-2, -1)), degrees, "nearest"), total)


@pytest.mark.parametrize("interpolation", LOCAL)
def test_the_corners_are_exactly_the_fill(interpolation):
    x = images(3, 2, 28, 28)
    y = one_angle(x, 45.0, interpolation, 7.25)
    corners = y[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert torch.equal(corners, torch.full_like(corners, 7.25))


@pytest.mark.parametrize("degrees", [17.0, 45.0, 60.0, -100.0])
def test_fourier_is_the_three_shears_but_for_exact_quarter_turns(degrees):
    x = images(3, 2, 9, 9)
    assert torch.equal(
        one_angle(x, degrees, "fourier"), fourier_rotate(x, torch.full((3,), degrees), fill=FILL)
    )
    mixed = rotate(x, torch.tensor([90.0, degrees, 0.0]), "fourier", FILL)
    assert torch.equal(mixed[0], x[0].rot90(1, (-2, -1))) and torch.equal(mixed[2], x[2])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("degrees", [17.0, 45.0])
def test_an_image_of_nothing_but_background_does_not_change(interpolation, degrees):
    x = torch.full((2, 1, 9, 9), FILL)
    assert torch.equal(one_angle(x, degrees, interpolation), x)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_images_of_a_batch_and_their_channels_do_not_see_each_other(interpolation):
    x = images(4, 3, 8, 8, dtype=torch.float32)
    degrees = torch.tensor([90.0, -13.0, 45.0, 0.0])
    y = rotate(x, degrees, interpolation, FILL)
    for i in range(4):
        for c in range(3):
            alone = rotate(x[i : i + 1, c : c + 1], degrees[i : i + 1], interpolation, FILL)
            # A transform of many images may add in another order: a few float32 roundings of 1e-7.
            atol = 1e-5 if interpolation == "fourier" else 0.0
            torch.testing.assert_close(y[i, c], alone[0, 0], rtol=0, atol=atol)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("degrees", [-90.0, 17.0])
def test_a_single_angle_turns_every_image(interpolation, degrees):
    x = images(4, 3, 8, 8)
    single = rotate(x, torch.tensor([degrees]), interpolation, FILL)
    assert torch.equal(single, one_angle(x, degrees, interpolation))


@pytest.mark.parametrize("side", [27, 28])
def test_the_table_is_rotate_for_each_of_its_720_angles(side):
    table = RotationTable(side, side, 0.5)
    x = images(1, 1, side, side).expand(720, 1, side, side)
    k = torch.arange(720)
    assert torch.equal(table.rotate(x, k, FILL), rotate(x, 0.5 * k, "nearest", FILL))
    assert torch.equal(table.rotate(x, -k, FILL), rotate(x, -0.5 * k, "nearest", FILL))


def test_the_table_takes_any_step_that_closes_a_full_turn_and_is_no_state():
    table = RotationTable(9, 9, 360 / 7)
    assert table.order == 7
    assert table.state_dict() == {}
    x = images(1, 2, 9, 9)
    once_round = table.rotate(x, torch.tensor([7]), FILL)
    assert torch.equal(once_round, x)


@pytest.mark.parametrize("step", [0.7, 0, -90, 400.0, 51.43])
def test_a_step_that_does_not_close_a_full_turn_is_refused_with_one_that_does(step):
    with pytest.raises(ValueError, match=f"steps of {step} degrees do not close") as error:
        RotationTable(8, 8, step)
    advice = float(str(error.value).split()[-1])
    assert cyclic_order(advice) * advice == pytest.approx(360)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="8 x 9 pixels"):
        one_angle(images(1, 1, 8, 9), 90.0, "nearest")
    with pytest.raises(ValueError, match="8 x 9 pixels"):
        RotationTable(8, 9, 90)


def test_angles_are_the_same_modulo_360_and_rounding():
    assert same_angle(-90, 270) and same_angle(0.1 + 0.2, 0.3) and same_angle(720, 0)
    assert not same_angle(90, 270) and not same_angle(1e-6, 0)


def test_a_misspelt_interpolation_is_refused_with_its_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'bilinear'"):
        check_interpolation("bilinaer")
    with pytest.raises(ValueError, match="'none'; choose from nearest, bilinear, bicubic, fourier"):
        check_interpolation("none")
    check_interpolation("none", also="none")
