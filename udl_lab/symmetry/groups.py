"""Finite groups as plain values: what their elements are called, and how they multiply.

`compose(g, h)` is the product gh read as maps: first h, then g. No tensor is touched here; an
action (`udl_lab.symmetry.action`) says what an element does to data.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

import torch
from torch import Generator

from udl_lab.ranges import Positive
from udl_lab.symmetry.group_laws import check_group as check_group  # its public place

Element = TypeVar("Element", bound=Hashable)

# The largest symmetric group that is listed: 7! = 5040 permutations, 8! = 40320.
_LARGEST_LISTED = 7


class Group(ABC, Generic[Element]):
    """A group whose elements are hashable plain values."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables call the group."""

    @property
    @abstractmethod
    def order(self) -> int | None:
        """How many elements it has; None if infinitely many."""

    @property
    @abstractmethod
    def identity(self) -> Element: ...

    @abstractmethod
    def elements(self) -> list[Element]:
        """All elements in a fixed order, the identity first."""

    @abstractmethod
    def generators(self) -> list[Element]:
        """A few elements whose products are all elements; none for the trivial group."""

    @abstractmethod
    def compose(self, g: Element, h: Element) -> Element:
        """First h, then g."""

    @abstractmethod
    def inverse(self, g: Element) -> Element: ...

    def sample(self, n: int, generator: Generator) -> list[Element]:
        """`n` independent elements, uniform on the group, the identity included."""
        elements = self.elements()
        chosen = torch.randint(len(elements), (n,), generator=generator)
        return [elements[i] for i in chosen.tolist()]

    def label(self, g: Element) -> str:
        """What tables and figures call the element."""
        return "identity" if g == self.identity else str(g)


@final
@dataclass(frozen=True)
class Cyclic(Group[int]):
    """Z_n: the turns by k/n of a full turn, as k in {0, ..., n - 1}."""

    n: Positive

    def __post_init__(self):
        _require_positive("n", self.n)

    @property
    def name(self) -> str:
        return f"C{self.n}"

    @property
    def order(self) -> int:
        return self.n

    @property
    def identity(self) -> int:
        return 0

    def elements(self) -> list[int]:
        return list(range(self.n))

    def generators(self) -> list[int]:
        return [1] if self.n > 1 else []

    def compose(self, g: int, h: int) -> int:
        return (g + h) % self.n

    def inverse(self, g: int) -> int:
        return -g % self.n


@final
@dataclass(frozen=True)
class Dihedral(Group[tuple[int, bool]]):
    """D_n, of order 2n: (turns, mirrored) is "mirror, if mirrored; then turn by turns/n".

    With r the turn by 1/n and s the mirror, the element is r^turns s^mirrored, and s r = r^-1 s.
    """

    n: Positive

    def __post_init__(self):
        _require_positive("n", self.n)

    @property
    def name(self) -> str:
        return f"D{self.n}"

    @property
    def order(self) -> int:
        return 2 * self.n

    @property
    def identity(self) -> tuple[int, bool]:
        return 0, False

    def elements(self) -> list[tuple[int, bool]]:
        return [(turns, mirrored) for mirrored in (False, True) for turns in range(self.n)]

    def generators(self) -> list[tuple[int, bool]]:
        return [(1, False), (0, True)] if self.n > 1 else [(0, True)]

    def compose(self, g: tuple[int, bool], h: tuple[int, bool]) -> tuple[int, bool]:
        turns = g[0] + (-h[0] if g[1] else h[0])
        return turns % self.n, g[1] != h[1]

    def inverse(self, g: tuple[int, bool]) -> tuple[int, bool]:
        """The opposite turn; a mirror image undoes itself."""
        return g if g[1] else (-g[0] % self.n, False)


@final
@dataclass(frozen=True)
class Shifts(Group[tuple[int, ...]]):
    """Z_a x Z_b x ...: the circular shifts of a grid with these `sizes`, one number an axis."""

    sizes: Sequence[int]

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(self.sizes))
        for size in self.sizes:
            _require_positive("sizes", size)

    @property
    def name(self) -> str:
        return "x".join(f"Z{size}" for size in self.sizes)

    @property
    def order(self) -> int:
        return math.prod(self.sizes)

    @property
    def identity(self) -> tuple[int, ...]:
        return (0,) * len(self.sizes)

    def elements(self) -> list[tuple[int, ...]]:
        return list(itertools.product(*map(range, self.sizes)))

    def generators(self) -> list[tuple[int, ...]]:
        """A shift by one place along each axis that has two places or more."""
        axes = range(len(self.sizes))
        return [tuple(int(i == j) for j in axes) for i in axes if self.sizes[i] > 1]

    def compose(self, g: tuple[int, ...], h: tuple[int, ...]) -> tuple[int, ...]:
        return tuple((a + b) % n for a, b, n in zip(g, h, self.sizes, strict=True))

    def inverse(self, g: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-a % n for a, n in zip(g, self.sizes, strict=True))


@final
@dataclass(frozen=True)
class Symmetric(Group[tuple[int, ...]]):
    """S_n: the permutations of n things; what is at place i goes to place g[i]."""

    n: Positive

    def __post_init__(self):
        _require_positive("n", self.n)

    @property
    def name(self) -> str:
        return f"S{self.n}"

    @property
    def order(self) -> int:
        return math.factorial(self.n)

    @property
    def identity(self) -> tuple[int, ...]:
        return tuple(range(self.n))

    def elements(self) -> list[tuple[int, ...]]:
        """All n! permutations, in lexicographic order.

        Raises:
            ValueError: when n is over 7.
        """
        if self.n > _LARGEST_LISTED:
            raise ValueError(
                f"S{self.n} has {self.order:,} elements, too many to list; draw some with "
                f"`sample`, or use n = {_LARGEST_LISTED} or less"
            )
        return list(itertools.permutations(range(self.n)))

    def generators(self) -> list[tuple[int, ...]]:
        """The exchange of the first two and, from three things on, the move of all by one."""
        swap, cycle = (1, 0, *range(2, self.n)), (*range(1, self.n), 0)
        return [swap, cycle][: min(self.n - 1, 2)]

    def compose(self, g: tuple[int, ...], h: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(g[place] for place in h)

    def inverse(self, g: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(range(self.n), key=g.__getitem__))

    def sample(self, n: int, generator: Generator) -> list[tuple[int, ...]]:
        return [tuple(torch.randperm(self.n, generator=generator).tolist()) for _ in range(n)]

    def label(self, g: tuple[int, ...]) -> str:
        """Cycle notation without fixed places: (0 2 1) sends 0 to 2, 2 to 1 and 1 to 0."""
        cycles, seen = [], set()
        for start in range(self.n):
            cycle = []
            place = start
            while place not in seen:
                seen.add(place)
                cycle.append(place)
                place = g[place]
            if len(cycle) > 1:
                cycles.append(f"({' '.join(map(str, cycle))})")
        return "".join(cycles) or "identity"


def _require_positive(name, value):
    if value < 1:
        raise ValueError(f"{name}: {value} is no size; use 1 or more")
