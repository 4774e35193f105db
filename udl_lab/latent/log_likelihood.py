"""log p(x) by importance sampling from q(z | x), with signs of when not to believe it.

Works on log weights log p(x, z) - log q(z | x), k per example. The logarithm of their mean is the
IWAE bound (Burda et al. 2016, eq. 8) and tends to log p(x) from below as k grows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.latent.bounds import iwae_of_groups
from udl_lab.latent.memory import peak_bytes
from udl_lab.latent.model import HierarchicalModel, LatentModel, Terms
from udl_lab.latent.pareto import pareto_shape, tail_length


@dataclass(frozen=True)
class ImportanceEstimate:
    """An estimate of log p(x) for each example, in nats, from k weights."""

    log_likelihood: Float64[Tensor, " batch"]  # too low by about standard_error ** 2 / 2 on average
    # By the delta method: the standard error of the mean weight over the mean weight; nan if k = 1.
    standard_error: Float64[Tensor, " batch"]
    ess: Float64[Tensor, " batch"]  # effective sample size, (sum w)^2 / sum w^2: 1 to k
    # Shape of the weights' upper tail: over 0.7 the estimate and its standard error mean little
    # (Vehtari et al. 2024). nan if k < 25 or the largest weights are equal.
    pareto_k: Float64[Tensor, " batch"]


class RunningEstimate:
    """The estimate from weights that arrive in chunks, in memory that does not grow with them.

    Keeps two log sums and the largest weights, which are all that the tail's shape needs.

    Raises:
        ValueError: for k under 1.
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ValueError(f"k={k}: importance sampling needs 1 or more samples per example")
        self.k = k
        self.n_seen = 0
        self.log_sum: Tensor | None = None
        self.log_sum_squares: Tensor | None = None
        self.largest: Tensor | None = None

    def add(self, log_weights: Float[Tensor, "chunk batch"]) -> None:
        """Take in some of the k weights."""
        new = log_weights.double()
        kept = new
        if self.log_sum is None or self.log_sum_squares is None or self.largest is None:
            self.log_sum = new.logsumexp(0)
            self.log_sum_squares = (2 * new).logsumexp(0)
        else:
            self.log_sum = torch.logaddexp(self.log_sum, new.logsumexp(0))
            self.log_sum_squares = torch.logaddexp(self.log_sum_squares, (2 * new).logsumexp(0))
            kept = torch.cat([self.largest, new])
        # One more than the tail: the largest weight below it is where the tail starts.
        self.largest = kept.topk(min(tail_length(self.k) + 1, len(kept)), dim=0).values
        self.n_seen += len(new)

    def estimate(self) -> ImportanceEstimate:
        """The estimate from all k weights.

        Raises:
            ValueError: if not exactly k weights per example were added.
        """
        if self.log_sum is None or self.log_sum_squares is None or self.largest is None:
            raise ValueError(f"no weights were added of the {self.k}")
        if self.n_seen != self.k:
            raise ValueError(f"{self.n_seen} weights were added of the {self.k} announced")
        ess = (2 * self.log_sum - self.log_sum_squares).exp()
        # var(mean w) / (mean w)^2 = (k sum w^2 / (sum w)^2 - 1) / (k - 1), unbiased in var.
        relative = ((self.k / ess - 1).clamp(min=0) / (self.k - 1 or math.nan)).sqrt()
        return ImportanceEstimate(
            self.log_sum - math.log(self.k), relative, ess, pareto_shape(self.largest, self.k)
        )


def estimate(log_weights: Float[Tensor, "k batch"]) -> ImportanceEstimate:
    """The estimate from all log weights at once.

    Raises:
        ValueError: for k = 0.
    """
    running = RunningEstimate(len(log_weights))
    running.add(log_weights)
    return running.estimate()


def ladder(
    log_weights: Float[Tensor, "k batch"], rungs: Sequence[int]
) -> Float64[Tensor, "rung batch"]:
    """The bounds L_1 <= L_10 <= ... of one set of weights, in nats per example.

    For each rung K the weights are cut into k // K groups; the result is the mean over groups of
    the log of the mean weight, an unbiased estimate of L_K from as many weights as there are. If
    each rung divides the next and the last divides k, the ladder rises for every single example,
    by Jensen's inequality, without any noise in the comparison.

    Raises:
        ValueError: for a rung under 1 or over the number of weights.
    """
    return torch.stack([iwae_of_groups(log_weights.double(), k).mean(0) for k in rungs])


@torch.no_grad()
def importance_log_likelihood(
    model: LatentModel | HierarchicalModel,
    x: Float[Tensor, " batch *shape"],
    k: int,
    chunk: int | None,
    generator: torch.Generator,
    max_bytes: int = 2**28,
) -> ImportanceEstimate:
    """The log p(x) of a trained model, by importance sampling with k samples of q(z | x) each.

    The memory beside model and data is `chunk` times that of one sample of every example, plus
    some six times 3 sqrt(k) float64 numbers per example: not k of anything. Per-example samples do
    not depend on `chunk`, so neither does the result but for rounding.

    Args:
        model: in evaluation mode; put it and x on one device.
        x: examples.
        k: samples per example.
        chunk: samples of each example at once. None takes what fits in `max_bytes`, on a CPU no
            more than fit in 16 MB as well: what stays in the cache is faster.
        generator: of the noise, a CPU generator.
        max_bytes: the most memory beside model and data, but for what single operations take inside
            (some 8 bytes per weight of a chunk, in the sums of logarithms).

    Raises:
        ValueError: for k or chunk under 1, or a chunk that does not fit in `max_bytes`.
    """
    running = RunningEstimate(k)
    for log_weights in weigh(model, x, k, chunk, generator, max_bytes):
        running.add(log_weights)
    return running.estimate()


def weigh(
    model: LatentModel | HierarchicalModel,
    x: Float[Tensor, " batch *shape"],
    k: int,
    chunk: int | None,
    generator: torch.Generator,
    max_bytes: int = 2**28,
) -> Iterator[Tensor]:
    """Chunks of k log weights per example, each "chunk batch", for `ladder` or a running estimate.

    The encoder of a `LatentModel` runs once, that of a `HierarchicalModel` once per chunk.

    Args and errors as in `importance_log_likelihood`.
    """
    if k < 1:
        raise ValueError(f"k={k}: importance sampling needs 1 or more samples per example")
    terms = partial(model.terms, x)
    if isinstance(model, LatentModel):
        with torch.no_grad():
            terms = partial(model.terms_at, model.posterior(x), x)
    fast = max_bytes if x.is_cuda else min(max_bytes, 2**24)
    room = max_bytes - _bytes_kept(k, len(x))
    chunk = _fitting_chunk(chunk, k, bytes_per_sample(model, x), room, fast)
    return _chunks(terms, x, model.n_noise, k, chunk, generator)


def bytes_per_sample(
    model: LatentModel | HierarchicalModel, x: Float[Tensor, " batch *shape"]
) -> int:
    """The most memory in use at once for one sample of z for every example.

    Measured on the whole of two chunks of one sample: the encoder, the noise, the densities, the
    sums of the weights, and the chunk before that the caller may still hold.
    """

    def two_chunks() -> None:
        running = RunningEstimate(2)
        terms = partial(model.terms, x)
        for log_weights in _chunks(terms, x, model.n_noise, 2, 1, torch.Generator()):
            running.add(log_weights)

    return peak_bytes(two_chunks)


def _chunks(
    terms: Callable[[Tensor], Terms],
    x: Tensor,
    n_noise: int,
    k: int,
    chunk: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The log weights of k samples, a chunk at a time."""

    def weights(n: int) -> Tensor:
        # One draw per sample: the noise of the i-th does not depend on the chunks.
        eps = torch.empty(n, len(x), n_noise, dtype=x.dtype)
        for one in eps:
            one.normal_(generator=generator)
        return terms(eps.to(x.device)).log_weights

    for start in range(0, k, chunk):
        with torch.no_grad():
            log_weights = weights(min(chunk, k - start))
        yield log_weights


def _bytes_kept(k: int, batch: int) -> int:
    """What a `RunningEstimate` takes beside the new weights, and the tail's shape at the end."""
    largest = torch.zeros(min(k, tail_length(k) + 1), batch, dtype=torch.float64)
    # The largest of before, the same in front of the new ones, values and places of those chosen.
    adding = 4 * largest.nbytes
    return max(adding, largest.nbytes + peak_bytes(lambda: pareto_shape(largest, k)))


def _fitting_chunk(chunk: int | None, k: int, one: int, room: int, fast: int) -> int:
    most = room // one
    if most < 1:
        raise ValueError(
            f"one sample of every example takes {one} bytes, and max_bytes leaves {max(room, 0)} "
            "for it: give fewer examples at once, or a larger max_bytes"
        )
    if chunk is None:
        return min(k, most, max(1, fast // one))
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: take 1 to {most} samples at once")
    if min(chunk, k) > most:
        raise ValueError(
            f"chunk={chunk} takes {min(chunk, k) * one} bytes, and max_bytes leaves {room} for it: "
            f"chunk {most} fits"
        )
    return chunk
