"""The eight symmetries of the square, as exact moves of an image's pixels, and their subgroups."""

from typing import Literal, NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """Mirror the image left-right, if `mirrored`; then turn it by `turns` quarter turns.

    Turns are counter-clockwise as displayed, the sense of `torch.rot90(x, 1, (-2, -1))`.
    """

    turns: int
    mirrored: bool

    def apply(self, x: Tensor) -> Tensor:
        """The images, in the last two axes of `x`, moved; no value is resampled."""
        return (x.flip(-1) if self.mirrored else x).rot90(self.turns, (-2, -1))

    def compose(self, first: "Symmetry") -> "Symmetry":
        """The symmetry that applies `first` and then this one."""
        # A mirror image of a turn is a turn the other way.
        turns = self.turns + (-first.turns if self.mirrored else first.turns)
        return Symmetry(turns % 4, self.mirrored != first.mirrored)

    def inverse(self) -> "Symmetry":
        """The symmetry that undoes this one; every mirror image undoes itself."""
        return self if self.mirrored else Symmetry(-self.turns % 4, False)


GroupName = Literal["identity", "flip", "c4", "d4"]

_C4 = tuple(Symmetry(turns, False) for turns in range(4))

# In this order elements are numbered; the identity is always 0, and in c4 and d4 a number below 4
# is the number of quarter turns.
GROUPS: dict[str, tuple[Symmetry, ...]] = {
    "identity": _C4[:1],
    "flip": (Symmetry(0, False), Symmetry(0, True)),
    "c4": _C4,
    "d4": (*_C4, *(Symmetry(turns, True) for turns in range(4))),
}
