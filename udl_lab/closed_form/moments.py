"""Moments of an estimator's single draws: exact ones, and those of many draws in bounded memory."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

# Values of an estimator, one for each N(0, 1) number, in the same places.
Draws = Callable[[Tensor], Tensor]

CHUNK = 2**18  # draws at a time: 2 MiB in float64, and some ten times that while f is computed


class Moments(NamedTuple):
    """Exact moments of one draw; from them follows how far a finite sample may lie from the truth.

    The variance and the fourth moment are central and may be infinite.
    """

    mean: float
    variance: float
    fourth: float

    @property
    def std(self) -> float:
        return math.sqrt(self.variance)

    @property
    def effective_share(self) -> float:
        """Effective sample size per draw, mean² / E[draw²] (Kong 1992).

        1 for draws that are all equal, 0 for an infinite variance; the mean must not be 0.
        """
        return 1 / (1 + self.variance / self.mean**2)

    def of_mean(self, n: int) -> "Moments":
        """The moments of a mean of n independent draws.

        E[(sum of n)^4] = n fourth + 3 n (n - 1) variance²: only equal indices and pairs are left.
        """
        if n < 1:
            raise ValueError(f"a mean of {n} draws is undefined; give n of at least 1")
        pairs = 0.0 if n == 1 else 3 * (n - 1) * self.variance**2
        return Moments(self.mean, self.variance / n, (self.fourth + pairs) / n**3)

    def variance_error(self, n: int) -> float:
        """The standard error of the sample variance (divided by n - 1) of n draws.

        Its variance is (fourth - variance² (n - 3) / (n - 1)) / n; infinite with the fourth moment.
        """
        if n < 2:
            raise ValueError(f"{n} draws have no sample variance; give n of at least 2")
        if math.isinf(self.fourth):
            return math.inf
        return math.sqrt((self.fourth - self.variance**2 * (n - 3) / (n - 1)) / n)


@dataclass(frozen=True)
class Running:
    """Count, mean and sum of squared deviations of the draws so far."""

    count: int
    mean: float
    squares: float

    @classmethod
    def of(cls, values: Float[Tensor, "..."]) -> "Running":
        """Of one chunk, in float64."""
        values = values.double()
        mean = values.mean()
        return cls(values.numel(), float(mean), float((values - mean).square().sum()))

    def plus(self, other: "Running") -> "Running":
        """Of both together (Chan, Golub & LeVeque 1979, eq. 2.1): exact up to rounding."""
        count = self.count + other.count
        step = other.mean - self.mean
        return Running(
            count,
            self.mean + step * (other.count / count),
            self.squares + other.squares + step**2 * (self.count * other.count / count),
        )

    @property
    def variance(self) -> float:
        """The unbiased one, divided by count - 1; not a number for a single draw."""
        return self.squares / (self.count - 1) if self.count > 1 else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return math.sqrt(self.variance / self.count)


def stream(draws: Draws, n: int, generator: torch.Generator, chunk: int = CHUNK) -> Running:
    """Mean and variance of n draws, in float64, of which only `chunk` are ever in memory.

    Another chunk size may take other numbers from the generator, of the same law.

    Args:
        draws: an estimator with its other arguments bound, `partial(reparameterised, 0.5)`.
        n: how many draws.
        generator: of the N(0, 1) numbers; it moves on.
        chunk: draws at a time.

    Raises:
        ValueError: when n or `chunk` is below 1.
    """
    _at_least_one("n", n)
    _at_least_one("chunk", chunk)
    total = None
    for start in range(0, n, chunk):
        part = Running.of(draws(_noise(min(chunk, n - start), 1, generator)[:, 0]))
        total = part if total is None else total.plus(part)
    assert total is not None  # n >= 1
    return total


def means(
    draws: Draws, n: int, repeats: int, generator: torch.Generator, chunk: int = CHUNK
) -> Float64[Tensor, " repeat"]:
    """Independent means of n draws each: what an estimate with n draws may come out as.

    Raises:
        ValueError: when n, `repeats` or `chunk` is below 1.
    """
    _at_least_one("n", n)
    _at_least_one("repeats", repeats)
    _at_least_one("chunk", chunk)
    if n > chunk:
        found = [stream(draws, n, generator, chunk).mean for _ in range(repeats)]
        return torch.tensor(found, dtype=torch.float64)
    rows = chunk // n
    parts = [
        draws(_noise(min(rows, repeats - start), n, generator)).mean(1)
        for start in range(0, repeats, rows)
    ]
    return torch.cat(parts)


def _noise(rows: int, n: int, generator: torch.Generator) -> Float64[Tensor, "rows n"]:
    return torch.randn(rows, n, generator=generator, dtype=torch.float64)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} = {value}; give at least 1")
