"""A user's own action, made of plain functions."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from udl_lab.errors import nearest
from udl_lab.randomness import generator
from udl_lab.symmetry.action import Action, Batch


@final
@dataclass(frozen=True, eq=False)
class FunctionAction(Action[str]):
    """Named functions of a batch, each with the name of the one that undoes it.

    Given the shape of a batch, the action is checked when it is made, and the table of compositions
    is found by trying: which function, or the identity, equals one after another bit for bit.

    Args:
        name: what tables call the family.
        functions: what each element does to a batch; the background `fill` is not handed over.
        inverses: the inverse of every element, itself included if it undoes itself.
        shape: a batch's shape to check the laws on, for example [4, 1, 28, 28].
        interpolation: how the functions resample; "none" promises that they are exact.

    Raises:
        ValueError: for no function, an inverse that is missing or unknown, an element called
            "identity", and, given a shape, the first law that fails.
    """

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    functions: Mapping[str, Callable[[Tensor], Tensor]]
    inverses: Mapping[str, str]
    shape: Sequence[int] | None = None
    interpolation: str = "none"  # pyright: ignore[reportIncompatibleMethodOverride]
    _table: dict[tuple[str, str], str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self):
        if not self.functions:
            raise ValueError(f"the action {self.name!r} has no functions; give at least one")
        if self.identity in self.functions:
            raise ValueError(f"functions: {self.identity!r} is what changes nothing; leave it out")
        for element in self.functions:
            if element not in self.inverses:
                raise ValueError(
                    f"inverses: {element!r} has none; name the function that undoes it, "
                    f"{element!r} if it undoes itself"
                )
        for name in (*self.inverses, *self.inverses.values()):
            if name not in self.functions:
                raise ValueError(
                    f"inverses: {name!r} is none of the functions; {nearest(name, self.functions)}"
                )
        if self.shape is not None:
            self.check(self.shape)  # before the table, which would report a failure less clearly
            if self.interpolation == "none":
                self._table.update(self._compositions(self.shape))
            self.check(self.shape, seed=1)  # now with the table, on other numbers

    @property
    def identity(self) -> str:
        return "identity"

    @property
    def is_group(self) -> bool:
        """Whether a check has found every composition of two functions."""
        return len(self._table) == (1 + len(self.functions)) ** 2

    def elements(self) -> list[str]:
        return list(self.functions)

    def apply(self, x: Batch, element: str, fill: float) -> Batch:
        """The batch transformed.

        Raises:
            ValueError: for an element that is none.
        """
        if element == self.identity:
            return x
        if element not in self.functions:
            raise ValueError(
                f"{element!r} is none of {self.name!r}; {nearest(element, self.functions)}"
            )
        return self.functions[element](x)

    def inverse(self, element: str) -> str:
        return element if element == self.identity else self.inverses[element]

    def compose(self, g: str, h: str) -> str:
        """The function that is "first h, then g", by the table.

        Raises:
            ValueError: when none is, or there is no table.
        """
        if not self._table:
            raise ValueError(
                f"the action {self.name!r} has no table of compositions; make it with the shape "
                f"of a batch, and exact functions"
            )
        if (g, h) not in self._table:
            raise ValueError(f"{h} and then {g} is none of the functions of {self.name!r}")
        return self._table[g, h]

    def _compositions(self, shape: Sequence[int]) -> dict[tuple[str, str], str]:
        x = torch.randn(tuple(shape), generator=generator(0, "composition table"))
        made = {g: self.apply(x, g, 0.0) for g in (self.identity, *self.functions)}
        for g, h in itertools.combinations(made, 2):
            if torch.equal(made[g], made[h]):
                raise ValueError(f"functions: {g!r} and {h!r} do the same; leave one out")
        return {
            (g, h): both
            for g in made
            for h in made
            for both in made
            if torch.equal(self.apply(made[h], g, 0.0), made[both])
        }
