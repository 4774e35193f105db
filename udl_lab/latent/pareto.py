"""How heavy the upper tail of importance weights is: whether their mean can be trusted."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor


def tail_length(k: int) -> int:
    """How many of k weights are the tail (Vehtari et al. 2024, for independent draws)."""
    return math.ceil(min(0.2 * k, 3 * math.sqrt(k)))


def pareto_shape(largest: Float64[Tensor, "kept batch"], k: int) -> Float64[Tensor, " batch"]:
    """The shape of the generalised Pareto distribution of the weights' upper tail.

    Over 1/2 the weights' variance is infinite, over 1 their mean, as far as the tail tells.
    Zhang & Stephens 2009 (their k is minus this one), with the weak prior at 1/2 of Vehtari et al.
    2024, which counts as ten weights.

    Args:
        largest: log weights in falling order: the tail and one more, where the tail starts.
        k: the number of all weights.

    Returns:
        nan for fewer than 5 weights in the tail, or if they are equal up to rounding.
    """
    n = tail_length(k)
    if n < 5:
        return torch.full_like(largest[0], math.nan)
    # In units of the largest weight: the shape does not depend on the scale.
    weights = (largest[: n + 1] - largest[0]).exp()
    excess = weights[:n].flip(0) - weights[n]  # rising order
    m = 30 + math.isqrt(n)
    quartile = excess[math.floor(n / 4 + 0.5) - 1]
    steps = 1 - (m / (torch.arange(1, m + 1).to(largest) - 0.5)).sqrt()
    candidates = 1 / excess[-1] + steps[:, None] / (3 * quartile)  # their theta
    shapes = torch.stack([(-theta * excess).log1p().mean(0) for theta in candidates])
    profile = n * ((-candidates / shapes).log() - shapes - 1)
    theta = (profile.softmax(0) * candidates).sum(0)
    shape = (-theta * excess).log1p().mean(0)
    shape = (n * shape + 10 * 0.5) / (n + 10)
    # Rounding of log weights of some hundred nats is about 1e-13: such a spread is no tail.
    spread = largest[0] - largest[n]
    return torch.where((spread > 1e-10) & (quartile > 0), shape, math.nan)
