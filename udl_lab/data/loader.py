"""Batches as index selections of whole tensors: no per-example Python, no worker processes.

`ResidentLoader` is stateless. What it yields depends on the epoch and on how many batches of it are
done, which the trainer knows, so a run resumed in the middle of an epoch goes on with the very next
batch.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from udl_lab.data.source import Examples
from udl_lab.randomness import generator


class Batch(NamedTuple):
    """Examples, and the augmentation parameters drawn for them (none: leave them as they are)."""

    x: Float[Tensor, " batch *shape"]
    y: Int[Tensor, " batch"]
    drawn: Tensor | None

    def split(self, size: int) -> list["Batch"]:
        """The batches of `size` examples that this one was put together of."""
        xs, ys = self.x.split(size), self.y.split(size)
        drawn = [None] * len(ys) if self.drawn is None else self.drawn.split(size)
        return [Batch(*parts) for parts in zip(xs, ys, drawn, strict=True)]


@runtime_checkable
class Augmentation(Protocol):
    """A random transformation whose parameters are drawn first and recorded."""

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Parameters for n examples, a row each, on the CPU."""
        ...

    def __call__(self, x: Tensor, parameters: Tensor, fill: float) -> Tensor:
        """The examples transformed by the given parameters; `fill` enters from outside."""
        ...


class Place(NamedTuple):
    """Where the trainer stands, and which share of every batch this process works on."""

    epoch: int = 0
    batches_done: int = 0
    rank: int = 0
    world_size: int = 1


Order = Callable[[int, int], Int[Tensor, " example"]]
"""The order of n examples in an epoch: order(n, epoch)."""


def named_order(seed: int) -> Order:
    """A fresh permutation for every epoch, from the stream (seed, "order", epoch)."""
    return lambda n, epoch: torch.randperm(n, generator=generator(seed, "order", epoch))


def legacy_order(n: int, epoch: int) -> Int[Tensor, " example"]:
    """The JAX homework's: the (epoch + 1)-th permutation of one `RandomState(0)`."""
    stream = np.random.RandomState(0)
    for _ in range(epoch):
        stream.permutation(n)
    return torch.from_numpy(stream.permutation(n))


class ResidentLoader:
    """Iterates over batches of examples that already live on the training device."""

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        order: Order | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        place: Callable[[], Place] = Place,
        group: int = 1,
        stream: str = "augment",
    ) -> None:
        """Describe the batches.

        Args:
            examples: all the examples.
            batch_size: the global batch size, over all processes; the last batch may be smaller.
            order: the order of an epoch; `None` keeps the examples in their own.
            augmentation: parameters are drawn for each whole global batch, from the stream
                (seed, stream, epoch, batch).
            seed: the experiment's seed.
            place: asked at the start of every epoch.
            group: so many batches are yielded as one, for `Batch.split` to take apart again; more
                than one only in a single process. `len` and `place` count groups.
            stream: the name of the stream of the parameters.
        """
        self.examples = examples
        self.batch_size = batch_size
        self.order = order
        self.augmentation = augmentation
        self.seed = seed
        self.place = place
        self.group = group
        self.stream = stream

    def __len__(self) -> int:
        """How many times an epoch yields."""
        return -(-len(self.examples.y) // (self.batch_size * self.group))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the epoch that are still to do."""
        place = self.place()
        n = len(self.examples.y)
        order = None
        if self.order is not None:
            order = self.order(n, place.epoch).to(self.examples.y.device)
        whole = self.batch_size * self.group
        for index in range(place.batches_done, len(self)):
            start = index * whole
            size = min(whole, n - start)
            share = slice(
                start + size * place.rank // place.world_size,
                start + size * (place.rank + 1) // place.world_size,
            )
            if order is None:
                x, y = self.examples.rows(share)
            else:
                rows = order[share]
                x, y = self.examples.x.index_select(0, rows), self.examples.y.index_select(0, rows)
            yield Batch(x, y, self._draw(place.epoch, start, size, share))

    def _draw(self, epoch: int, start: int, size: int, share: slice) -> Tensor | None:
        """The parameters of the examples of `share`; each batch has a stream of its own."""
        if self.augmentation is None:
            return None
        drawn = torch.cat(
            [
                self.augmentation.draw(
                    min(self.batch_size, start + size - first),
                    generator(self.seed, self.stream, epoch, first // self.batch_size),
                )
                for first in range(start, start + size, self.batch_size)
            ]
        )
        return drawn[share.start - start : share.stop - start].to(self.examples.x.device)

    def state_dict(self) -> dict[str, Any]:
        """Nothing; that the method exists tells Lightning that the loader can be resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing: `place` says where to go on."""
