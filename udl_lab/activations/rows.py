"""Numbers kept for every pair of images, until they are put in the order of the sample."""

from collections.abc import Mapping
from typing import final

import numpy as np
from jaxtyping import Float, Int64

from udl_lab.activations.protocol import SeenPairs


@final
class PairRows:
    """A table with a row for each pair, in whatever order the pairs come."""

    def __init__(self) -> None:
        self._seen = SeenPairs()
        self._batches: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []

    def add(
        self,
        pairs: Int64[np.ndarray, " pair"],
        columns: Mapping[str, Float[np.ndarray, "pair ..."]],
    ) -> None:
        """Rows of new pairs.

        Raises:
            ValueError: if a pair is there already, or the columns are not those of the other rows.
        """
        self._check_columns(dict(columns))
        self._seen.add(pairs)
        self._batches.append((pairs, dict(columns)))
        # Batches of like size are joined, so that few and large pieces are held: many small ones
        # between a network's large and short-lived tensors keep the memory of both.
        while len(self._batches) > 1 and len(self._batches[-1][0]) >= len(self._batches[-2][0]):
            last, before = self._batches.pop(), self._batches.pop()
            joined = {k: np.concatenate([before[1][k], last[1][k]]) for k in last[1]}
            self._batches.append((np.concatenate([before[0], last[0]]), joined))

    def merge(self, other: "PairRows") -> None:
        """The other table's rows as well; see `add`."""
        if other._batches:
            self._check_columns(other._batches[0][1])
        self._seen.merge(other._seen)
        self._batches += other._batches

    def in_order(self) -> tuple[Int64[np.ndarray, " image"], dict[str, np.ndarray]]:
        """The images' numbers, ascending, and the columns in the order of the pairs.

        Raises:
            ValueError: if the table is empty.
        """
        if not self._batches:
            raise ValueError("no image was counted, so there is no result; give at least one pair")
        pairs = np.concatenate([numbers for numbers, _ in self._batches])
        order = np.argsort(pairs)
        columns = {
            name: np.concatenate([columns[name] for _, columns in self._batches])[order]
            for name in self._batches[0][1]
        }
        return (2 * pairs[order, None] + np.arange(2)).ravel(), columns

    def _check_columns(self, columns: dict[str, np.ndarray]) -> None:
        here, new = (
            {name: column.shape[1:] for name, column in of.items()}
            for of in (self._batches[0][1] if self._batches else columns, columns)
        )
        if here != new:
            raise ValueError(
                f"a batch of {new} beside others of {here}: a reducer serves one layer and one "
                "list of elements"
            )


def by_image(column: Float[np.ndarray, "pair 2 ..."]) -> Float[np.ndarray, "image ..."]:
    """The two images of each pair as rows of their own."""
    return column.reshape(-1, *column.shape[2:])
