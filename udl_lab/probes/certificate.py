"""Which representation of a group a layer carries, recovered from data and checked.

Given a group that acts on the inputs, and a network: *recover* for each element the permutation of
channels (times the known action on space) that carries the layer; *validate* it on images that it
was not fitted on; check the *group law*; *name* the representation by the orbits of the channels
(Hubel and Wiesel's cells, after Anselmi et al. 2016). A failed law means that there is no
consistent action, however small a sorted error may be. Limits: permutations only, and channels that
are nearly equal make the permutation ambiguous (see `gap`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from udl_lab.probes.bracket import Permutation, compose
from udl_lab.probes.statistics import Interval

Element = TypeVar("Element")

EXACT = 1e-5  # relative error of a structural symmetry: far over float64's rounding, far under 1


@dataclass(frozen=True)
class Certificate(Generic[Element]):
    """What is known of one layer."""

    permutations: Mapping[Element, Permutation]
    error: Interval  # the largest held-out relative error over the elements
    law: float  # share of (g, h, channel) at which P_g P_h is not P_gh
    orbits: list[list[int]]  # channels that the recovered permutations take into each other
    order: int  # of the group

    @property
    def granted(self) -> bool:
        """Whether the recovered action is exact on new images and obeys the group's law."""
        return self.error.estimate < EXACT and self.law == 0

    @property
    def representation(self) -> str:
        """The name of the representation, or why there is none."""
        if self.law:
            return "none: the group's law fails"
        if not self.granted:
            return "none exact: misses new images"
        sizes = [len(orbit) for orbit in self.orbits]
        trivial, free = sizes.count(1), sizes.count(self.order)
        if trivial == len(sizes):
            return "trivial: invariant channels (complex cells)"
        if free == len(sizes):
            return f"regular: {free} free orbits of {self.order} channels (simple cells)"
        other = len(sizes) - trivial - free
        return (
            f"mixed: {trivial} invariant channels, {free} free orbits of {self.order}, "
            f"{other} of other sizes"
        )


def certify(
    elements: Sequence[Element],
    permutations: Sequence[Permutation],
    compose_elements: Callable[[Element, Element], Element],
    identity: Element,
) -> Certificate[Element]:
    """Check recovered permutations against the group that they should represent.

    Args:
        elements: the whole group but the identity.
        permutations: of each element, as `shared_permutations` recovers them.
        compose_elements: `compose_elements(g, h)` is "first h, then g".
        identity: of the group.

    Raises:
        ValueError: when the elements are not closed under composition.
    """
    found = dict(zip(elements, permutations, strict=True))
    n = len(permutations[0].index)
    index = {identity: np.arange(n)} | {g: p.index for g, p in found.items()}
    broken = 0
    for g in elements:
        for h in elements:
            both = compose_elements(g, h)
            if both not in index:
                raise ValueError(
                    f"{g!r} after {h!r} is {both!r}, which is not among the elements; only a whole "
                    "group can be certified"
                )
            broken += int(np.count_nonzero(compose(index[h], index[g]) != index[both]))
    error = max((p.error for p in permutations), key=lambda error: error.estimate)
    law = broken / (len(elements) ** 2 * n)
    return Certificate(found, error, law, _orbits(list(index.values())), len(elements) + 1)


def _orbits(permutations: Sequence[np.ndarray]) -> list[list[int]]:
    """The channels that the permutations connect, each orbit sorted, in order of its first."""
    unseen = set(range(len(permutations[0])))
    orbits = []
    while unseen:
        orbit, edge = set(), [min(unseen)]
        while edge:
            channel = edge.pop()
            if channel not in orbit:
                orbit.add(channel)
                edge += [int(p[channel]) for p in permutations]
        orbits.append(sorted(orbit))
        unseen -= orbit
    return orbits
