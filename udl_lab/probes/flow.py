"""What a layer does, and what it should do, at the first instant of a motion of the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.symmetry.fourier import fourier_derivative

Direction = Literal["right", "down", "rotation"]

Maps = Float[Tensor, "batch channel *sides"]  # signals or images


@dataclass(frozen=True)
class Flow:
    """How one layer changes at the first instant of the motion, for each image of a batch."""

    value: Float[Tensor, " batch *units"]  # f(x)
    changed: Float[Tensor, " batch *units"]  # J_f(x) v(x): what the layer does
    carried: Float[Tensor, " batch *units"]  # v'(f(x)): what it would do if it moved along
    note: str  # the layer's stride and its source
    spatial: bool  # whether the layer has places; without them, it should not change at all
    reason: str = ""  # why there is no Lie derivative; the numbers are then nan

    @property
    def error(self) -> Float[Tensor, " batch *units"]:
        """The Lie derivative, per pixel or per radian."""
        return self.changed - self.carried


def velocity(x: Maps, direction: Direction) -> Maps:
    """d/dt at t = 0 of signals or images moved by t, on a periodic frame.

    "right" and "down" per pixel, "rotation" per radian counter-clockwise as displayed, about the
    centre of the frame: u d/d(down) - w d/d(right) at u pixels right of the centre and w below it.
    A rotation is not periodic: at the borders it is meaningful only where the image is flat.

    Raises:
        ValueError: for an unknown direction, or one that needs images and got signals.
    """
    if direction == "right":
        return -fourier_derivative(x, -1)
    if direction not in ("down", "rotation") or x.ndim < 4:
        raise ValueError(
            f"direction {direction!r} is no motion of {x.ndim - 2}-dimensional maps; use 'right' "
            "for signals, and 'right', 'down' or 'rotation' for images"
        )
    if direction == "down":
        return -fourier_derivative(x, -2)
    height, width = x.shape[-2:]
    below, right = (torch.arange(n, dtype=x.dtype, device=x.device) for n in (height, width))
    below, right = below[:, None] - (height - 1) / 2, right - (width - 1) / 2
    return right * fourier_derivative(x, -2) - below * fourier_derivative(x, -1)


def flow_of(
    value: Tensor,
    changed: Tensor,
    frame: torch.Size,
    direction: Direction,
    stride: int | None,
    by_sizes: int | None,
) -> Flow:
    """What a layer does beside what it should do.

    Args:
        value: f(x).
        changed: J_f(x) v(x).
        frame: the sides of the input.
        direction: of the motion.
        stride: of the layer, as the user gave it.
        by_sizes: of the layer, as the sizes tell it.
    """
    sides = value.shape[2:]
    if sides.numel() == 1:  # features, or a map of one place
        return Flow(value, changed, torch.zeros_like(value), "no places: invariance", False)
    if len(sides) != len(frame):
        return without(value, f"its layout {tuple(value.shape[1:])} is not that of the input")
    own = velocity(value, direction)
    if direction == "rotation":  # by the same angle on grids of every stride
        same_shape = len({Fraction(n, side) for n, side in zip(frame, sides, strict=True)}) == 1
        if stride or same_shape:
            return Flow(value, changed, own, "about the centre of its own map", True)
    elif pixels := stride or by_sizes:
        note = f"stride {pixels}, {'as given' if stride else 'from the sizes'}"
        return Flow(value, changed, own / pixels, note, True)
    ours, theirs = (" x ".join(map(str, lengths)) for lengths in (sides, frame))
    return without(value, f"sides {ours} for an input of {theirs} tell no stride: name it")


def stride_by_sizes(maps: Sequence[torch.Size], frame: torch.Size) -> int | None:
    """The stride of the last map, if the sides of every map so far divide the input's alike.

    Of every map, because one that was cropped hides in the sizes of later ones: from 28 by 24 to 4
    pixels is no stride of 7.
    """
    stride = None
    for sides in maps:
        if len(sides) != len(frame):
            return None
        ratios = {Fraction(n, side) for n, side in zip(frame, sides, strict=True)}
        stride = int(min(ratios))
        if ratios != {stride}:
            return None
    return stride


def without(value: Tensor, reason: str) -> Flow:
    """No Lie derivative, told by nan: 0 would read as perfect."""
    nothing = torch.full(value.shape, torch.nan, dtype=torch.float64, device=value.device)
    return Flow(nothing, nothing, nothing, "", False, f"no Lie derivative: {reason}")
