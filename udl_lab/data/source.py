"""What a data set is before it becomes batches: two pairs of arrays."""

import hashlib
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Examples(NamedTuple):
    """Inputs and their labels, row by row."""

    x: Float[Tensor, " example *shape"]
    y: Int[Tensor, " example"]

    def rows(self, index: Tensor | slice) -> "Examples":
        """The examples of some rows."""
        return Examples(self.x[index], self.y[index])


class Source(NamedTuple):
    """The training and the test examples as they were published, pixels in [0, 1]."""

    train: Examples
    test: Examples


def fingerprint(examples: Examples) -> str:
    """16 hexadecimal digits that change with any value or label: the identity of the data."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in examples:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()
