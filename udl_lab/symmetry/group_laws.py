"""Whether what calls itself a group is one, by trying the four laws."""

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch

from udl_lab.randomness import generator

Element = TypeVar("Element", bound=Hashable)

# Groups up to this order are tried for associativity on every triple, larger ones on a sample.
_ALL_TRIPLES = 24


def check_group(
    compose: Callable[[Element, Element], Element],
    inverse: Callable[[Element], Element],
    identity: Element,
    elements: Sequence[Element],
) -> None:
    """Verify closure, the identity, inverses and associativity by trying them.

    Every pair is composed, so n elements cost n^2 compositions. Associativity is tried on every
    triple of up to 24 elements and on 10,000 random triples of more.

    Raises:
        ValueError: naming the first elements that fail.
    """
    known = set(elements)
    if len(known) != len(elements):
        double = next(g for i, g in enumerate(elements) if g in elements[:i])
        raise ValueError(f"no group: the element {double} is listed twice")
    if identity not in known:
        raise ValueError(f"no group: the identity {identity} is not among the elements")
    for g in elements:
        if compose(identity, g) != g or compose(g, identity) != g:
            raise ValueError(f"no group: the identity {identity} changes {g}")
        undone = inverse(g)
        if undone not in known or compose(g, undone) != identity or compose(undone, g) != identity:
            raise ValueError(f"no group: {undone} is not the inverse of {g}")
    if pair := open_pair(compose, elements):
        g, h = pair
        raise ValueError(
            f"no group: not closed, {h} and then {g} is {compose(g, h)}, which is no element"
        )
    for f, g, h in _triples(elements):
        if compose(f, compose(g, h)) != compose(compose(f, g), h):
            raise ValueError(f"no group: not associative on f = {f}, g = {g}, h = {h}")


def open_pair(
    compose: Callable[[Element, Element], Element], elements: Sequence[Element]
) -> tuple[Element, Element] | None:
    """The first g and h whose product is no element; None if the elements are closed.

    Of a finite subset of a group closure is all that it takes to be a group itself: among the
    powers of an element are the identity and its inverse, and the product is associative already.
    """
    known = set(elements)
    pairs = itertools.product(elements, repeat=2)
    return next(((g, h) for g, h in pairs if compose(g, h) not in known), None)


def _triples(elements):
    if len(elements) <= _ALL_TRIPLES:
        return itertools.product(elements, repeat=3)
    chosen = torch.randint(len(elements), (10_000, 3), generator=generator(0, "associativity"))
    return ((elements[i], elements[j], elements[k]) for i, j, k in chosen.tolist())
