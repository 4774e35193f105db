"""How symmetries move maps: what an element does to pixels, found by looking, and to layers.

The rules are exact: either every place of a layer moves whole, or there is a reason why not.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any

import torch
from torch import Tensor

from udl_lab.probes.windows import Geometry, Step
from udl_lab.symmetry.action import Action


class Cause(StrEnum):
    """Why a layer is not exact, or not known to be."""

    PADDING = "padding that does not wrap"
    OPEN_BORDER = "no windows across the border"
    OVERLAP = "map longer than the circle"
    SHIFT_OFF_STRIDE = "shift is no multiple of the stride"
    ZERO_FILL = "zero-fill shift is not a group"
    STRIDE_PARITY = "stride parity"
    POOLING_REMAINDER = "pooling remainder"
    NOT_SQUARE = "map is not square"
    EVEN_KERNEL = "even kernel is not centred"
    UNEQUAL_AXES = "axes are treated differently"
    KERNEL = "kernel is not symmetric"
    WEIGHTS = "depends on the weights"
    FLATTEN = "flattened map"
    BATCH_STATISTICS = "batch statistics"
    DROPOUT = "dropout in train mode"
    INTERPOLATION = "fractional angle"
    UPSTREAM = "broken upstream"
    UNKNOWN = "unknown"


# A later layer may drop the odd place, or treat the other axis in turn.
REPAIRABLE = (Cause.OVERLAP, Cause.EVEN_KERNEL, Cause.UNEQUAL_AXES, Cause.NOT_SQUARE)


@dataclass(frozen=True)
class Reason:
    """A cause, and the numbers or the place that make it one."""

    cause: Cause
    detail: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}"


@dataclass(frozen=True)
class Shift:
    """A move by whole places along each axis: (down, right) for images."""

    pixels: tuple[int, ...]
    wraps: bool  # what leaves on one side enters on the other; or else it is lost

    def is_trivial(self, sides: tuple[int, ...]) -> bool:
        """Whether it moves nothing of a map of these sides."""
        return self.wraps and all(p % s == 0 for p, s in zip(self.pixels, sides, strict=True))

    def apply(self, x: Tensor) -> Tensor:
        """The map in the last axes of `x`, moved; what enters a shift that does not wrap is 0."""
        axes = tuple(range(-len(self.pixels), 0))
        moved = x.roll(self.pixels, axes)
        if not self.wraps:
            for axis, pixels in zip(axes, self.pixels, strict=True):
                entered = slice(0, pixels) if pixels >= 0 else slice(pixels, None)
                moved.movedim(axis, 0)[entered] = 0
        return moved


@dataclass(frozen=True)
class Isometry:
    """A symmetry of the square or of the line: the axes swapped, if `transposed`, then mirrored."""

    mirrored: tuple[bool, ...]
    transposed: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that it moves."""
        return tuple(a for a, mirrored in enumerate(self.mirrored) if mirrored or self.transposed)

    def is_trivial(self, sides: tuple[int, ...]) -> bool:
        """Whether it moves nothing of a map of these sides."""
        return all(sides[axis] == 1 for axis in self.axes)

    def apply(self, x: Tensor) -> Tensor:
        """The map in the last axes of `x`, moved."""
        x = x.transpose(-1, -2) if self.transposed else x
        rank = len(self.mirrored)
        return x.flip([a - rank for a, mirrored in enumerate(self.mirrored) if mirrored])

    def keeps(self, kernel: Tensor) -> bool:
        """Whether a kernel is its own image, but for rounding."""
        moved = self.apply(kernel)
        rounding = 8 * torch.finfo(kernel.dtype).eps * kernel.abs().max()
        return moved.shape == kernel.shape and bool(((moved - kernel).abs() <= rounding).all())


Motion = Shift | Isometry


def motion_of(action: Action[Any], element: Any, sides: tuple[int, ...]) -> Motion | None:
    """The motion that an exact element is, by what it does to numbered pixels; None for another.

    On sides of one or two pixels, where a motion has several names, a turn or mirror image wins.

    Raises:
        ValueError: as the action does, when it refuses images of these sides.
    """
    numbers = torch.arange(1, 1 + torch.Size(sides).numel(), dtype=torch.float64)
    image = numbers.reshape(1, 1, *sides)
    moved = action.apply(image, element, 0.0)
    turns = (False, True) if len(sides) == 2 else (False,)
    candidates: list[Motion] = [
        Isometry(mirrored, transposed)
        for transposed, mirrored in product(turns, product((False, True), repeat=len(sides)))
    ]
    if moved.any():
        # Where the first pixel that is left went tells by how much all have moved.
        here = (moved != 0).nonzero()[0]
        there = (image == moved[tuple(here)]).nonzero()[0]
        pixels = tuple((here - there)[2:].tolist())
        around = tuple((p + s // 2) % s - s // 2 for p, s in zip(pixels, sides, strict=True))
        candidates += [Shift(around, wraps=True), Shift(pixels, wraps=False)]
    for motion in candidates:
        expected = motion.apply(image)
        if expected.shape == moved.shape and torch.equal(expected, moved):
            return motion
    return None


def passed(
    step: Step, before: Geometry, after: Geometry, motion: Motion, of_pixels: Motion
) -> Motion | Reason:
    """How a map moves after an operation, or why it then does not move as a whole.

    Args:
        step: the operation, on a map.
        before: the geometry of the map.
        after: the geometry of what the operation makes of it.
        motion: of the map.
        of_pixels: the motion of the network's input that is behind it.
    """
    if step.kind == "flatten":
        if motion.is_trivial(before.sides):
            return motion
        detail = f"places of a map of {before.sides} become features; only a learned action is left"
        return Reason(Cause.FLATTEN, detail)
    if not step.windows:
        return motion
    if isinstance(motion, Isometry):
        return _turned(step, before, after, motion)
    assert isinstance(motion, Shift) and isinstance(of_pixels, Shift)
    if motion.wraps:
        return _rolled(step, before, after, motion)
    return _filled(step, before, after, of_pixels)


def _rolled(step: Step, before: Geometry, after: Geometry, shift: Shift) -> Shift | Reason:
    """A circular shift: the windows have to close the circle, in whole steps."""
    moved = []
    for axis, (side, window, pixels) in enumerate(
        zip(before.sides, step.windows, shift.pixels, strict=True)
    ):
        if pixels % side == 0 or step.pools_axis(axis, side):
            moved.append(0)
            continue
        if window.padded and window.padding_mode != "circular":
            detail = (
                f"{window.before} + {window.after} places of {window.padding_mode} on axis {axis}"
            )
            return Reason(Cause.PADDING, detail)
        if side % window.stride:
            cause = Cause.POOLING_REMAINDER if step.kind == "pool" else Cause.OPEN_BORDER
            return Reason(cause, f"a side of {side} is no multiple of the stride {window.stride}")
        n = after.sides[axis]
        # The first is without the window that `ceil_mode` adds, which does not wrap.
        if not window.side_after(side) == n == side // window.stride:
            cause = Cause.OVERLAP if n * window.stride > side else Cause.OPEN_BORDER
            return Reason(cause, f"windows of {window.size} make {n} of {side} places")
        if pixels % window.stride:
            detail = f"{shift.pixels} places of the layer before, stride {window.stride}"
            return Reason(Cause.SHIFT_OFF_STRIDE, detail)
        moved.append(pixels // window.stride)
    return Shift(tuple(moved), wraps=True)


def _filled(step: Step, before: Geometry, after: Geometry, shift: Shift) -> Shift | Reason:
    """A zero-fill shift of the input: only places that no border reaches can move whole."""
    for axis, (side, pixels) in enumerate(zip(before.sides, shift.pixels, strict=True)):
        if pixels and step.pools_axis(axis, side):
            return Reason(Cause.ZERO_FILL, "a global pooling sees what leaves and enters")
        if after.spatial and pixels % after.stride[axis]:
            detail = f"{pixels} pixels, stride {after.stride[axis]} on axis {axis}"
            return Reason(Cause.SHIFT_OFF_STRIDE, detail)
    if after.spatial and any(part.start == part.stop for part in after.interior(shift.pixels)):
        return Reason(Cause.ZERO_FILL, "every place sees the border")
    return shift


def _turned(step: Step, before: Geometry, after: Geometry, motion: Isometry) -> Isometry | Reason:
    """A turn or mirror image: it has to map windows on windows, and the kernel on itself."""
    sides = before.sides
    ends = after.sides or (1,) * len(sides)  # a map pooled as a whole is one place
    if motion.is_trivial(sides) and motion.is_trivial(ends):
        return motion
    if motion.transposed and (sides[0] != sides[1] or ends[0] != ends[1]):
        return Reason(Cause.NOT_SQUARE, f"a map of {sides} gives one of {ends}")
    if motion.transposed and step.windows[0] != step.windows[1]:
        return Reason(Cause.UNEQUAL_AXES, f"{step.windows[0]} against {step.windows[1]}")
    for axis in (axis for axis, mirrored in enumerate(motion.mirrored) if mirrored):
        side, window = sides[axis], step.windows[axis]
        if side == ends[axis] == 1:
            continue
        if window.before != window.after:
            detail = f"padding {window.before} before and {window.after} after axis {axis}"
            return Reason(Cause.EVEN_KERNEL, detail)
        if window.left_over(side):
            cause = Cause.POOLING_REMAINDER if step.kind == "pool" else Cause.STRIDE_PARITY
            return Reason(
                cause,
                f"({side} + {window.before + window.after} - {window.size}) mod {window.stride} "
                f"= {window.left_over(side)} on axis {axis}",
            )
    if step.kind == "windows":
        return Reason(Cause.WEIGHTS, "what this module computes in its windows is not known")
    if step.kernel is not None and not motion.keeps(step.kernel):
        return Reason(Cause.KERNEL, "a convolution commutes with shifts, not with this")
    return motion
