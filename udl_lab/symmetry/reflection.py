"""The mirror image of a signal."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from udl_lab.errors import nearest
from udl_lab.symmetry.action import Action, require_stride

Signals = Float[Tensor, "batch channel length"]


@final
@dataclass(frozen=True)
class Reflection(Action[str]):
    """A signal read backwards: place i goes to place length - 1 - i. Exact, of order 2."""

    name: ClassVar[str] = "reflection"

    @property
    def identity(self) -> str:
        return "identity"

    @property
    def is_group(self) -> bool:
        return True

    def elements(self) -> list[str]:
        return ["reflected"]

    def apply(self, x: Signals, element: str, fill: float) -> Signals:
        """Every signal mirrored; `fill` is not used, nothing enters.

        Raises:
            ValueError: for an element that is none.
        """
        known = [self.identity, *self.elements()]
        if element not in known:
            raise ValueError(f"{element!r} is no reflection; {nearest(element, known)}")
        return x if element == self.identity else x.flip(-1)

    def inverse(self, element: str) -> str:
        return element

    def compose(self, g: str, h: str) -> str:
        return self.identity if g == h else "reflected"

    def restrict(self, element: str, stride: int) -> str:
        """The same reflection."""
        require_stride(stride)
        return element
