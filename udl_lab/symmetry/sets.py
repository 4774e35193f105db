"""Permutations of the elements of a set, stored along axis 1."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Shaped
from torch import Tensor

from udl_lab.randomness import generator
from udl_lab.ranges import NonNegative, Positive
from udl_lab.symmetry.action import Action
from udl_lab.symmetry.groups import Symmetric

Sets = Shaped[Tensor, "batch element *features"]


@final
@dataclass(frozen=True)
class Permutations(Action[tuple[int, ...]]):
    """`n_permutations` distinct random permutations of sets of `n_elements`, all exact.

    An element is a tuple: what is at place i goes to place g[i]. Uniform among the permutations
    other than the identity. A group only where the list happens to be one, such as all of S_3.

    Raises:
        ValueError: for sets of fewer than two, or more permutations than there are.
    """

    n_elements: Positive
    n_permutations: Positive = 8
    seed: NonNegative = 0
    name: ClassVar[str] = "permutation"
    _drawn: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.n_elements < 2:
            raise ValueError(f"n_elements: {self.n_elements} leaves nothing to permute; use 2")
        # 20! is over every count that a list can have.
        most = math.factorial(min(self.n_elements, 20)) - 1
        if not 1 <= self.n_permutations <= most:
            raise ValueError(
                f"n_permutations: {self.n_permutations}, but sets of {self.n_elements} have {most} "
                f"permutations beside the identity; use 1 to {most}"
            )
        draws = generator(self.seed, "permutations")
        drawn = {self.identity: None}  # a dictionary keeps the order of the draws
        while len(drawn) <= self.n_permutations:
            drawn[self._group.sample(1, draws)[0]] = None
        object.__setattr__(self, "_drawn", tuple(drawn)[1:])

    @property
    def _group(self) -> Symmetric:
        return Symmetric(self.n_elements)

    @property
    def identity(self) -> tuple[int, ...]:
        return self._group.identity

    @property
    def is_group(self) -> bool:
        group = {self.identity, *self._drawn}
        if math.factorial(self.n_elements) % len(group):
            return False  # Lagrange: no subgroup has this order
        return all(self.compose(g, h) in group for g in group for h in group)

    def elements(self) -> list[tuple[int, ...]]:
        return list(self._drawn)

    def label(self, element: tuple[int, ...]) -> str:
        """Its number in the list, or its cycles if it is not listed."""
        if element in self._drawn:
            return f"permutation{self._drawn.index(element)}"
        return self._group.label(element)

    def apply(self, x: Sets, element: tuple[int, ...], fill: float) -> Sets:
        """Every set permuted along axis 1; `fill` is not used.

        Raises:
            ValueError: for sets of another size.
        """
        if x.shape[1] != len(element):
            raise ValueError(
                f"sets of {x.shape[1]} elements (axis 1 of {tuple(x.shape)}) are not permuted by "
                f"n_elements: {len(element)}; set it to {x.shape[1]}"
            )
        # What lands on place i comes from the place that the inverse names.
        return x.index_select(1, torch.tensor(self.inverse(element), device=x.device))

    def inverse(self, element: tuple[int, ...]) -> tuple[int, ...]:
        return self._group.inverse(element)

    def compose(self, g: tuple[int, ...], h: tuple[int, ...]) -> tuple[int, ...]:
        return self._group.compose(g, h)
