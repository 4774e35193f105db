"""How far activations move when the image does, beside how far another image is.

Distances are Euclidean over all units of an image, not divided by their number. `x1` and `x2` are
the two images of a pair, `g` a transformation, `f` the layer. Columns are the transformed copies:
column e belongs to element e + 1 of the batch.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from udl_lab.activations.protocol import pair_numbers
from udl_lab.activations.rows import PairRows, by_image

# The layer action R_g, given the activations and the column e of the element; None if unknown.
Carry = Callable[[Tensor, int], Tensor | None]


_RUN = 256  # units


def distance(
    a: Float[Tensor, "image ..."], b: Float[Tensor, "image ..."]
) -> Float64[Tensor, " image"]:
    """Euclidean distance over all units of an image, accumulated in float64.

    The difference is taken in the activations' own precision (at least float32), so that no float64
    copy of a layer is made, only one of this difference.
    """
    return norm(_single(a) - _single(b))


def norm(a: Float[Tensor, "image ..."]) -> Float64[Tensor, " image"]:
    """Euclidean norm over all units of an image, accumulated in float64.

    In a wide layer numbers in float32 are squared and added in runs of 256 first: a float64 copy
    would cost more than the layer itself.
    """
    flat = in_memory_order(_single(a))
    if flat.dtype == torch.float64 or flat.shape[1] <= _RUN:
        return torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
    rest = flat.shape[1] % _RUN
    whole = flat[:, : flat.shape[1] - rest].unflatten(1, (-1, _RUN))
    runs = torch.linalg.vector_norm(whole, dim=2)
    if rest:
        runs = torch.cat([runs, torch.linalg.vector_norm(flat[:, -rest:], dim=1)[:, None]], dim=1)
    return torch.linalg.vector_norm(runs, dim=1, dtype=torch.float64)


def in_memory_order(a: Float[Tensor, "image ..."]) -> Float[Tensor, "image all_units"]:
    """The units of each image in a row, in the order in which they lie in memory, without a copy.

    For what does not depend on the order of units: a layer in `channels_last` is copied otherwise.
    """
    axes = sorted(range(1, a.ndim), key=a.stride, reverse=True)
    return a.permute(0, *axes).reshape(len(a), math.prod(a.shape[1:]))


@dataclass(frozen=True, eq=False)
class PairedDistanceResult:
    """Distances in the order of the sample; see the top of this file."""

    ids: Int64[np.ndarray, " image"]
    moved: Float64[np.ndarray, "image copy"]  # |f(g x) - f(x)|
    other: Float64[np.ndarray, " pair"]  # |f(x1) - f(x2)|


@final
class PairedDistance:
    """Distances to the transformed copy and, as control, to the other image of the pair."""

    def __init__(self) -> None:
        self.gathered = PairRows()

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None:
        self.gathered.add(pair_numbers(acts, ids), _paired(acts[0], acts[1:].unbind()))

    def merge(self, other: "PairedDistance") -> None:
        self.gathered.merge(other.gathered)

    def result(self) -> PairedDistanceResult:
        ids, columns = self.gathered.in_order()
        moved = by_image(columns["moved"])
        return PairedDistanceResult(ids, moved, columns["other"])


@dataclass(frozen=True, eq=False)
class SortedDistanceResult:
    """The distances of `PairedDistanceResult`, each the least over all permutations of units.

    Beside them the distance of another image that is transformed as well, `|f(g x1) - f(x2)|`.
    """

    ids: Int64[np.ndarray, " image"]
    moved: Float64[np.ndarray, "image copy"]
    other: Float64[np.ndarray, " pair"]
    other_moved: Float64[np.ndarray, "pair copy"]
    norm: Float64[np.ndarray, "image copy"]  # |f(x)|, which permutations keep; as in KnownAction


@final
class SortedDistance:
    """Distances between sorted activations: `min_P |f(g x) - P f(x)|` over all permutations P.

    By the rearrangement inequality; also sqrt(n) times the Wasserstein-2 distance between the two
    histograms. P may be another for each image, so a distance above rounding refutes every
    permutation action, and one near 0 proves none (probes notes §4.4). Compare it with the sorted
    control, never with a raw one: sorting brings unrelated vectors together as well.
    """

    def __init__(self) -> None:
        self.gathered = PairRows()

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None:
        pairs = pair_numbers(acts, ids)
        upright, copies = _sorted(acts[0]), [_sorted(copy) for copy in acts[1:]]
        columns = _paired(upright, copies)
        others = [distance(copy[::2], upright[1::2]) for copy in copies]
        columns["other_moved"] = _numpy(torch.stack(others, dim=1))
        n_copies = len(copies)
        columns["norm"] = _by_pair(norm(acts[0])[:, None].expand(-1, n_copies))
        self.gathered.add(pairs, columns)

    def merge(self, other: "SortedDistance") -> None:
        self.gathered.merge(other.gathered)

    def result(self) -> SortedDistanceResult:
        ids, columns = self.gathered.in_order()
        moved, norms = by_image(columns["moved"]), by_image(columns["norm"])
        return SortedDistanceResult(ids, moved, columns["other"], columns["other_moved"], norms)


@dataclass(frozen=True, eq=False)
class KnownActionResult:
    """Distances to what the layer action predicts; nan in the columns where it is unknown."""

    ids: Int64[np.ndarray, " image"]
    error: Float64[np.ndarray, "image copy"]  # |f(g x) - R_g f(x)|
    norm: Float64[np.ndarray, "image copy"]  # |R_g f(x)|
    control: Float64[np.ndarray, "pair copy"]  # |f(g x1) - R_g f(x2)|


@final
class KnownAction:
    """How far a layer misses a given action `R_g` on its activations."""

    def __init__(self, carry: Carry, interior: slice | tuple[slice, ...] | None = None) -> None:
        """Compare with `carry`.

        Args:
            carry: `carry(layer, e)` is `R_g` of `layer[image, *unit]` for the element of column e,
                or None where it has no action on this layer.
            interior: compares this crop of the last dimensions only, for example where no border
                reaches; the norm is of the crop too.
        """
        self._carry = carry
        self._interior = (interior,) if isinstance(interior, slice) else interior
        self.gathered = PairRows()

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None:
        """Add a batch.

        Raises:
            ValueError: where the pairs are not whole or new, or `carry` changes the layer's shape.
        """
        pairs = pair_numbers(acts, ids)
        unknown = torch.full((len(ids),), torch.nan, dtype=torch.float64, device=acts.device)
        errors, norms, controls = [], [], []
        for e, moved in enumerate(acts[1:]):
            layer = carried(self._carry, acts[0], e)
            if layer is None:
                found = unknown, unknown, unknown[::2]
            else:
                moved, layer = self._crop(moved), self._crop(layer)
                control = distance(moved[::2], layer[1::2])
                found = distance(moved, layer), norm(layer), control
            for column, values in zip((errors, norms, controls), found, strict=True):
                column.append(values)
        error, norms, control = (torch.stack(c, dim=1) for c in (errors, norms, controls))
        columns = {"error": _by_pair(error), "norm": _by_pair(norms), "control": _numpy(control)}
        self.gathered.add(pairs, columns)

    def merge(self, other: "KnownAction") -> None:
        self.gathered.merge(other.gathered)

    def result(self) -> KnownActionResult:
        ids, columns = self.gathered.in_order()
        error, norms = by_image(columns["error"]), by_image(columns["norm"])
        return KnownActionResult(ids, error, norms, columns["control"])

    def _crop(self, layer: Tensor) -> Tensor:
        return layer if self._interior is None else layer[(..., *self._interior)]


def carried(carry: Carry, layer: Tensor, e: int) -> Tensor | None:
    """`carry(layer, e)`, checked.

    Raises:
        ValueError: where the layer's shape changed.
    """
    moved = carry(layer, e)
    if moved is not None and moved.shape != layer.shape:
        raise ValueError(
            f"the layer action made {tuple(moved.shape)} of {tuple(layer.shape)} for copy {e}; it "
            "must keep the shape, or return None where it is unknown"
        )
    return moved


def _paired(upright: Tensor, copies: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """The distances of `PairedDistanceResult`, by pair; one copy at a time in memory."""
    moved = torch.stack([distance(copy, upright) for copy in copies], dim=1)
    return {"moved": _by_pair(moved), "other": _numpy(distance(upright[::2], upright[1::2]))}


def _sorted(layer: Tensor) -> Tensor:
    return in_memory_order(layer).sort(dim=1).values


def _single(a: Tensor) -> Tensor:
    return a.float() if a.dtype.itemsize < 4 else a


def _by_pair(values: Tensor) -> np.ndarray:
    return _numpy(values).reshape(-1, 2, *values.shape[1:])


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
