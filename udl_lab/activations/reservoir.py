"""The activations of the first images of the sample, kept whole, for measures between all images.

Such as CKA, which compares an N x N matrix of inner products with another.
"""

from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from udl_lab.activations.protocol import pair_numbers
from udl_lab.activations.rows import PairRows, by_image

_UNITS = 4096  # converted to float64 at once


@dataclass(frozen=True, eq=False)
class ReservoirResult:
    """Activations in the order of the sample, with units flattened and in their own precision."""

    ids: Int64[np.ndarray, " image"]
    features: Float[np.ndarray, "element image unit"]


@final
class Reservoir:
    """Keeps the images with numbers below n, upright and transformed."""

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"n={n} keeps no image; keep at least 1")
        self._n = n
        self.gathered = PairRows()

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None:
        pairs = pair_numbers(acts, ids)
        kept = np.flatnonzero(2 * pairs < self._n)
        if len(kept):
            rows = acts.detach().reshape(*acts.shape[:2], prod(acts.shape[2:])).transpose(0, 1)
            by_pair = rows.unflatten(0, (-1, 2))
            # numpy has no bfloat16.
            by_pair = by_pair.float() if by_pair.dtype.itemsize < 4 else by_pair
            self.gathered.add(pairs[kept], {"features": by_pair.cpu().numpy()[kept]})

    def merge(self, other: "Reservoir") -> None:
        if other._n != self._n:
            raise ValueError(f"a reservoir of {other._n} images does not merge with {self._n}")
        self.gathered.merge(other.gathered)

    def result(self) -> ReservoirResult:
        ids, columns = self.gathered.in_order()
        kept = ids < self._n  # an odd n parts a pair
        features = by_image(columns["features"])[kept]
        return ReservoirResult(ids[kept], np.ascontiguousarray(features.swapaxes(0, 1)))


def gram(features: Float[np.ndarray, "image unit"]) -> Float64[np.ndarray, "image image"]:
    """Inner products of all images' activations, summed over units in float64; not centred."""
    total = np.zeros((len(features), len(features)))
    for start in range(0, features.shape[1], _UNITS):
        part = features[:, start : start + _UNITS].astype(np.float64)
        total += part @ part.T
    return total
