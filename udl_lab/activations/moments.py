"""Mean, variance and range of single units over images."""

from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from udl_lab.activations.protocol import SeenPairs, pair_numbers


@dataclass(frozen=True, eq=False)
class MomentsResult:
    """Over the upright images, for every unit."""

    count: int
    mean: Float64[np.ndarray, " unit"]
    variance: Float64[np.ndarray, " unit"]  # divided by `count`
    min: Float64[np.ndarray, " unit"]
    max: Float64[np.ndarray, " unit"]
    dead: Bool[np.ndarray, " unit"]  # the same value for every image


@dataclass(frozen=True, eq=False)
class _Moments:
    first: int  # the smallest of its pairs
    count: int
    mean: np.ndarray
    squares: np.ndarray  # sum of squared deviations from the mean
    low: np.ndarray
    high: np.ndarray

    def plus(self, other: "_Moments") -> "_Moments":
        """Of both together (Chan, Golub & LeVeque 1979, eq. 2.1)."""
        count = self.count + other.count
        step = other.mean - self.mean
        return _Moments(
            min(self.first, other.first),
            count,
            self.mean + step * (other.count / count),
            self.squares + other.squares + step**2 * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


@final
class GatheredMoments:
    """Moments of each merged process, combined in the order of their first pairs at the end."""

    def __init__(self) -> None:
        self._seen = SeenPairs()
        self._own: _Moments | None = None
        self._others: list[_Moments] = []

    def add(
        self, pairs: Int64[np.ndarray, " pair"], values: Float64[np.ndarray, "image unit"]
    ) -> None:
        part = self._part(int(pairs.min()), values)
        for there in self._all()[:1]:
            _same_units(there, part)
        self._seen.add(pairs)
        self._own = part if self._own is None else self._own.plus(part)

    def merge(self, other: "GatheredMoments") -> None:
        for there, new in zip(self._all()[:1], other._all()[:1], strict=False):
            _same_units(there, new)
        self._seen.merge(other._seen)
        self._others += other._all()

    def total(self) -> _Moments:
        parts = sorted(self._all(), key=lambda part: part.first)
        if not parts:
            raise ValueError("no image was counted, so there is no result; give at least one pair")
        total, *rest = parts
        for part in rest:
            total = total.plus(part)
        return total

    def _all(self) -> list[_Moments]:
        return [*([] if self._own is None else [self._own]), *self._others]

    @staticmethod
    def _part(first: int, values: np.ndarray) -> _Moments:
        mean = values.mean(axis=0)
        squares = ((values - mean) ** 2).sum(axis=0)
        return _Moments(first, len(values), mean, squares, values.min(axis=0), values.max(axis=0))


@final
class Moments:
    """Mean, variance and range of every unit over the upright images, and which units are dead."""

    def __init__(self) -> None:
        self.gathered = GatheredMoments()

    def update(
        self, acts: Float[Tensor, "element image *unit"], ids: Int[Tensor, " image"]
    ) -> None:
        pairs = pair_numbers(acts, ids)
        upright = acts[0].reshape(len(ids), prod(acts.shape[2:]))
        self.gathered.add(pairs, upright.detach().cpu().double().numpy())

    def merge(self, other: "Moments") -> None:
        self.gathered.merge(other.gathered)

    def result(self) -> MomentsResult:
        total = self.gathered.total()
        variance = total.squares / total.count
        dead = total.low == total.high
        return MomentsResult(total.count, total.mean, variance, total.low, total.high, dead)


def _same_units(here: _Moments, new: _Moments) -> None:
    if here.mean.shape != new.mean.shape:
        raise ValueError(
            f"{len(new.mean)} units beside {len(here.mean)}: a reducer serves one layer"
        )
