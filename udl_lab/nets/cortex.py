"""Simple and complex cells: a template and its transformed copies, then a sum over the copies.

Anselmi, Leibo, Rosasco, Mutch, Tacchetti & Poggio 2016, "Unsupervised learning of invariant
representations", sections 3-4, after the cells of Hubel & Wiesel 1962: w_i is a template, g_j an
element of a finite group of transformations, and x an image.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from einops import einsum, reduce
from jaxtyping import Float, Int64
from torch import Tensor, nn

from udl_lab.errors import nearest
from udl_lab.ranges import NonNegative, Positive
from udl_lab.symmetry.square import D4, SUBGROUPS, SquareElement, SubgroupName, mirror_and_turn

CellNonlinearity = Literal["square", "relu", "abs"]

_NONLINEARITIES = {"square": torch.square, "relu": torch.relu, "abs": torch.abs}


class SimpleCells(nn.Module):
    """s_ij(x) = x^T (g_j w_i), in channel i * n_elements + j: one template's cells are neighbours.

    Only the templates w_i are stored; their copies are moved pixels of them, so that
    s_ij(h x) = s_ik(x) with g_k = h^-1 g_j, exactly: an element of the group permutes the cells.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        n_templates: int,
        elements: Sequence[SquareElement],
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)
        # Of variance 1 / n_pixels: images of n_pixels numbers around 1 give cells around 1.
        template = torch.randn(n_templates, *in_shape) / math.sqrt(math.prod(in_shape))
        self.template = nn.Parameter(template, requires_grad=trainable)

    def copies(self) -> Float[Tensor, "template element channel height width"]:
        """g_j w_i for every template i and every element j."""
        return torch.stack([mirror_and_turn(self.template, g) for g in self.elements], dim=1)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch cell"]:
        """The scalar product of each image with each copy of each template."""
        cells = einsum(x.flatten(1), self.copies().flatten(2), "b pixel, i j pixel -> b i j")
        return cells.flatten(1)


class ComplexCells(nn.Module):
    """c_i(x) = sum over j of nonlinearity(s_ij(x)), one cell for each template."""

    def __init__(self, n_elements: int, nonlinearity: CellNonlinearity) -> None:
        super().__init__()
        if nonlinearity not in _NONLINEARITIES:
            raise ValueError(
                f"there is no nonlinearity {nonlinearity!r}; "
                f"{nearest(nonlinearity, _NONLINEARITIES)}"
            )
        self.n_elements = n_elements
        self.nonlinearity = nonlinearity

    def forward(self, simple: Float[Tensor, "batch cell"]) -> Float[Tensor, "batch template"]:
        """Sum the responses of each template's simple cells, made even or positive before."""
        responses = _NONLINEARITIES[self.nonlinearity](simple)
        return reduce(responses, "b (i j) -> b i", "sum", j=self.n_elements)


class Cortex(nn.Module):
    """Simple cells, complex cells and a linear readout.

    Over a whole group the complex cells, and so the outputs, are exactly invariant to the group,
    whatever the templates. Without some of its elements they are not, unless what is left is a
    group again.

    Sites for the recorder: `simple` (channel i * n_elements + j is s_ij), `complex` (channel i is
    c_i) and `output` (the logits).
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        out_features: Positive,
        n_templates: Positive = 64,
        group: SubgroupName = "c4",
        without: Sequence[NonNegative] = (),
        nonlinearity: CellNonlinearity = "square",
        trainable: bool = True,
    ) -> None:
        """Build the network; the templates are normal with mean 0 and variance 1 / n_pixels.

        Args:
            in_shape: (channels, height, width) of one example; square for the turns of c4 and d4.
            out_features: the number of outputs.
            n_templates: the number of templates, and so of complex cells.
            group: the transformations: the identity alone, with the left-right mirror image
                (`flip`), the four quarter turns (`c4`), or these and their mirror images (`d4`:
                elements 0 to 3 turn, 4 to 7 mirror left-right and then turn).
            without: elements of the group to leave out, by number; 0 is the identity.
            nonlinearity: of each simple cell before the sum.
            trainable: whether the templates learn, or stay as drawn.

        Raises:
            ValueError: when an example is no image, or not square for c4 or d4; for an unknown
                group or nonlinearity; when `without` names no element or leaves none.
        """
        super().__init__()
        self.in_shape = tuple(in_shape)
        if group not in SUBGROUPS:
            raise ValueError(f"there is no group {group!r}; {nearest(group, SUBGROUPS)}")
        _check_shape(self.in_shape, group)
        self.group = SUBGROUPS[group]
        elements = _kept(group, without)
        self.simple = SimpleCells(self.in_shape, n_templates, elements, trainable)
        self.complex = ComplexCells(len(elements), nonlinearity)
        self.output = nn.Linear(n_templates, out_features)

    def forward(self, x: Float[Tensor, " batch *in_shape"]) -> Float[Tensor, "batch out"]:
        """Map a batch of images to their outputs (for a classifier: logits, in nats)."""
        return self.output(self.complex(self.simple(x)))

    def orbit_permutation(self, element: int) -> Int64[Tensor, " cell"]:
        """The known action of an element h on the simple cells.

        `simple(h x) == simple(x)[:, orbit_permutation(h)]`; `mirror_and_turn(x, group[h])` is h x.

        Args:
            element: the number of h in the group.

        Raises:
            ValueError: for a number that is no element, or when h takes a copy to one left out.
        """
        if not 0 <= element < len(self.group):
            raise ValueError(f"there is no element {element}; give 0 to {len(self.group) - 1}")
        kept = self.simple.elements
        inverse = D4.inverse(self.group[element])
        source = [D4.compose(inverse, g) for g in kept]
        if not set(source) <= set(kept):
            raise ValueError(
                f"element {element} takes a copy to one that was left out, so it permutes no "
                "cells; build the Cortex with `without=()`"
            )
        within = torch.tensor([kept.index(g) for g in source])
        n_templates = len(self.simple.template)
        return (len(kept) * torch.arange(n_templates)[:, None] + within).flatten()


def _check_shape(in_shape: tuple[int, ...], group: str) -> None:
    if len(in_shape) != 3:
        raise ValueError(f"in_shape {in_shape} is no (channels, height, width)")
    height, width = in_shape[1:]
    if group in ("c4", "d4") and height != width:
        raise ValueError(
            f"the quarter turns of {group} need square images, not {height} x {width}; crop or pad "
            "them, or use group 'flip'"
        )


def _kept(group: str, without: Sequence[int]) -> list[SquareElement]:
    n = len(SUBGROUPS[group])
    wrong = [number for number in without if not 0 <= number < n]
    if wrong:
        raise ValueError(f"without {wrong}: the elements of {group} are 0 to {n - 1}")
    kept = [element for number, element in enumerate(SUBGROUPS[group]) if number not in without]
    if not kept:
        raise ValueError(f"without {list(without)} nothing is left of {group}; keep an element")
    return kept
