"""What it costs to match a layer's channels, each with each: all that a shared permutation needs.

For a layer `[image, channel, *space]` and an element g, the squared distance between channel c of
`f(g x)` and channel c' of `R_g f(x)`. The best permutation of channels over all images is a linear
assignment on this matrix (probes notes §4.5).
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from udl_lab.activations.blocks import BlockSums, of_pairs
from udl_lab.activations.distances import Carry, carried
from udl_lab.activations.protocol import pair_numbers


@dataclass(frozen=True, eq=False)
class ChannelCostResult:
    """Sums over the images of a block and over space; nan where the layer action is unknown.

    `cost[e, b, c, c']` sums `(f_c(g x) - (R_g f(x))_{c'})^2`, so a permutation with
    `f_c(g x) = (R_g f(x))_{p[c]}` costs `cost[e, b, range(C), p].sum()`. `control` is the same with
    the other image of the pair in the place of x in `R_g f(x)`, for both images of every pair, and
    so over as many images as `cost`.
    """

    counts: Float64[np.ndarray, " block"]  # images
    cost: Float64[np.ndarray, "copy block channel channel"]
    control: Float64[np.ndarray, "copy block channel channel"]
    norm: Float64[np.ndarray, "copy block"]  # sums |R_g f(x)|^2 over images, channels and space


@final
class ChannelCost:
    """Costs of matching channels, by block of pairs.

    As `|a|^2 + |b|^2 - 2 a b` in float64, after the mean of `R_g f(x)` over channels is subtracted
    from both at every place, which leaves the differences and takes out what all channels share.
    What rounding leaves of a cost of 0 is about 1e-16 of the squared norms that remain, so the
    relative error of an exact match, a square root, reads about 1e-8. Costs are cut off at 0.
    """

    def __init__(
        self, carry: Carry, n_blocks: int, n_pairs: int, max_channels: int | None = None
    ) -> None:
        """Compare with `carry`.

        Args:
            carry: `carry(layer, e)` is `R_g` of `layer[image, channel, *space]` for the element of
                column e, or None where it has no action on this layer. A layer `[image, unit]` has
                units as channels.
            n_blocks: block b holds the pairs p with `p * n_blocks // n_pairs == b`.
            n_pairs: pairs in the whole sample, of all processes and batches.
            max_channels: a wider layer is passed over, and the result is None: the matrices take
                `16 * n_blocks * channels^2` bytes for every element.

        Raises:
            ValueError: for more blocks than pairs.
        """
        self._carry = carry
        self._max_channels = max_channels
        self.gathered = BlockSums(n_blocks, n_pairs)

    def update(
        self, acts: Float[Tensor, "element image channel *space"], ids: Int[Tensor, " image"]
    ) -> None:
        """Add a batch.

        Raises:
            ValueError: where the pairs are not whole or new, the layer has no channels, or `carry`
                changes its shape.
        """
        pairs = pair_numbers(acts, ids)
        if acts.ndim < 3:
            raise ValueError(f"a layer of shape {tuple(acts.shape[2:])} an image has no channels")
        if self._max_channels is not None and acts.shape[2] > self._max_channels:
            nothing = {block: {} for block, _ in self.gathered.split(pairs)}
            return self.gathered.add(pairs, nothing)
        layers = [carried(self._carry, acts[0], e) for e in range(len(acts) - 1)]
        sums = {}
        for block, rows in self.gathered.split(pairs):
            of_copies = [
                _costs(of_pairs(moved, rows), None if layer is None else of_pairs(layer, rows))
                for moved, layer in zip(acts[1:], layers, strict=True)
            ]
            names = ("cost", "control", "norm")
            sums[block] = {
                name: torch.stack(of_copy).detach().cpu().numpy()
                for name, of_copy in zip(names, zip(*of_copies, strict=True), strict=True)
            }
        self.gathered.add(pairs, sums)

    def merge(self, other: "ChannelCost") -> None:
        self.gathered.merge(other.gathered)

    def result(self) -> ChannelCostResult | None:
        """The costs, or None for a layer wider than `max_channels`."""
        counts, sums = self.gathered.totals()
        if not sums:
            return None
        cost, control = (np.maximum(sums[k], 0).swapaxes(0, 1) for k in ("cost", "control"))
        return ChannelCostResult(counts, cost, control, sums["norm"].T)


def _costs(
    moved: Float[Tensor, "image channel *space"],
    layer: Float[Tensor, "image channel *space"] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The costs, the control's costs, and the squared norm of `layer`."""
    channels = moved.shape[1]
    if layer is None:
        nan = torch.full((channels, channels), torch.nan, dtype=torch.float64, device=moved.device)
        return nan, nan, nan[0, 0]
    a, b = (v.double().flatten(2) if v.ndim > 2 else v.double()[..., None] for v in (moved, layer))
    partner = b.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return _squared_distances(a, b), _squared_distances(a, partner), b.square().sum()


def _squared_distances(
    a: Float64[Tensor, "image channel place"], b: Float64[Tensor, "image channel place"]
) -> Float64[Tensor, "channel channel"]:
    """Between each channel of `a` and each of `b`, over images and places."""
    shared = b.mean(dim=1, keepdim=True)
    a, b = ((v - shared).transpose(0, 1).flatten(1) for v in (a, b))
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return squares - 2 * (a @ b.T)
