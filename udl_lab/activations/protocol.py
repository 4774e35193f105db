"""What a reducer is: activations of whole orbits go in, small float64 arrays come out.

A batch is `acts[element, image, unit…]`: element 0 is the upright image, the others its transformed
copies. `ids` are the images' numbers in the sample. Rows 2j and 2j + 1 are partners and carry the
numbers 2p and 2p + 1, so that pair p, the independent unit of the statistics, is never cut in two.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int64
from torch import Tensor


@runtime_checkable
class Gathered(Protocol):
    """The numbers that a reducer has gathered, apart from its functions: plain, picklable."""

    def merge(self, other: Any) -> None: ...


@runtime_checkable
class Reducer(Protocol):
    """Streams activations into numbers that do not depend on how the images came.

    Any split into batches gives the same result to rounding. Reducers that share no image may be
    merged, in any order with the same result bit for bit: parts are summed in the order of their
    images, and only when the result is asked for.
    """

    @property
    def gathered(self) -> Gathered: ...

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None: ...

    def merge(self, other: Any) -> None: ...

    def result(self) -> Any: ...


def pair_numbers(
    acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
) -> Int64[np.ndarray, " pair"]:
    """The pairs of a batch.

    Raises:
        ValueError: for a batch without images or copies, or whose rows are not whole pairs.
    """
    if acts.ndim < 2 or acts.shape[0] < 2 or acts.shape[1] != len(ids) or not len(ids):
        raise ValueError(
            f"activations of shape {tuple(acts.shape)} for {len(ids)} images: they must be "
            "[element, image, unit…], with the upright image as element 0 and at least one copy"
        )
    numbers = ids.detach().cpu().numpy().astype(np.int64)
    first, second = numbers[::2], numbers[1::2]
    # One look at all: this runs for every layer of every batch.
    if len(numbers) % 2 or ((first % 2 != 0) | (first < 0) | (second != first + 1)).any():
        raise ValueError(
            f"images {numbers[:6].tolist()} … do not come in pairs; give the images 2p and 2p + 1 "
            "next to each other"
        )
    return first // 2


class SeenPairs:
    """Which pairs have been counted: each may be counted once."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, pairs: Int64[np.ndarray, " pair"]) -> None:
        """Count these.

        Raises:
            ValueError: if one of them has been counted, or stands here twice.
        """
        self._take(set(pairs.tolist()), len(pairs))

    def merge(self, other: "SeenPairs") -> None:
        """Count what the other has counted; see `add`."""
        self._take(other._numbers, len(other._numbers))

    def _take(self, numbers: set[int], n: int) -> None:
        again = sorted(self._numbers & numbers)
        if again or len(numbers) < n:
            raise ValueError(
                f"images {[2 * p for p in again[:5]] or 'of one batch'} … are counted twice; give "
                "each image of the sample to one process, in one batch"
            )
        self._numbers |= numbers
