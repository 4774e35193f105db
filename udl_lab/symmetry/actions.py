"""Families of transformations of an image, as the probes use them: named, listed, invertible.

An element is a plain number, pair or word, so that it can key a table; the identity is never one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar, final

import torch

from udl_lab.symmetry.pixels import Images, translate
from udl_lab.symmetry.rotation import (
    Interpolation,
    check_interpolation,
    rotate,
    same_angle,
    square_side,
)

Element = TypeVar("Element")


class Action(ABC, Generic[Element]):
    """A list of transformations, each with its inverse, and what is known of their exactness."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def interpolation(self) -> str:
        """How the elements that are not exact are resampled; "none" when all are exact."""

    @property
    @abstractmethod
    def is_group(self) -> bool:
        """Whether the elements and the identity are closed under composition and inverse."""

    @abstractmethod
    def elements(self) -> list[Element]:
        """The elements in a fixed order, without the identity."""

    @abstractmethod
    def label(self, element: Element) -> str:
        """What tables and figures call the element."""

    @abstractmethod
    def apply(self, x: Images, element: Element, fill: float) -> Images:
        """Every image transformed by the element; what enters the frame is `fill`."""

    @abstractmethod
    def inverse(self, element: Element) -> Element:
        """The element that undoes this one, as far as it can be undone."""

    @abstractmethod
    def exact(self, element: Element) -> bool:
        """Whether pixels move whole, so that no value is resampled."""

    def round_trip(self, x: Images, element: Element, fill: float) -> Images:
        """There and back; how far this is from `x` is what resampling and lost pixels cost."""
        return self.apply(self.apply(x, element, fill), self.inverse(element), fill)


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
    # A frozen field answers the abstract property well; pyright wants another property.
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
                f"cannot be 'none'; choose nearest, bilinear or bicubic, or multiples of 90 degrees"
            )

    @property
    def is_group(self) -> bool:
        """Whether the angles and 0 are a subgroup of SO(2): the only one of n angles is 360 k/n."""
        turn = sorted(angle % 360 for angle in (0.0, *self.degrees))
        return all(same_angle(angle, 360 * k / len(turn)) for k, angle in enumerate(turn))

    def elements(self) -> list[float]:
        return list(self.degrees)

    def label(self, element: float) -> str:
        return f"{element:+.10g}"

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
        return next((angle for angle in self.degrees if same_angle(angle, -element)), -element)

    def exact(self, element: float) -> bool:
        return same_angle(4 * element, 0.0)


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
    def interpolation(self) -> str:
        return "none"

    @property
    def is_group(self) -> bool:
        return False

    def elements(self) -> list[tuple[int, int]]:
        """The pairs (right, down): by distance, then counter-clockwise from the right."""
        compass = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
        return [(right * p, down * p) for p in self.pixels for right, down in compass]

    def label(self, element: tuple[int, int]) -> str:
        right, down = element
        sideways = f"{'right' if right > 0 else 'left'}{abs(right)}" if right else ""
        return sideways + (f"{'down' if down > 0 else 'up'}{abs(down)}" if down else "")

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

    def exact(self, element: tuple[int, int]) -> bool:
        return True


@final
@dataclass(frozen=True)
class Flips(Action[str]):
    """Mirror images: "horizontal" (left-right), "vertical" (top-bottom), "both" (180 degrees)."""

    name: ClassVar[str] = "flip"
    _dims: ClassVar = {"horizontal": (-1,), "vertical": (-2,), "both": (-2, -1)}

    @property
    def interpolation(self) -> str:
        return "none"

    @property
    def is_group(self) -> bool:
        """True: with the identity, Klein's four-group."""
        return True

    def elements(self) -> list[str]:
        return list(self._dims)

    def label(self, element: str) -> str:
        return element

    def apply(self, x: Images, element: str, fill: float) -> Images:
        """Every image mirrored; `fill` is not used, nothing enters the frame."""
        return x.flip(self._dims[element])

    def inverse(self, element: str) -> str:
        return element

    def exact(self, element: str) -> bool:
        return True


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
