"""The curve of Prince 2023, notebook 17.1: one latent, two observed numbers, nothing learned.

x = curve(z) + noise with z ~ N(0, 1) and noise of variance 0.04. The notebook's text says sine for
x2 where its code takes the cosine; its printed numbers come from the code, and so do these.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.latent.quadrature import Evidence, PosteriorGrid, log_evidence, posterior_grid

VARIANCE = 0.04


def curve(z: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 2"]:
    """E[x | z]: x1 = exp(sin(2 + 3.675 z)) / 2 and x2 = cos(2 + 2.85 z)."""
    return torch.stack([0.5 * torch.exp(torch.sin(2 + 3.675 * z)), torch.cos(2 + 2.85 * z)], -1)


def log_likelihood(
    x: Float64[Tensor, "batch 2"], z: Float64[Tensor, "*point"]
) -> Float64[Tensor, "*point batch"]:
    """The log of p(x | z) in nats, of every x at every z."""
    squares = (x - curve(z)[..., None, :]).square().sum(-1)
    return -0.5 * squares / VARIANCE - math.log(2 * math.pi * VARIANCE)


def log_marginal(x: Float64[Tensor, "batch 2"], n: int = 1601) -> Evidence:
    """The exact log p(x) by the trapezoid rule over +-8 deviations of z.

    The notebook sums over [-3, 3), which holds .99730 of the prior. Its text divides the sum by the
    increment of z; an integral multiplies.

    Args:
        x: points of the plane.
        n: points on the axis of z, odd. Their spacing must be well under 0.05, the smallest
            deviation of p(z | x), which is the noise's over the curve's largest speed; 1601 make it
            0.01, as in the notebook.
    """
    # At most some 50 MB at once, six arrays of so many pairs; beyond half a million points of the
    # plane 90 bytes for each.
    chunk = max(1, 1_000_000 // len(x))
    return log_evidence(lambda z: log_likelihood(x, z[:, 0]), 1, n, chunk=chunk)


def posterior(x: Float64[Tensor, "batch 2"], n: int = 1601) -> PosteriorGrid:
    """The density p(z | x) per unit of z on n points over +-8.

    The notebook divides by the sum over its grid, which gives probabilities of cells: a hundredth
    of the density at its spacing of 0.01. Takes some 50 kB per point of the plane.
    """
    return posterior_grid(lambda z: log_likelihood(x, z[:, 0]), 1, n)


def sample(
    n: int, generator: torch.Generator
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, "n 2"]]:
    """Ancestral samples: z from the prior, then x given z. Both are returned."""
    z = torch.randn(n, generator=generator, dtype=torch.float64)
    eps = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return z, curve(z) + math.sqrt(VARIANCE) * eps
