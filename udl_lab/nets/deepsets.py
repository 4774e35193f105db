"""Deep Sets (Zaheer et al. 2017): networks to which a set has no order, and layers that keep it.

Sets are rows of digits, 0 where a set has no element. Every pooling leaves those places out.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from udl_lab.errors import nearest
from udl_lab.nets.nonlinearity import Nonlinearity, nonlinearity
from udl_lab.ranges import Positive

Pooling = Literal["sum", "mean", "max"]


class DeepSets(nn.Module):
    """ρ(Σ φ(element)): invariant under permutations of the elements (Zaheer et al. 2017, thm. 2).

    An element is a digit. It is embedded, may see the others in equivariant layers, goes through φ,
    and is summed. Any number of elements will do, whatever `in_shape` says.

    Sites for the recorder: `embedding`, `equivariant.<i>.linear`, `equivariant.<i>.activation`,
    `phi.<i>.linear`, `phi.<i>.activation` (all per element; the rows of padding mean nothing),
    `rho.<i>.linear`, `rho.<i>.activation` and `output`.
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        out_features: Positive,
        n_digits: Positive = 9,
        embedding: Positive = 100,
        equivariant: Sequence[Positive] = (),
        pooling: Pooling = "mean",
        phi: Sequence[Positive] = (30,),
        rho: Sequence[Positive] = (),
        activation: Nonlinearity = "tanh",
    ) -> None:
        """Build the network.

        Args:
            in_shape: (elements,) of one example; sets of any other size are taken as well.
            out_features: the number of outputs.
            n_digits: elements are the digits 1 to `n_digits`; 0 is padding.
            embedding: the channels of an embedded digit, which are drawn from N(0, 1).
            equivariant: the channels of each equivariant layer before φ.
            pooling: of the equivariant layers: "mean" and "max" have the same range for sets of any
                size, "sum" has not. What φ gives is always summed.
            phi: the channels of each layer of φ.
            rho: the units of each layer of ρ before the output.
            activation: the nonlinearity after every layer but the output.

        Raises:
            ValueError: when an example is no row of elements.
        """
        super().__init__()
        self.in_shape = row_of_elements(in_shape)
        self.n_digits = n_digits
        self.embedding = nn.Embedding(n_digits + 1, embedding, padding_idx=0)
        self.equivariant = nn.ModuleList(
            EquivariantBlock(a, b, pooling, activation)
            for a, b in pairwise([embedding, *equivariant])
        )
        self.phi = _dense([embedding, *equivariant][-1], phi, activation)
        channels = [embedding, *equivariant, *phi][-1]
        self.rho = _dense(channels, rho, activation)
        self.output = nn.Linear([channels, *rho][-1], out_features)

    def forward(self, x: Float[Tensor, "batch element"]) -> Float[Tensor, "batch out"]:
        """Map a batch of sets to their outputs.

        Raises:
            ValueError: when an input is no digit.
        """
        digits = digits_of(x, self.n_digits)
        present = digits > 0
        h = self.embedding(digits)
        for block in self.equivariant:
            h = block(h, present)
        return self.output(self.rho(pool(self.phi(h), present, "sum")))


class EquivariantLayer(nn.Module):
    """x Λ + pool(x) Γ + b for every element, pool(x) being the same for all of a set.

    With one channel and the sum it is λx + γ Σx, or (λI + γ 1 1ᵀ) x, the only linear maps that
    commute with every permutation (Zaheer et al. 2017, lemma 3); with channels, λ and γ become
    matrices.
    """

    def __init__(
        self, in_channels: Positive, out_channels: Positive, pooling: Pooling = "sum"
    ) -> None:
        """Draw Λ, Γ and b as torch draws a linear layer.

        Args:
            in_channels: of an element.
            out_channels: of what becomes of it.
            pooling: what an element is told of the whole set.
        """
        super().__init__()
        self.own = nn.Linear(in_channels, out_channels)
        self.pooled = nn.Linear(in_channels, out_channels, bias=False)
        self.pooling: Pooling = pooling

    def forward(
        self, x: Float[Tensor, "batch element in"], present: Bool[Tensor, "batch element"]
    ) -> Float[Tensor, "batch element out"]:
        """Map every element; the rows of those not present mean nothing."""
        return self.own(x) + self.pooled(pool(x, present, self.pooling)).unsqueeze(1)


class EquivariantBlock(nn.Module):
    """An equivariant layer and a nonlinearity, which commutes with permutations by itself."""

    def __init__(
        self,
        in_channels: Positive,
        out_channels: Positive,
        pooling: Pooling,
        activation: Nonlinearity,
    ) -> None:
        super().__init__()
        self.linear = EquivariantLayer(in_channels, out_channels, pooling)
        self.activation = nonlinearity(activation)

    def forward(
        self, x: Float[Tensor, "batch element in"], present: Bool[Tensor, "batch element"]
    ) -> Float[Tensor, "batch element out"]:
        """Map every element; the rows of those not present mean nothing."""
        return self.activation(self.linear(x, present))


def pool(
    x: Float[Tensor, "batch element channel"],
    present: Bool[Tensor, "batch element"],
    pooling: Pooling,
) -> Float[Tensor, "batch channel"]:
    """Sum, mean or maximum over the elements that are present; 0 for a set without any.

    Raises:
        ValueError: for another name.
    """
    absent = ~present.unsqueeze(2)
    if pooling == "sum":
        return x.masked_fill(absent, 0).sum(1)
    if pooling == "mean":
        return x.masked_fill(absent, 0).sum(1) / present.sum(1, keepdim=True).clamp(min=1)
    if pooling == "max":
        return x.masked_fill(absent, -torch.inf).amax(1).masked_fill(absent.all(1), 0)
    raise ValueError(f"there is no pooling {pooling!r}; {nearest(pooling, ('sum', 'mean', 'max'))}")


def digits_of(x: Float[Tensor, "batch element"], n_digits: int) -> Int[Tensor, "batch element"]:
    """The digits that a batch of numbers stands for, 0 for no element.

    Raises:
        ValueError: naming the first number that is none of 0 to `n_digits`.
    """
    digits = x.long()
    wrong = (digits != x) | (digits < 0) | (digits > n_digits)
    if wrong.any():
        raise ValueError(
            f"{x[wrong][0]} is no digit from 1 to {n_digits}, nor 0 for no element; give digits as "
            "they are (data.mean=0, data.std=1)"
        )
    return digits


def row_of_elements(in_shape: Sequence[int]) -> tuple[int]:
    """The shape of one example, if it is a row.

    Raises:
        ValueError: when it is not.
    """
    if len(in_shape) != 1:
        raise ValueError(f"in_shape {tuple(in_shape)} is no (elements,); give rows of digits")
    return (in_shape[0],)


def _dense(channels: int, widths: Sequence[int], activation: Nonlinearity) -> nn.Sequential:
    return nn.Sequential(
        *(
            nn.Sequential(OrderedDict(linear=nn.Linear(a, b), activation=nonlinearity(activation)))
            for a, b in pairwise([channels, *widths])
        )
    )
