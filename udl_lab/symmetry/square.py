"""The symmetries of a square image: quarter turns and mirror images, the dihedral group D4."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch

from udl_lab.symmetry.action import Action, require_stride
from udl_lab.symmetry.groups import Dihedral
from udl_lab.symmetry.pixels import Images
from udl_lab.symmetry.rotation import square_side

SquareElement = tuple[int, bool]
"""(turns, mirrored), as in `Dihedral`: mirror the image left-right, if mirrored; then turn it by
quarter turns, counter-clockwise as displayed, the sense of `torch.rot90(x, 1, (-2, -1))`."""

D4 = Dihedral(4)

SubgroupName = Literal["identity", "flip", "c4", "d4"]

# In this order elements are numbered; the identity is always 0, and in c4 and d4 a number below 4
# is the number of quarter turns.
SUBGROUPS: dict[str, tuple[SquareElement, ...]] = {
    "identity": (D4.identity,),
    "flip": (D4.identity, (0, True)),
    "c4": tuple(D4.elements()[:4]),
    "d4": tuple(D4.elements()),
}


def mirror_and_turn(x: Images, element: SquareElement) -> Images:
    """Every image moved by the element; no value is resampled and nothing enters the frame.

    Odd numbers of quarter turns are for square images; the other elements take oblong ones as well.
    """
    turns, mirrored = element
    return torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))


@final
@dataclass(frozen=True)
class SquareSymmetries(Action[SquareElement]):
    """The seven symmetries of the square beside the identity, all exact.

    An element is a `SquareElement`; "flip_rot90" says the same in words, first things first.
    """

    name: ClassVar[str] = "square"

    @property
    def identity(self) -> SquareElement:
        return D4.identity

    @property
    def is_group(self) -> bool:
        return True

    def elements(self) -> list[SquareElement]:
        return [g for g in D4.elements() if g != self.identity]

    def label(self, element: SquareElement) -> str:
        turns, mirrored = element
        words = ["flip"] * mirrored + [f"rot{90 * turns}"] * bool(turns)
        return "_".join(words) or "identity"

    def apply(self, x: Images, element: SquareElement, fill: float) -> Images:
        """Every image moved; `fill` is not used, nothing enters the frame.

        Raises:
            ValueError: when the images are not square.
        """
        square_side(*x.shape[-2:])
        return mirror_and_turn(x, element)

    def inverse(self, element: SquareElement) -> SquareElement:
        return D4.inverse(element)

    def compose(self, g: SquareElement, h: SquareElement) -> SquareElement:
        return D4.compose(g, h)

    def restrict(self, element: SquareElement, stride: int) -> SquareElement:
        """The same symmetry."""
        require_stride(stride)
        return element
