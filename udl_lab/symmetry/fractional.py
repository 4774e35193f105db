"""Circular shifts of images and signals by parts of a pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch

from udl_lab.symmetry.action import Action, require_stride
from udl_lab.symmetry.fourier import fourier_shift_along
from udl_lab.symmetry.shifts import Grids, axes_of, compass_label, require_shifts

RealShift = tuple[float, ...]

# Shifts this close to whole pixels are whole: sums such as 0.1 + 0.2 + 0.7 miss by rounding alone.
_SAME_PIXELS = 1e-9


@final
@dataclass(frozen=True)
class FractionalShifts(Action[RealShift]):
    """Circular band-limited shifts, [[right, down], ...] in real pixels, or [[right], ...].

    Whole pixels are rolled exactly, axis by axis. The others are phases of the Fourier transform:
    they compose and invert to rounding, except for the Nyquist component of even sides, which they
    damp (`udl_lab.symmetry.fourier`). A sharp edge rings, so values may leave their range.

    Raises:
        ValueError: as for `CircularShifts`, or when a shift is not finite.
    """

    shifts: Sequence[Sequence[float | int]]
    # A frozen field answers the property well; pyright wants another property.
    interpolation: Literal["none", "fourier"] = "fourier"  # pyright: ignore[reportIncompatibleMethodOverride]
    name: ClassVar[str] = "fractional shift"

    def __post_init__(self):
        given = self.shifts
        object.__setattr__(self, "shifts", tuple(_snapped(shift) for shift in given))
        require_shifts(self.shifts, given)
        if self.interpolation not in ("none", "fourier"):
            raise ValueError(f"unknown interpolation {self.interpolation!r}; use 'fourier'")
        resampled = [shift for shift in self.shifts if not self.exact(tuple(shift))]
        if not resampled:
            object.__setattr__(self, "interpolation", "none")
        elif self.interpolation == "none":
            raise ValueError(
                f"a shift of {list(resampled[0])} pixels resamples, so interpolation cannot be "
                f"'none'; use 'fourier' or whole pixels"
            )

    @property
    def identity(self) -> RealShift:
        return (0.0,) * len(self.shifts[0])

    def elements(self) -> list[RealShift]:
        return [tuple(shift) for shift in self.shifts]

    def label(self, element: RealShift) -> str:
        return compass_label(element)

    def apply(self, x: Grids, element: RealShift, fill: float) -> Grids:
        """Every image or signal shifted; `fill` is not used, nothing enters from outside.

        Raises:
            ValueError: for a shift with fewer or more numbers than the grid has axes.
        """
        for pixels, axis in zip(element, axes_of(element, x), strict=True):
            if pixels.is_integer():
                x = torch.roll(x, int(pixels), axis)
            else:
                x = fourier_shift_along(x, pixels, axis)
        return x

    def inverse(self, element: RealShift) -> RealShift:
        return _snapped([-pixels for pixels in element])

    def exact(self, element: RealShift) -> bool:
        return all(pixels.is_integer() for pixels in element)

    def compose(self, g: RealShift, h: RealShift) -> RealShift:
        return _snapped([a + b for a, b in zip(g, h, strict=True)])

    def restrict(self, element: RealShift, stride: int) -> RealShift:
        """The shift of a layer of this stride, in the layer's own pixels.

        Every real shift divides: 1 pixel is 0.5 on a layer of stride 2, which `exact` then denies.
        """
        require_stride(stride)
        return _snapped([pixels / stride for pixels in element])


def _snapped(shift: Sequence[float | int]) -> RealShift:
    """The shift as floats, with what misses whole pixels by rounding made whole."""
    for pixels in shift:
        if not math.isfinite(pixels):
            raise ValueError(f"shifts: {pixels} is no number of pixels; use a finite one")
    # Adding zero turns -0.0 into 0.0.
    near = [abs(pixels - round(pixels)) <= _SAME_PIXELS for pixels in shift]
    return tuple(
        (round(p) if whole else float(p)) + 0.0 for p, whole in zip(shift, near, strict=True)
    )
