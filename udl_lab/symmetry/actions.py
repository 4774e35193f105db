"""Families of transformations of an image, as the probes use them: named, listed, invertible.

An element is a plain number, pair or word, so that it can key a table; the identity is never one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch

from udl_lab.errors import nearest
from udl_lab.symmetry.action import Action as Action  # its public place; families build on it
from udl_lab.symmetry.action import require_stride
from udl_lab.symmetry.pixels import Images, translate
from udl_lab.symmetry.rotation import (
    Interpolation,
    check_interpolation,
    rotate,
    same_angle,
    square_side,
)
from udl_lab.symmetry.shifts import compass_label, divided


@final
@dataclass(frozen=True)
class Rotations(Action[float]):
    """Rotations about the image centre, in degrees, counter-clockwise as displayed.

    Multiples of 90 degrees are exact and never resampled. The others are, by `interpolation`, so
    even where the angles form a group (`is_group`) the images follow it only to that precision.
    When every angle is exact, `interpolation` becomes "none".

    Raises:
        ValueError: for no angle, one outside (-360, 360), the identity, two equal angles (mod 360),
            an unknown interpolation, or "none" beside an angle that needs one.
    """

    degrees: Sequence[float | int]
    # A frozen field answers the property well; pyright wants another property.
    interpolation: Literal["none", Interpolation] = "nearest"  # pyright: ignore[reportIncompatibleMethodOverride]
    name: ClassVar[str] = "rotation"

    def __post_init__(self):
        object.__setattr__(self, "degrees", tuple(float(angle) for angle in self.degrees))
        _check_degrees(self.degrees)
        check_interpolation(self.interpolation, also="none")
        resampled = [angle for angle in self.degrees if not self.exact(angle)]
        if not resampled:
            object.__setattr__(self, "interpolation", "none")
        elif self.interpolation == "none":
            raise ValueError(
                f"a rotation by {resampled[0]:g} degrees resamples the image, so interpolation "
                f"cannot be 'none'; choose nearest, bilinear, bicubic, fourier, or multiples of "
                f"90 degrees"
            )

    @property
    def identity(self) -> float:
        return 0.0

    @property
    def is_group(self) -> bool:
        """Whether the angles and 0 are a subgroup of SO(2): the only one of n angles is 360 k/n."""
        turn = sorted(angle % 360 for angle in (0.0, *self.degrees))
        return all(same_angle(angle, 360 * k / len(turn)) for k, angle in enumerate(turn))

    def elements(self) -> list[float]:
        return list(self.degrees)

    def label(self, element: float) -> str:
        return "identity" if element == self.identity else f"{element:+.10g}"

    def apply(self, x: Images, element: float, fill: float) -> Images:
        square_side(*x.shape[-2:])
        if self.exact(element):
            return torch.rot90(x, round(element / 90), (-2, -1))
        if self.interpolation == "none":
            raise ValueError(
                f"a rotation by {element:g} degrees needs an interpolation and is none of "
                f"{list(self.degrees)}; make a family that lists it"
            )
        # One angle for all images, so that they share one row of source places.
        angle = torch.tensor([element], dtype=torch.float64)
        return rotate(x, angle, self.interpolation, fill)

    def inverse(self, element: float) -> float:
        """The opposite angle, named as the family names it: -90 is 270 where 270 is an element."""
        return self._named(-element)

    def exact(self, element: float) -> bool:
        return same_angle(4 * element, 0.0)

    def compose(self, g: float, h: float) -> float:
        """The sum of the angles, named as the family names it."""
        return self._named(math.remainder(g + h, 360))

    def restrict(self, element: float, stride: int) -> float:
        """The same rotation, if it is exact.

        Raises:
            ValueError: when it is not.
        """
        require_stride(stride)
        return self.require_exact(element)

    def _named(self, degrees: float) -> float:
        known = (self.identity, *self.degrees)
        return next((angle for angle in known if same_angle(angle, degrees)), degrees)


@final
@dataclass(frozen=True)
class Translations(Action[tuple[int, int]]):
    """Moves by whole pixels in the eight compass directions, for each distance in `pixels`.

    An element is (right, down), in pixels; a diagonal one moves as far along each side. Pixels move
    whole, but those that leave the frame are lost and background enters, so this is no group, and a
    round trip returns only the content that stayed inside.

    Raises:
        ValueError: for no distance, one under 1 pixel, or two equal ones.
    """

    pixels: Sequence[int]
    name: ClassVar[str] = "translation"

    def __post_init__(self):
        object.__setattr__(self, "pixels", tuple(self.pixels))
        if not self.pixels:
            raise ValueError("translations need at least one distance, for example pixels: [1, 2]")
        for distance in self.pixels:
            if distance < 1:
                raise ValueError(
                    f"pixels: {distance} moves nothing or backwards; use 1 or more "
                    f"(all eight directions are included)"
                )
            if self.pixels.count(distance) > 1:
                raise ValueError(f"pixels: {distance} is listed twice; list each distance once")

    @property
    def identity(self) -> tuple[int, int]:
        return 0, 0

    @property
    def invertible(self) -> bool:
        """False: what left the frame is lost."""
        return False

    def elements(self) -> list[tuple[int, int]]:
        """The pairs (right, down): by distance, then counter-clockwise from the right."""
        compass = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
        return [(right * p, down * p) for p in self.pixels for right, down in compass]

    def label(self, element: tuple[int, int]) -> str:
        return compass_label(element)

    def apply(self, x: Images, element: tuple[int, int], fill: float) -> Images:
        """Every image moved.

        Raises:
            ValueError: when the move empties the frame.
        """
        right, down = element
        height, width = x.shape[-2:]
        if abs(right) >= width or abs(down) >= height:
            raise ValueError(
                f"a move {self.label(element)} empties images of {height} x {width} pixels; "
                f"use at most {min(height, width) - 1} pixels"
            )
        return translate(x, torch.tensor([right]), torch.tensor([down]), fill)

    def inverse(self, element: tuple[int, int]) -> tuple[int, int]:
        return -element[0], -element[1]

    def compose(self, g: tuple[int, int], h: tuple[int, int]) -> tuple[int, int]:
        """Refused.

        Raises:
            ValueError: always: 1 pixel right and then 1 left loses a column, which no move does.
        """
        raise ValueError(
            f"translations onto a background are no group: {self.label(h)} and then "
            f"{self.label(g)} is no translation where pixels left the frame; use CircularShifts"
        )

    def restrict(self, element: tuple[int, int], stride: int) -> tuple[int, int]:
        """The move on a layer of this stride, in the layer's own pixels.

        Raises:
            ValueError: when the stride does not divide it.
        """
        right, down = divided(element, stride)
        return right, down


@final
@dataclass(frozen=True)
class Flips(Action[str]):
    """Mirror images: "horizontal" (left-right), "vertical" (top-bottom), "both" (180 degrees)."""

    name: ClassVar[str] = "flip"
    _dims: ClassVar = {"horizontal": (-1,), "vertical": (-2,), "both": (-2, -1)}

    @property
    def identity(self) -> str:
        return "identity"

    @property
    def is_group(self) -> bool:
        """True: with the identity, Klein's four-group."""
        return True

    def elements(self) -> list[str]:
        return list(self._dims)

    def apply(self, x: Images, element: str, fill: float) -> Images:
        """Every image mirrored; `fill` is not used, nothing enters the frame.

        Raises:
            ValueError: for an element that is none.
        """
        return x.flip(self._axes(element))

    def inverse(self, element: str) -> str:
        return element

    def compose(self, g: str, h: str) -> str:
        """The flip along the axes that only one of the two mirrors."""
        axes = {*self._axes(g)} ^ {*self._axes(h)}
        return next((flip for flip in self._dims if axes == {*self._dims[flip]}), self.identity)

    def restrict(self, element: str, stride: int) -> str:
        """The same flip."""
        require_stride(stride)
        return element

    def _axes(self, element: str) -> tuple[int, ...]:
        if element != self.identity and element not in self._dims:
            raise ValueError(f"{element!r} is no flip; {nearest(element, self._dims)}")
        return self._dims.get(element, ())


def _check_degrees(degrees):
    if not degrees:
        raise ValueError("rotations need at least one angle, for example degrees: [90, 180, 270]")
    for i, angle in enumerate(degrees):
        if not -360 < angle < 360:
            raise ValueError(
                f"degrees: {angle:g} is outside (-360, 360); use {angle % 360:g} instead"
            )
        if same_angle(angle, 0.0):
            raise ValueError(
                f"degrees: {angle:g} is the identity, which would count as a perfect score; "
                f"leave it out"
            )
        for other in degrees[:i]:
            if same_angle(angle, other):
                raise ValueError(
                    f"degrees: {other:g} and {angle:g} are the same rotation; leave one out"
                )
