"""Variance of activations along orbits and between them, unit by unit."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from udl_lab.activations.blocks import BlockSums, of_pairs
from udl_lab.activations.protocol import pair_numbers


@dataclass(frozen=True, eq=False)
class OrbitVarianceResult:
    """Sums over the images of each block; divide by `counts` for means over images.

    `fbar_i` is the mean of an image's orbit, the identity included. From these,
    `within = within_sum / counts` and `between = square_sum / counts - (mean_sum / counts)^2`,
    which loses digits where the mean is much larger than the spread.
    """

    counts: Float64[np.ndarray, " block"]  # images
    mean_sum: Float64[np.ndarray, "block unit"]  # of fbar_i
    square_sum: Float64[np.ndarray, "block unit"]  # of fbar_i^2
    within_sum: Float64[np.ndarray, "block unit"]  # of the mean over the orbit of (f - fbar_i)^2
    unit_shape: tuple[int, ...]  # of the layer, before its units were flattened


@final
class OrbitVariance:
    """Orbit means and variances within orbits (divided by the orbit's size), summed by block.

    Two passes inside an orbit: the mean first, then the squares about it.
    """

    def __init__(self, n_blocks: int, n_pairs: int) -> None:
        """Say how the sample is cut.

        Args:
            n_blocks: block b holds the pairs p with `p * n_blocks // n_pairs == b`.
            n_pairs: pairs in the whole sample, of all processes and batches.

        Raises:
            ValueError: for more blocks than pairs.
        """
        self.gathered = BlockSums(n_blocks, n_pairs)

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None:
        pairs = pair_numbers(acts, ids)
        upright = acts[0].detach().double()
        # Of deviations from the upright image, so that an invariant unit has variance 0, not
        # rounding. One copy at a time, so that a single one is ever in float64.
        step = torch.zeros_like(upright)
        for copy in acts[1:].detach():
            step += copy - upright
        step /= len(acts)
        within = step.square()
        for copy in acts[1:].detach():
            within += (copy - upright - step).square_()
        within /= len(acts)
        mean = upright + step
        self.gathered.add(
            pairs,
            {
                block: {
                    "mean": _sum(of_pairs(mean, rows)),
                    "square": _sum(of_pairs(mean, rows).square()),
                    "within": _sum(of_pairs(within, rows)),
                }
                for block, rows in self.gathered.split(pairs)
            },
        )

    def merge(self, other: "OrbitVariance") -> None:
        self.gathered.merge(other.gathered)

    def result(self) -> OrbitVarianceResult:
        counts, sums = self.gathered.totals()
        flat = {name: total.reshape(len(counts), -1) for name, total in sums.items()}
        unit_shape = sums["mean"].shape[1:]
        return OrbitVarianceResult(counts, flat["mean"], flat["square"], flat["within"], unit_shape)


def _sum(values: Float64[Tensor, "image ..."]) -> Float64[np.ndarray, "..."]:
    return values.sum(dim=0).detach().cpu().numpy()
