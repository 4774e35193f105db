"""Rotation of images about their centre, by an angle per image, positive counter-clockwise.

Places are measured in pixels from the image centre, x to the right and y down: pixel (row, column)
of an image of side n lies at x = column - (n - 1)/2, y = row - (n - 1)/2.
"""

import difflib
import math
from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64, Real
from torch import Tensor, nn

from udl_lab.symmetry.fourier import fourier_rotate
from udl_lab.symmetry.pixels import Images, gather_pixels, pixel_index, quarter_turns

Interpolation = Literal["nearest", "bilinear", "bicubic", "fourier"]

# Angles this close are the same: sums such as -179.7 + 299 * 0.3 miss -90 by rounding alone.
_SAME_DEGREES = 1e-9

# Radians added to every angle before the nearest pixel is chosen (see `rotation_index`).
_TIE_BREAK = 1e-9


def rotate(
    x: Images, degrees: Real[Tensor, " #batch"], interpolation: Interpolation, fill: float
) -> Images:
    """Each image turned about its centre by its own angle in degrees, or all by a single one.

    Positive is counter-clockwise as displayed, the sense of `torch.rot90(x, 1, (-2, -1))`. The
    image lies on an endless background of value `fill`, which enters at the corners and is blended
    at the edges. Bicubic (Keys' kernel, a = -0.75) may overshoot the range of the image; Fourier
    (`fourier_rotate`) rings at edges and blurs least. Multiples of 90 degrees move whole pixels and
    resample nothing, whatever the interpolation.

    Raises:
        ValueError: when the images are not square.
    """
    side = square_side(*x.shape[-2:])
    degrees = degrees.to(x.device, torch.float64)
    if interpolation == "nearest":
        return gather_pixels(x, rotation_index(side, degrees).expand(len(x), -1), fill)
    quarters = torch.round(degrees / 90)
    rest = degrees - 90 * quarters
    turned = quarter_turns(x, quarters)
    exact = rest.abs() <= _SAME_DEGREES
    if interpolation == "fourier":
        sampled = fourier_rotate(x, degrees, fill=fill)
    else:
        sampled = _grid_sample(turned, rest, interpolation, fill)
    return torch.where(exact[:, None, None, None], turned, sampled)


def source_places(
    side: int, radians: Float64[Tensor, " angle"]
) -> tuple[Float64[Tensor, "angle side side"], Float64[Tensor, "angle side side"]]:
    """Where each pixel of a turned image comes from: (x, y), in pixels from the centre.

    The content turns by +a, so a pixel looks back by -a. With y down, that is
    x' = x cos a - y sin a and y' = x sin a + y cos a.
    """
    place = torch.arange(side, dtype=torch.float64, device=radians.device) - (side - 1) / 2
    cosine, sine = torch.cos(radians)[:, None] * place, torch.sin(radians)[:, None] * place
    return cosine[:, None, :] - sine[:, :, None], sine[:, None, :] + cosine[:, :, None]


def rotation_index(side: int, degrees: Float64[Tensor, " angle"]) -> Int64[Tensor, "angle pixel"]:
    """The nearest source pixel of each pixel, for `gather_pixels`; a row per angle.

    Ties: a place half way between two pixels (30 degrees for odd sides, 45 for even ones) takes the
    pixel it would take at a slightly larger angle, so no choice is left to rounding, and a further
    quarter turn, before or after, permutes the choices. It is done by turning 1e-9 radians further.
    That settles every tie: the squared distance r^2 of a pixel from the centre is whole for odd
    sides and 1/2 more than an even number for even ones, so where x is tied y^2 = r^2 - x^2 >= 1/2,
    and the place moves by 7e-10 pixels or more, against the 1e-14 of rounding.
    """
    x, y = source_places(side, torch.deg2rad(degrees) + _TIE_BREAK)
    centre = (side - 1) / 2
    row, column = (y + centre).round().long(), (x + centre).round().long()
    return pixel_index(row, column, side, side)


@final
class RotationTable(nn.Module):
    """The nearest-pixel rotations by multiples of `step_degrees`, a cyclic group, as a table.

    Looking an angle up instead of computing it makes a batch of 64 several times faster. The table
    takes 8 bytes per angle and pixel. It is no state: no checkpoint holds it.

    Raises:
        ValueError: when the images are not square, or the steps do not close a full turn.
    """

    index: Tensor

    def __init__(self, height: int, width: int, step_degrees: float | int):
        super().__init__()
        self.order = cyclic_order(step_degrees)
        degrees = torch.arange(self.order, dtype=torch.float64) * 360 / self.order
        index = rotation_index(square_side(height, width), degrees)
        self.register_buffer("index", index, persistent=False)

    def rotate(self, x: Images, k: Int64[Tensor, " batch"], fill: float) -> Images:
        """Each image turned by its `k` steps, taken modulo the order, so that -k undoes k's angle.

        The same, bit for bit, as `rotate(x, k * step_degrees, "nearest", fill)`.
        """
        rows = torch.remainder(k.to(self.index.device), self.order)
        return gather_pixels(x, self.index.index_select(0, rows), fill)


def cyclic_order(step_degrees: float | int) -> int:
    """How many steps make a full turn.

    Raises:
        ValueError: when no whole number of steps does.
    """
    order = round(360 / step_degrees) if 0 < step_degrees <= 360 else 0
    if order == 0 or not same_angle(order * step_degrees, 360):
        near = max(1, order)
        raise ValueError(
            f"steps of {step_degrees} degrees do not close a full turn; "
            f"use 360/n for a whole n, for example {360 / near:.12g} or {360 / (near + 1):.12g}"
        )
    return order


def square_side(height: int, width: int) -> int:
    """The side of a square image, in pixels.

    Raises:
        ValueError: when it is not square.
    """
    if height != width:
        raise ValueError(
            f"an image of {height} x {width} pixels does not turn into its own frame; "
            f"pad or crop it to a square"
        )
    return height


def same_angle(degrees: float | int, other: float | int) -> bool:
    """Whether two angles in degrees are one rotation: equal modulo 360, but for rounding."""
    return abs(math.remainder(degrees - other, 360)) <= _SAME_DEGREES


def check_interpolation(name: str, also: str | None = None) -> None:
    """Refuse a name that is neither an interpolation nor `also`.

    Raises:
        ValueError: naming the nearest valid name.
    """
    known = [*get_args(Interpolation), *([also] if also else [])]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown interpolation {name!r}; {guess}choose from {', '.join(known)}")


def _grid_sample(x, degrees, interpolation, fill):
    """Each image resampled from the four or sixteen pixels around a place."""
    # grid_sample (align_corners=False) measures places in half sides from the centre.
    side = x.shape[-1]
    places = torch.stack(source_places(side, torch.deg2rad(degrees)), dim=-1) * (2 / side)
    places = places.to(x.dtype).expand(len(x), -1, -1, -1)
    # Its padding is zero, so `fill` is made the zero of the image, and put back afterwards.
    return F.grid_sample(x - fill, places, mode=interpolation, align_corners=False) + fill
