"""Draws of a linear factor model: what probabilistic PCA assumes, so that it can be exact."""

import torch

from udl_lab.data.source import Examples, Source
from udl_lab.randomness import generator
from udl_lab.ranges import Positive, PositiveFloat


def factors(
    root: str,
    d: Positive = 20,
    latent: Positive = 4,
    std: PositiveFloat = 0.7,
    n_train: Positive = 10_000,
    n_test: Positive = 5_000,
) -> Source:
    """Draws of x = W z + b + std · noise with z ~ N(0, I), the same for every seed; no labels.

    The columns of W are normal vectors of falling length, 2, 2/√2, 2/√3, … times √(d/20), so that
    no two factors are alike.

    Args:
        root: not used: the numbers are drawn.
        d: the dimensions of x.
        latent: the number of factors.
        std: of the noise, in the unit of x.
        n_train: training examples.
        n_test: test examples.

    Raises:
        ValueError: for as many factors as dimensions.
    """
    if latent >= d:
        raise ValueError(f"latent={latent} of d={d} dimensions leave no noise; take fewer")
    law = generator(0, "factors", d, latent)
    lengths = 2 * torch.arange(1, latent + 1).double().rsqrt() * (d / 20) ** 0.5
    weight = torch.randn(d, latent, generator=law, dtype=torch.float64)
    weight = weight / weight.norm(dim=0) * lengths
    offset = torch.randn(d, generator=law, dtype=torch.float64)
    parts = []
    for name, n in (("train", n_train), ("test", n_test)):
        stream = generator(0, "factors", d, latent, name)
        z = torch.randn(n, latent, generator=stream, dtype=torch.float64)
        noise = torch.randn(n, d, generator=stream, dtype=torch.float64)
        x = z @ weight.T + offset + std * noise
        parts.append(Examples(x.float(), torch.zeros(n, dtype=torch.int64)))
    return Source(*parts)
