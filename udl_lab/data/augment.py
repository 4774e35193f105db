"""Random rotations, translations and flips of a batch, whose drawn parameters are kept.

Each augmentation is two steps: `draw` makes the parameters, a row per image, on the CPU; calling it
applies *given* parameters. So a pair (image, transformed image) comes from one recorded parameter,
never from two loaders walked in step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64, Real
from torch import Generator, Tensor

from udl_lab.symmetry.pixels import Images, flip, translate
from udl_lab.symmetry.rotation import (
    Interpolation,
    RotationTable,
    check_interpolation,
    cyclic_order,
    rotate,
    same_angle,
)

# Entries of the largest table kept for speed, 8 bytes each: 720 angles at 76 x 76 pixels.
_LARGEST_TABLE = 2**22


@final
@dataclass(frozen=True)
class Rotation:
    """Rotation by an angle drawn uniformly from [low, high] degrees; counter-clockwise is positive.

    Angles are multiples of `step_degrees` above `low`, up to `high` included; or any real number in
    between when the step is null. A full circle leaves `high` out, which is `low` again: with both,
    that angle would be drawn twice as often. Only a full circle is closed under composition: a
    net trained on half of one cannot be expected to be invariant to rotation.

    Raises:
        ValueError: unless low < high <= low + 360 and the step is positive, fits into the range,
            and closes a full circle; or for an unknown interpolation.
    """

    degrees: Sequence[float | int] = (-180, 180)
    step_degrees: float | int | None = 0.5
    interpolation: Interpolation = "nearest"

    def __post_init__(self):
        object.__setattr__(self, "degrees", tuple(self.degrees))
        check_interpolation(self.interpolation)
        span = self.degrees[-1] - self.degrees[0] if len(self.degrees) == 2 else 0
        if not 0 < round(span, 9) <= 360:
            raise ValueError(
                f"degrees: {list(self.degrees)} is not a range; give [low, high] with "
                f"low < high <= low + 360, for example [-180, 180]"
            )
        if self.step_degrees is None:
            return
        if not 0 < self.step_degrees <= span:
            raise ValueError(
                f"step_degrees: {self.step_degrees} does not fit into the {span:g} degrees "
                f"of {list(self.degrees)}; use a positive step up to that, or null for any angle"
            )
        if same_angle(*self.degrees) and cyclic_order(self.step_degrees) == 1:
            raise ValueError("step_degrees: 360 leaves one angle only; use 180 or less")

    def draw(self, n: int, generator: Generator) -> Float64[Tensor, " {n}"]:
        """`n` independent angles, in degrees."""
        low, high = self.degrees
        if self.step_degrees is None:
            return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
        # 1e-9: a whole number of steps may come out a rounding error short of the end.
        n_steps = math.floor((high - low) / self.step_degrees + 1e-9)
        n_angles = n_steps if same_angle(low, high) else n_steps + 1
        return low + self.step_degrees * torch.randint(n_angles, (n,), generator=generator).double()

    def __call__(self, x: Images, parameters: Real[Tensor, " batch"], fill: float) -> Images:
        """`rotate(x, parameters, interpolation, fill)`, bit for bit; by table where one exists."""
        if self.interpolation == "nearest" and self.step_degrees is not None:
            table = _table(*x.shape[-2:], self.step_degrees, x.device)
            k = torch.round(parameters / self.step_degrees)
            on_table = (parameters - k * self.step_degrees).abs() < 1e-9
            if table is not None and on_table.all():
                return table.rotate(x, k.long(), fill)
        return rotate(x, parameters, self.interpolation, fill)


@final
@dataclass(frozen=True)
class Translation:
    """Translation by whole pixels, right and down each uniform on {-pixels, ..., pixels}.

    Pixels that leave the frame are lost and background enters.

    Raises:
        ValueError: when `pixels` is under 1.
    """

    pixels: int

    def __post_init__(self):
        if self.pixels < 1:
            raise ValueError(f"pixels: {self.pixels} moves nothing; use 1 or more")

    def draw(self, n: int, generator: Generator) -> Int64[Tensor, "{n} 2"]:
        """`n` independent pairs (right, down), in pixels."""
        return torch.randint(-self.pixels, self.pixels + 1, (n, 2), generator=generator)

    def __call__(self, x: Images, parameters: Int64[Tensor, "batch 2"], fill: float) -> Images:
        """Image i moved by row i of `parameters`.

        Raises:
            ValueError: when a move of `pixels` would empty the frame.
        """
        height, width = x.shape[-2:]
        if self.pixels >= min(height, width):
            raise ValueError(
                f"a move of {self.pixels} pixels empties images of {height} x {width} pixels; "
                f"use at most {min(height, width) - 1}"
            )
        return translate(x, parameters[:, 0], parameters[:, 1], fill)


@final
@dataclass(frozen=True)
class Flips:
    """Mirror images, each enabled one with probability 1/2: left-right, top-bottom.

    Raises:
        ValueError: when neither is enabled.
    """

    horizontal: bool = True
    vertical: bool = True

    def __post_init__(self):
        if not (self.horizontal or self.vertical):
            raise ValueError("horizontal: false, vertical: false flips nothing; enable one of them")

    def draw(self, n: int, generator: Generator) -> Bool[Tensor, "{n} 2"]:
        """`n` independent pairs (horizontal, vertical)."""
        heads = torch.randint(2, (n, 2), generator=generator).bool()
        return heads & torch.tensor([self.horizontal, self.vertical])

    def __call__(self, x: Images, parameters: Bool[Tensor, "batch 2"], fill: float) -> Images:
        """Image i mirrored as row i says; `fill` is not used, nothing enters the frame."""
        return flip(x, parameters[:, 0], parameters[:, 1])


@lru_cache(maxsize=8)
def _table(
    height: int, width: int, step_degrees: float | int, device: torch.device
) -> RotationTable | None:
    """The rotations by multiples of the step, kept; None where they never close or are too many."""
    order = round(360 / step_degrees)
    if not same_angle(order * step_degrees, 360) or order * height * width > _LARGEST_TABLE:
        return None
    return RotationTable(height, width, step_degrees).to(device)
