"""The symmetries of a square image: quarter turns and mirror images, the dihedral group D4."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from udl_lab.symmetry.action import Action, require_stride
from udl_lab.symmetry.groups import Dihedral
from udl_lab.symmetry.pixels import Images
from udl_lab.symmetry.rotation import square_side

_D4 = Dihedral(4)


@final
@dataclass(frozen=True)
class SquareSymmetries(Action[tuple[int, bool]]):
    """The seven symmetries of the square beside the identity, all exact.

    An element is (turns, mirrored): mirror left-right, if mirrored; then turn by quarter turns,
    counter-clockwise as displayed. "flip_rot90" says the same in words, first things first.
    """

    name: ClassVar[str] = "square"

    @property
    def identity(self) -> tuple[int, bool]:
        return _D4.identity

    @property
    def is_group(self) -> bool:
        return True

    def elements(self) -> list[tuple[int, bool]]:
        return [g for g in _D4.elements() if g != self.identity]

    def label(self, element: tuple[int, bool]) -> str:
        turns, mirrored = element
        words = ["flip"] * mirrored + [f"rot{90 * turns}"] * bool(turns)
        return "_".join(words) or "identity"

    def apply(self, x: Images, element: tuple[int, bool], fill: float) -> Images:
        """Every image moved; `fill` is not used, nothing enters the frame.

        Raises:
            ValueError: when the images are not square.
        """
        square_side(*x.shape[-2:])
        turns, mirrored = element
        return torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))

    def inverse(self, element: tuple[int, bool]) -> tuple[int, bool]:
        return _D4.inverse(element)

    def compose(self, g: tuple[int, bool], h: tuple[int, bool]) -> tuple[int, bool]:
        return _D4.compose(g, h)

    def restrict(self, element: tuple[int, bool], stride: int) -> tuple[int, bool]:
        """The same symmetry."""
        require_stride(stride)
        return element
