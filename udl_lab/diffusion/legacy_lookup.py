"""The tables and samplers of notebooks 18.3 and 18.4 as published, to measure what is wrong.

Prince 2023, udlbook at 9f2449fcde; T = 100, β = .01511 and α_t = (1 − β)^t in the book's notation.
For use, take `lookup` and `samplers`. What differs there:

- Tables are counted from noise level 0, so the one that is asked at step t is that of level t − 1.
- 18.4 takes α_{t+1} for α_t. Its last sample is one of z_1, not of x.
- Noise is added on the last step as well.
- A bin's sum is divided by its count + 1; ε is clipped at ±3; examples above 3 are not counted,
  those below −3 are.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from udl_lab.ranges import NonNegativeFloat, Positive

N_LEVELS = 100
BETA = 0.01511
_EDGE, _WIDTH, _BINS = 3.0, 0.01, 600

Shift = Literal[0, 1]
"""1 for α_{t+1} where the book's formula has α_t."""

Answers = Callable[[int, Float64[Tensor, " sample"]], Float64[Tensor, " sample"]]
"""What the table of an index, from 0, expects of the noise."""


def alpha(exponent: int) -> Float64[Tensor, ""]:
    """α, a tensor, whose square root is nan below 0 where Python's would stop."""
    return torch.tensor(1 - BETA, dtype=torch.float64) ** exponent


def train(
    x0: Float64[Tensor, " example"], generator: torch.Generator
) -> Float64[Tensor, "table bin"]:
    """The published tables; index k has seen noise level k = 0 … 99."""
    tables = []
    for k in range(N_LEVELS):
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        z = alpha(k).sqrt() * x0 + (1 - alpha(k)).sqrt() * eps
        bins = ((z.clamp(-_EDGE, _EDGE) + _EDGE) / _WIDTH).floor().long()
        inside = bins < _BINS  # the last edge, summed up in steps of .01, is 1.3e-13 below 3
        values = eps.clamp(-_EDGE, _EDGE)
        sums = torch.zeros(_BINS, dtype=torch.float64)
        sums.index_add_(0, bins[inside], values[inside])
        tables.append(sums / (torch.bincount(bins[inside], minlength=_BINS) + 1))
    return torch.stack(tables)


def answers(tables: Float64[Tensor, "table bin"]) -> Answers:
    """Look the noise up."""
    return lambda k, z: tables[k][((z + _EDGE) / _WIDTH).floor().long().clamp(0, _BINS - 1)]


def sample_18_3(
    said: Answers,
    z: Float64[Tensor, " sample"],
    generator: torch.Generator,
    shift: Shift = 0,
    sigma: NonNegativeFloat = 0.12288,
) -> Float64[Tensor, " sample"]:
    """Algorithm 18.2 put where the notebook leaves it out, which of the α the reader takes."""
    for t in range(N_LEVELS, 0, -1):
        noise_left = (1 - alpha(t + shift)).sqrt()
        z = (z - BETA / noise_left * said(t - 1, z)) / alpha(1).sqrt()
        z = z + sigma * _noise(z, generator)
    return z


def sample_18_4(
    said: Answers,
    z: Float64[Tensor, " sample"],
    generator: torch.Generator,
    n_steps: Positive = N_LEVELS,
    sigma: NonNegativeFloat = 0.001,
    shift: Shift = 1,
) -> Float64[Tensor, " sample"]:
    """DDIM with the same σ at every step; with 20 steps and σ = .11 the accelerated sampler.

    With shift 0, the formula's own α, the last step takes the square root of −σ²: all is nan.
    """
    for step in range(n_steps, 0, -1):
        t, s = N_LEVELS * step // n_steps, N_LEVELS * (step - 1) // n_steps
        at_t, at_s = alpha(t + shift), alpha(s + shift)
        eps = said(t - 1, z)
        x = (z - (1 - at_t).sqrt() * eps) / at_t.sqrt()
        z = at_s.sqrt() * x + (1 - at_s - sigma**2).sqrt() * eps + sigma * _noise(z, generator)
    return z


def _noise(z: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(z.shape, generator=generator, dtype=z.dtype)
