"""Band-limited shifts, derivatives and rotations, against closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from udl_lab.randomness import generator
from udl_lab.symmetry.fourier import (
    fourier_derivative,
    fourier_rotate,
    fourier_shift,
    fourier_shift_along,
)
from udl_lab.symmetry.rotation import rotate

# Torch 2.13 loads its forward-mode derivatives through its own deprecated torch.jit.script.
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

ROUNDING = 1e-12  # float64 sums of at most a few thousand terms of order 1


def images(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(0, "images"), dtype=dtype)


def waves(height, width, across, down, right=0.0, below=0.0):
    """A product of a wave along each axis, moved by (right, below) pixels."""
    u = torch.arange(width, dtype=torch.float64) - right
    v = torch.arange(height, dtype=torch.float64)[:, None] - below
    x = torch.sin(2 * math.pi * across * u / width + 0.3)
    y = torch.cos(2 * math.pi * down * v / height - 0.7)
    return (x * y)[None, None]


def without_nyquist(x):
    """The images without the components that change sign from pixel to pixel."""
    for dim in (-1, -2):
        if x.shape[dim] % 2 == 0:
            sign = (-1.0) ** torch.arange(x.shape[dim], dtype=torch.float64)
            sign = sign if dim == -1 else sign[:, None]
            x = x - sign * (x * sign).mean(dim, keepdim=True)
    return x


def assert_close(a, b, atol=ROUNDING):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize(("height", "width"), [(8, 10), (7, 10), (9, 9)])
@pytest.mark.parametrize(("right", "down"), [(0.5, 0.0), (-1.37, 2.81), (0.0, 13.1)])
def test_a_shifted_wave_is_the_wave_read_elsewhere(height, width, right, down):
    for across, along in ((0, 1), (2, 3), (4, 3)):
        x = waves(height, width, across, along)
        expected = waves(height, width, across, along, right, down)
        assert_close(fourier_shift(x, right, down), expected)


@pytest.mark.parametrize("sides", [(8, 10), (7, 9), (7, 10)])
def test_a_shift_by_whole_pixels_is_a_roll(sides):
    x = images(2, 3, *sides)
    assert_close(fourier_shift(x, 3, -2), x.roll((3, -2), (-1, -2)))


@pytest.mark.parametrize("sides", [(8, 10), (7, 9)])
def test_there_and_back_damps_the_nyquist_component_alone(sides):
    x = images(2, 1, *sides)
    smooth = without_nyquist(x)
    assert_close(fourier_shift(fourier_shift(smooth, 0.3, 1.6), -0.3, -1.6), smooth)
    across = fourier_shift(fourier_shift(x, 0.3, 0.0), -0.3, 0.0)
    sign = (-1.0) ** torch.arange(sides[1], dtype=torch.float64)
    nyquist = sign * (x * sign).mean(-1, keepdim=True) * (sides[1] % 2 == 0)
    assert_close(across, x + (math.cos(math.pi * 0.3) ** 2 - 1) * nyquist)


def test_shifts_by_parts_of_a_pixel_add_up():
    x = without_nyquist(images(2, 1, 8, 10))
    twice = fourier_shift(fourier_shift(x, 0.4, -0.9), 0.75, 0.3)
    assert_close(twice, fourier_shift(x, 1.15, -0.6))


def test_images_may_each_move_by_their_own_distance_and_precision_is_kept():
    x = images(3, 2, 8, 10)
    right = torch.tensor([0.5, -1.0, 2.25])
    down = torch.tensor([0, 1, 2])
    y = fourier_shift(x, right, down)
    for i in range(3):
        alone = fourier_shift(x[i : i + 1], float(right[i]), int(down[i]))
        assert_close(y[i : i + 1], alone)
    assert fourier_shift(x.float(), right, down).dtype == torch.float32


def test_signals_are_shifted_along_any_axis():
    x = images(2, 3, 40)
    assert_close(fourier_shift_along(x, 7, 2), x.roll(7, 2))
    assert_close(fourier_shift_along(x, 1.0, 1), x.roll(1, 1))
    rows = torch.tensor([1.0, 2.0, 3.0])[:, None]
    y = fourier_shift_along(x, rows, -1)
    for i in range(3):
        assert_close(y[:, i], x[:, i].roll(i + 1, -1))


@pytest.mark.parametrize("n", [9, 12])
def test_the_derivative_of_a_wave_is_known(n):
    u = torch.arange(n, dtype=torch.float64)
    for k in range((n + 1) // 2):
        rate = 2 * math.pi * k / n
        x, dx = torch.sin(rate * u + 0.4), rate * torch.cos(rate * u + 0.4)
        assert_close(fourier_derivative(x, 0), dx)
        assert_close(fourier_derivative(x.expand(2, 3, n).mT.contiguous(), 1)[0, :, 1], dx)


def test_the_derivative_of_the_nyquist_component_is_zero():
    x = (-1.0) ** torch.arange(12, dtype=torch.float64)
    assert_close(fourier_derivative(x, 0), torch.zeros(12, dtype=torch.float64))


def lie_derivative(f, x, back=True):
    """d/dt of f on shifted images at t = 0, the output shifted back where it is an image."""

    def moved(t):
        y = f(fourier_shift(x, t, 0.0))
        return fourier_shift(y, -t, 0.0) if back else y

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return torch.func.jvp(moved, (zero,), (one,))[1]


@forward_mode
def test_the_lie_derivative_of_the_identity_is_zero():
    x = images(2, 1, 16, 16)
    # Of order 1 without the shift back; what is left is rounding.
    assert lie_derivative(lambda y: y, x, back=False).abs().mean() > 1
    assert_close(lie_derivative(lambda y: y, x), torch.zeros_like(x), atol=1e-14)


@forward_mode
@pytest.mark.parametrize("m", [5, 10, 15, 17, 20, 25])
def test_the_lie_derivative_of_a_square_is_its_aliasing(m):
    """Sin^2 has 2m cycles; over N/2 they alias to N - 2m: RMS pi/sqrt(2), whatever m."""
    n = 64
    u = torch.arange(n, dtype=torch.float64)
    x = torch.sin(2 * math.pi * m * u / n).expand(1, 1, 1, n)
    rms = lie_derivative(torch.square, x).square().mean().sqrt()
    assert float(rms) == pytest.approx(0 if 2 * m < n / 2 else math.pi / math.sqrt(2), abs=ROUNDING)


@forward_mode
def test_a_linear_functional_changes_by_the_derivative_of_the_image():
    x, w = images(3, 2, 9, 12), torch.randn(2, 9, 12, generator=generator(1), dtype=torch.float64)

    def functional(y):
        return (y * w).sum((1, 2, 3))

    expected = -functional(fourier_derivative(x, -1))
    assert_close(lie_derivative(functional, x, back=False), expected, atol=1e-11)
    h = 1e-4
    difference = functional(fourier_shift(x, h, 0.0)) - functional(fourier_shift(x, -h, 0.0))
    # Central: h^2/6 times a third derivative of order 1e3 and rounding 1e-14/h.
    assert_close(difference / (2 * h), expected, atol=1e-5)


def blob(n, centre, width):
    """A Gaussian spot at (right, up) of the centre, narrow in frequency and in space."""
    place = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    right, up = centre
    x = torch.exp(-((place - right) ** 2) / (2 * width**2))
    y = torch.exp(-((-place - up) ** 2) / (2 * width**2))
    return (y[:, None] * x)[None, None]


@pytest.mark.parametrize("n", [31, 32])
@pytest.mark.parametrize("degrees", [5.0, 30.0, -45.0, 60.0, -75.0, 135.0, 200.0])
def test_a_smooth_spot_goes_counter_clockwise_to_where_it_belongs(n, degrees):
    angle = math.radians(degrees)
    spot = (7 * math.cos(angle) + 2 * math.sin(angle), 7 * math.sin(angle) - 2 * math.cos(angle))
    y = fourier_rotate(blob(n, (7, -2), 1.8), degrees)
    # A spot of width 1.8 has exp(-(1.8 pi)^2 / 2) = 1e-7 of its transform beyond Nyquist, and
    # shears use up to 1.4 times the band: exp(-(1.8 pi / 1.4)^2 / 2) = 3e-4 at worst.
    assert (y - blob(n, spot, 1.8)).abs().max() < 3e-4


def test_each_image_turns_by_its_own_angle_on_its_background():
    x = images(4, 2, 9, 9)
    degrees = torch.tensor([12.0, -60.0, 90.0, 217.0])
    y = fourier_rotate(x, degrees, fill=0.5)
    for i in range(4):
        assert_close(y[i : i + 1], fourier_rotate(x[i : i + 1] - 0.5, float(degrees[i])) + 0.5)
    flat = torch.full((1, 1, 9, 9), -0.4242)
    assert torch.equal(fourier_rotate(flat, 33.0, fill=-0.4242), flat)


@forward_mode
def test_quarter_turns_are_rot90_to_rounding_and_keep_their_derivative():
    x = blob(24, (4, 3), 2.0)
    for k in (-1, 0, 1, 2, 3):
        assert_close(fourier_rotate(x, 90 * k), torch.rot90(x, k, (-2, -1)))
        degrees, one = torch.tensor([90.0 * k]).double(), torch.ones(1).double()
        rate = torch.func.jvp(lambda d: fourier_rotate(x, d), (degrees,), (one,))[1]
        h = 1e-3
        difference = (fourier_rotate(x, 90 * k + h) - fourier_rotate(x, 90 * k - h)) / (2 * h)
        assert rate.abs().max() > 0.01
        assert_close(rate, difference, atol=1e-8)


def relative(a, b):
    return float(((a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).mean())


@pytest.fixture(scope="module")
def digits(mnist_root):
    from udl_lab.data.mnist import mnist

    return mnist(mnist_root).test.x[:100].double()


@pytest.mark.parametrize("degrees", [5.0, 30.0, 45.0])
def test_digits_come_back_from_a_turn_on_their_canvas(digits, degrees):
    """Measured elsewhere on 500 digits: 0.017 to 0.019 on 56 x 56 pixels."""
    wide = F.pad(digits, (14,) * 4)
    back = fourier_rotate(fourier_rotate(wide, degrees, canvas=1), -degrees, canvas=1)
    assert 0.015 < relative(back[..., 14:-14, 14:-14], digits) < 0.020


@pytest.mark.parametrize("degrees", [5.0, 30.0, 45.0, 60.0, -100.0, 160.0])
def test_cropping_between_turns_costs_little_and_bilinear_ten_times_as_much(digits, degrees):
    angle = torch.tensor([degrees])

    def round_trip(interpolation):
        back = rotate(rotate(digits, angle, interpolation, 0.0), -angle, interpolation, 0.0)
        return relative(back, digits)

    assert round_trip("fourier") < 0.03 and round_trip("bilinear") > 0.19


def test_a_canvas_smaller_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"canvas: 0.5 is smaller .* such as 2"):
        fourier_rotate(images(1, 1, 8, 8), 10.0, canvas=0.5)
