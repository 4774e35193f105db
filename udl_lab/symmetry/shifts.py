"""Circular shifts of images and signals by whole pixels: what leaves at one side enters opposite.

A shift is a pair (right, down) of an image, or a single number (right,) of a signal.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.symmetry.action import Action, require_stride
from udl_lab.symmetry.groups import Shifts

Grids = Float[Tensor, "batch channel *sides"]
Shift = tuple[int, ...]


@final
@dataclass(frozen=True)
class CircularShifts(Action[Shift]):
    """Circular shifts, listed as [[right, down], ...] for images or [[right], ...] for signals.

    All exact. Which lists are closed depends on the size of the grid: without `sizes` the shifts
    add up as whole numbers and no list is a group. With them each shift is replaced by the shortest
    that does the same ([39] of 40 pixels is [-1]), and `shifts: all` lists every one.

    Args:
        shifts: the shifts in pixels; "all" for every one but the identity.
        sizes: [width, height] or [length] of the input, in the order of a shift.

    Raises:
        ValueError: for no shift, shifts of different or other lengths than 1 and 2, the identity,
            two shifts that do the same, and "all" without sizes.
    """

    shifts: Sequence[Sequence[int]] | Literal["all"]
    sizes: Sequence[int] | None = None
    name: ClassVar[str] = "circular shift"

    def __post_init__(self):
        if self.sizes is not None:
            object.__setattr__(self, "sizes", Shifts(self.sizes).sizes)
        shifts = self._all() if self.shifts == "all" else self.shifts
        object.__setattr__(self, "shifts", tuple(self._shortest(shift) for shift in shifts))
        require_shifts(self.elements(), shifts)

    @property
    def identity(self) -> Shift:
        return (0,) * len(self.elements()[0])

    @property
    def is_group(self) -> bool:
        """Whether `sizes` is stated and the shifts and the identity are closed on such a grid."""
        if self.sizes is None:
            return False
        group = {self.identity, *self.elements()}
        if math.prod(self.sizes) % len(group):
            return False  # Lagrange: no subgroup has this order
        whole = len(group) == math.prod(self.sizes)
        return whole or all(self.compose(g, h) in group for g in group for h in group)

    def elements(self) -> list[Shift]:
        return list(self.shifts)  # pyright: ignore[reportReturnType]  # tuples, once it is made

    def label(self, element: Shift) -> str:
        return compass_label(element)

    def apply(self, x: Grids, element: Shift, fill: float) -> Grids:
        """Every image or signal rolled; `fill` is not used, nothing enters from outside.

        Raises:
            ValueError: for a shift with fewer or more numbers than the grid has axes.
        """
        return torch.roll(x, element, axes_of(element, x))

    def inverse(self, element: Shift) -> Shift:
        return self._shortest([-pixels for pixels in element])

    def compose(self, g: Shift, h: Shift) -> Shift:
        return self._shortest([a + b for a, b in zip(g, h, strict=True)])

    def restrict(self, element: Shift, stride: int) -> Shift:
        """The shift of a layer of this stride, in the layer's own pixels.

        Raises:
            ValueError: when the stride divides neither the shift nor, if stated, the sizes.
        """
        require_stride(stride)
        for size in self.sizes or ():
            if size % stride:
                raise ValueError(
                    f"a side of {size} pixels is not a multiple of the layer's stride {stride}, so "
                    f"circular shifts do not reach the layer; crop to {size - size % stride}"
                )
        return divided(element, stride)

    def _all(self) -> list[Shift]:
        if self.sizes is None:
            raise ValueError("shifts: all needs the sizes of the grid, for example sizes: [40]")
        return list(itertools.product(*map(range, self.sizes)))[1:]

    def _shortest(self, shift: Sequence[int]) -> Shift:
        """The same shift by at most half a side: in (-n/2, n/2], if the sides are known."""
        if self.sizes is None:
            return tuple(shift)
        if len(shift) != len(self.sizes):
            raise ValueError(
                f"shifts: {list(shift)} and sizes: {list(self.sizes)} differ in length; "
                f"give one size for each number of a shift"
            )
        return tuple(n // 2 - (n // 2 - a) % n for a, n in zip(shift, self.sizes, strict=True))


def compass_label(shift: Sequence[float | int]) -> str:
    """A shift in words, such as "right2up1" for (2, -1) and "left0.5" for (-0.5,)."""
    words = (("right", "left"), ("down", "up"))
    parts = [
        f"{ahead if pixels > 0 else back}{abs(pixels):.10g}"
        for pixels, (ahead, back) in zip(shift, words, strict=False)
        if pixels
    ]
    return "".join(parts) or "identity"


def divided(shift: Shift, stride: int) -> Shift:
    """The shift of a feature map of this cumulative stride, in its own pixels. Never rounded.

    Raises:
        ValueError: when the stride does not divide the shift.
    """
    require_stride(stride)
    for pixels in shift:
        if pixels % stride:
            raise ValueError(
                f"a shift of {abs(pixels)} pixel{'s' * (abs(pixels) > 1)} is not a multiple of the "
                f"layer's stride {stride}; use {stride}, {2 * stride} ..."
            )
    return tuple(pixels // stride for pixels in shift)


def axes_of(shift: Sequence[float | int], x: Grids) -> list[int]:
    """The axes that the numbers of a shift move: the last for right, the one before for down.

    Raises:
        ValueError: when the grid has fewer or more axes.
    """
    if x.ndim - 2 != len(shift):
        raise ValueError(
            f"a shift {list(shift)} does not fit a tensor of shape {tuple(x.shape)}; give [right] "
            f"for batch x channel x length and [right, down] for batch x channel x height x width"
        )
    return [-1 - axis for axis in range(len(shift))]


def require_shifts(
    shifts: Sequence[Sequence[float | int]], given: Sequence[Sequence[float | int]]
) -> None:
    """Refuse a list that makes no family, naming shifts as they were `given`.

    Raises:
        ValueError: for no shift, one of an odd length, the identity, or one listed twice.
    """
    if not shifts:
        raise ValueError("shifts: the list is empty; give at least one, for example [[1, 0]]")
    for i, shift in enumerate(shifts):
        if len(shift) not in (1, 2) or len(shift) != len(shifts[0]):
            raise ValueError(
                f"shifts: {list(given[i])} is no shift; give [right, down] for images or [right] "
                f"for signals, the same throughout"
            )
        if not any(shift):
            raise ValueError(
                f"shifts: {list(given[i])} is the identity, which would count as a perfect score; "
                f"leave it out"
            )
        if shift in shifts[:i]:
            first = given[shifts.index(shift)]
            raise ValueError(f"shifts: {list(first)} and {list(given[i])} are the same shift")
