"""What an action is: transformations that are listed, named and invertible, and obey their laws.

An element is a plain number, tuple or word, so that it can key a table. The identity has a name of
its own and is never listed: it would count as a perfect score.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, Generic, TypeVar

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor

from udl_lab.randomness import generator

Element = TypeVar("Element", bound=Hashable)

# A batch of inputs or of feature maps: images, signals, sets. Each row is transformed alone.
Batch = Shaped[Tensor, "batch *axes"]

# Pairs of elements whose composition `check` tries: all pairs of 24 elements, a sample of more.
_PAIRS = 24 * 24


class Action(ABC, Generic[Element]):
    """A list of transformations, each with its inverse, and what is known of their exactness.

    Five things make an action: `name`, `identity`, `elements`, `apply`, `inverse`. The defaults of
    the others say that every element is exact and that nothing is known of composition.
    `FunctionAction` makes an action of plain functions; `check` tries the laws of either.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def identity(self) -> Element:
        """The element that changes nothing; not among `elements`."""

    @abstractmethod
    def elements(self) -> list[Element]:
        """The elements in a fixed order, without the identity."""

    @abstractmethod
    def apply(self, x: Batch, element: Element, fill: float) -> Batch:
        """Every example transformed by the element; what enters the frame is `fill`.

        Inputs and feature maps alike, with any number of channels.
        """

    @abstractmethod
    def inverse(self, element: Element) -> Element:
        """The element that undoes this one, as far as it can be undone."""

    @property
    def interpolation(self) -> str:
        """How the elements that are not exact are resampled; "none" when all are exact."""
        return "none"

    @property
    def is_group(self) -> bool:
        """Whether the elements and the identity are closed under composition and inverse."""
        return False

    @property
    def invertible(self) -> bool:
        """Whether inverses undo exact elements bit for bit: nothing leaves the frame for good."""
        return True

    def label(self, element: Element) -> str:
        """What tables and figures call the element."""
        return str(element)

    def exact(self, element: Element) -> bool:
        """Whether pixels move whole, so that no value is resampled."""
        return self.interpolation == "none"

    def compose(self, g: Element, h: Element) -> Element:
        """The element equal to "first h, then g"; it may be the identity, or not be listed.

        Raises:
            ValueError: where no element is.
        """
        raise ValueError(
            f"the family {self.name!r} does not say what {self.label(h)} and then {self.label(g)} "
            f"is; give it a `compose` method"
        )

    def restrict(self, element: Element, stride: int) -> Element:
        """The element that acts on a feature map of this cumulative stride. Never rounded.

        Whether the layer's own arithmetic keeps the symmetry (padding, an odd remainder) is another
        question, which a measurement answers.

        Raises:
            ValueError: when none does, or the element is not exact.
        """
        require_stride(stride)
        if stride != 1:
            raise ValueError(
                f"the family {self.name!r} does not say how it acts on a layer of stride {stride}; "
                f"give it a `restrict` method, or measure layers of stride 1"
            )
        return self.require_exact(element)

    def round_trip(self, x: Batch, element: Element, fill: float) -> Batch:
        """There and back; how far this is from `x` is what resampling and lost pixels cost."""
        return self.apply(self.apply(x, element, fill), self.inverse(element), fill)

    def require_exact(self, element: Element) -> Element:
        """The element itself.

        Raises:
            ValueError: when it resamples, so that no known element acts on the layers after it.
        """
        if not self.exact(element):
            raise ValueError(
                f"{self.name} {self.label(element)} is resampled, so no known element acts on a "
                f"layer; use exact elements only, such as multiples of 90 degrees or whole pixels"
            )
        return element

    def check(self, shape: Sequence[int], seed: int = 0) -> None:
        """Try the laws on random tensors of this shape, batch first: bit for bit where exact.

        The identity changes nothing and every element something; no row sees another; inverses
        undo exact elements; a group is closed, and its exact elements compose as it says.

        Raises:
            ValueError: naming the first law that fails, and the elements.
        """
        _Laws(self, shape, generator(seed, "action check", self.name)).check()


def require_stride(stride: int) -> None:
    """Refuse a cumulative stride that is none.

    Raises:
        ValueError: when it is under 1.
    """
    if stride < 1:
        raise ValueError(f"stride: {stride} is no stride; use 1 or more")


class _Laws:
    """The laws of one action, on one random tensor."""

    def __init__(self, action: Action, shape: Sequence[int], draws: Generator):
        self.action, self.draws = action, draws
        self.x = torch.randn(tuple(shape), generator=draws, dtype=torch.float64)
        self.fill = float(torch.randn((), generator=draws))

    def check(self):
        action, x = self.action, self.x
        elements = action.elements()
        if action.identity in elements:
            self.fail(f"lists its identity {action.label(action.identity)!r}; leave it out")
        if not torch.equal(self.apply(action.identity), x):
            self.fail("has an identity that changes its input")
        for element in elements:
            self.check_element(element)
        if action.is_group:
            self.check_group(elements)

    def check_element(self, element):
        label, x, y = self.action.label(element), self.x, self.apply(element)
        if y.shape != x.shape or y.dtype != x.dtype:
            self.fail(f"{label} made {tuple(y.shape)}, {y.dtype} of {tuple(x.shape)}, {x.dtype}")
        if torch.equal(y, x):
            self.fail(f"{label} changes nothing and would count as a perfect score; leave it out")
        if not self.action.exact(element):
            return
        if not torch.equal(self.apply(element, x[:1]), y[:1]):
            self.fail(f"{label} mixes the examples of a batch; leave the first axis alone")
        inverse = self.action.inverse(element)
        if self.action.invertible and not torch.equal(self.apply(inverse, y), x):
            self.fail(f"inverse: {self.action.label(inverse)} does not undo {label}")

    def check_group(self, elements):
        action = self.action
        group = {action.identity, *elements}
        for element in elements:
            if action.inverse(element) not in group:
                self.fail(f"closure: the inverse of {action.label(element)} is not an element")
        pairs = list(itertools.product(elements, repeat=2))
        if len(pairs) > _PAIRS:
            chosen = torch.randperm(len(pairs), generator=self.draws)[:_PAIRS]
            pairs = [pairs[i] for i in chosen.tolist()]
        for g, h in pairs:
            names = f"{action.label(h)} and then {action.label(g)}"
            both = action.compose(g, h)
            if both not in group:
                self.fail(f"closure: {names}, {action.label(both)}, is not an element")
            if action.exact(g) and action.exact(h):
                if not torch.equal(self.apply(g, self.apply(h)), self.apply(both)):
                    self.fail(f"composition: {names} is not {action.label(both)}")

    def apply(self, element, x=None):
        x = self.x if x is None else x
        before = x.clone()
        try:
            y = self.action.apply(x, element, self.fill)
        except Exception as error:
            label, shape = self.action.label(element), tuple(x.shape)
            raise ValueError(
                self.failed(f"{label} cannot be applied to a tensor of shape {shape}: {error}")
            ) from error
        if not torch.equal(x, before):
            self.fail(f"{self.action.label(element)} changes its input in place; work on a copy")
        return y

    def fail(self, law):
        raise ValueError(self.failed(law))

    def failed(self, law):
        return f"the action {self.action.name!r} fails its check: {law}"
