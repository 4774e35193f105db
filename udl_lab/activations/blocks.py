"""Sums over blocks of pairs: what a jackknife, or a fit on one half and a test on the other, needs.

Block b holds the pairs p with `p * n_blocks // n_pairs == b`: contiguous, and of equal size but for
one pair.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from udl_lab.activations.protocol import SeenPairs


@dataclass(frozen=True, eq=False)
class _Part:
    """What one process gathered of a block."""

    first: int  # the smallest of its pairs, which tells the parts of a block apart
    n_pairs: int
    sums: Mapping[str, np.ndarray]

    def plus(self, other: "_Part") -> "_Part":
        # New arrays: a merged reducer may hold the old ones.
        sums = {name: total + other.sums[name] for name, total in self.sums.items()}
        return _Part(min(self.first, other.first), self.n_pairs + other.n_pairs, sums)


@final
class BlockSums:
    """Named sums for each block.

    The sums of merged processes are kept apart, and added in the order of their first pairs when
    the totals are asked for: floating-point sums depend on the order, and the order of merging must
    not matter. So the memory is that of one set of sums for every process with a share of a block.
    """

    def __init__(self, n_blocks: int, n_pairs: int) -> None:
        if not 1 <= n_blocks <= n_pairs:
            raise ValueError(
                f"{n_blocks} blocks of {n_pairs} pairs: choose n_blocks from 1 to {n_pairs}"
            )
        self.n_blocks, self.n_pairs = n_blocks, n_pairs
        self._seen = SeenPairs()
        self._parts: list[dict[int, _Part]] = [{}]  # the first is this process's own

    def split(
        self, pairs: Int64[np.ndarray, " pair"]
    ) -> Iterator[tuple[int, Int64[np.ndarray, " row"]]]:
        """The blocks of a batch, each with the rows of its pairs.

        Raises:
            ValueError: for a pair beyond the sample.
        """
        if pairs.max() >= self.n_pairs:
            raise ValueError(
                f"pair {pairs.max()} is beyond the sample of n_pairs={self.n_pairs}; count the "
                "pairs of the whole sample, of all processes"
            )
        of_pair = pairs * self.n_blocks // self.n_pairs
        for block in np.unique(of_pair):
            yield int(block), np.flatnonzero(of_pair == block)

    def add(
        self,
        pairs: Int64[np.ndarray, " pair"],
        sums: Mapping[int, Mapping[str, Float64[np.ndarray, "..."]]],
    ) -> None:
        """Sums over new pairs, by block and name.

        Raises:
            ValueError: if a pair is there already, or the sums have other shapes than before.
        """
        self._check_shapes(next(iter(sums.values())))
        self._seen.add(pairs)
        own = self._parts[0]
        for block, rows in self.split(pairs):
            part = _Part(int(pairs[rows].min()), len(rows), dict(sums[block]))
            own[block] = own[block].plus(part) if block in own else part

    def merge(self, other: "BlockSums") -> None:
        """The other's sums as well; see `add`."""
        if (other.n_blocks, other.n_pairs) != (self.n_blocks, self.n_pairs):
            raise ValueError(
                f"{other.n_blocks} blocks of {other.n_pairs} pairs do not merge with "
                f"{self.n_blocks} of {self.n_pairs}; make all reducers alike"
            )
        for parts in other._parts:
            for part in parts.values():
                self._check_shapes(part.sums)
        self._seen.merge(other._seen)
        self._parts += [dict(parts) for parts in other._parts]

    def totals(self) -> tuple[Float64[np.ndarray, " block"], dict[str, np.ndarray]]:
        """How many images each block has, and its sums; a block without images has sums 0.

        Raises:
            ValueError: if nothing was counted.
        """
        some = self._some()
        if some is None:
            raise ValueError("no image was counted, so there is no result; give at least one pair")
        counts = np.zeros(self.n_blocks)
        totals = {name: np.zeros((self.n_blocks, *s.shape)) for name, s in some.sums.items()}
        for block in range(self.n_blocks):
            parts = [parts[block] for parts in self._parts if block in parts]
            for part in sorted(parts, key=lambda part: part.first):
                counts[block] += 2 * part.n_pairs
                for name in totals:
                    totals[name][block] += part.sums[name]
        return counts, totals

    def _some(self) -> _Part | None:
        return next((part for parts in self._parts for part in parts.values()), None)

    def _check_shapes(self, sums: Mapping[str, np.ndarray]) -> None:
        some = self._some()
        here, new = (
            {name: total.shape for name, total in of.items()}
            for of in (some.sums if some else sums, sums)
        )
        if here != new:
            raise ValueError(
                f"a batch of {new} beside others of {here}: a reducer serves one layer and one "
                "list of elements"
            )


def of_pairs(
    values: Float[Tensor, "image ..."], rows: Int64[np.ndarray, " row"]
) -> Float[Tensor, "chosen ..."]:
    """Both images of the pairs in `rows`, partners next to each other."""
    images = torch.from_numpy((2 * rows[:, None] + np.arange(2)).ravel())
    return values[images.to(values.device)]
