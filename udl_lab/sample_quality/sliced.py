"""Sliced Wasserstein-2: how far two sets of points are apart, seen along random directions.

SW2^2(P, Q) is the mean, over unit vectors u uniform on the sphere, of W2^2 between the projections
onto u (Bonneel, Rabin, Peyré & Pfister 2015). On the line W2^2 is the mean squared difference of
equal quantiles.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.sample_quality.points import pair


def directions(n: int, dim: int, generator: torch.Generator) -> Float64[Tensor, "direction dim"]:
    """Unit vectors uniform on the sphere, drawn on the CPU.

    Raises:
        ValueError: when there are none.
    """
    if n < 1 or dim < 1:
        raise ValueError(f"{n} directions in {dim} dimensions: give at least one of each")
    drawn = torch.randn(n, dim, dtype=torch.float64, generator=generator)
    return drawn / drawn.norm(dim=1, keepdim=True)


def squared_along(
    a: Float[Tensor, "a_sample dim"],
    b: Float[Tensor, "b_sample dim"],
    along: Float64[Tensor, "direction dim"],
) -> Float64[Tensor, " direction"]:
    """W2^2 between the projections on each direction, in squared units of the data; exact.

    Their mean is SW2^2, their spread over directions is not an error of the samples.

    Raises:
        ValueError: without points, with one not finite, or of different dimensions.
    """
    a, b = pair(a, b)
    along = along.to(a.device)
    n, m = len(a), len(b)
    # Both quantile functions are constant between neighbouring multiples of 1/n and 1/m. In units
    # of 1/(n m) these are integers, so that no step is lost by rounding.
    ends = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique().to(a.device)
    start = ends[:-1]
    share = ends.diff().double() / (n * m)
    quantile_a = (a @ along.mT).sort(dim=0).values[start // m]
    quantile_b = (b @ along.mT).sort(dim=0).values[start // n]
    return share @ (quantile_a - quantile_b).square()


def sliced_wasserstein(
    a: Float[Tensor, "a_sample dim"],
    b: Float[Tensor, "b_sample dim"],
    generator: torch.Generator,
    n_directions: int = 256,
) -> float:
    """SW2, the root of the mean of W2^2 over directions, in the unit of the data.

    Distances to be compared should share their directions: give generators of the same name.

    Raises:
        ValueError: as `squared_along`, or without directions.
    """
    along = directions(n_directions, a.shape[-1], generator)
    return float(squared_along(a, b, along).mean().sqrt())
