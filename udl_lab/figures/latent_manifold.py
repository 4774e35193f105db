"""A latent space of two dimensions as the pictures that it decodes to."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.figures.canvas import pictures
from udl_lab.ranges import Positive


def prior_quantiles(n: Positive) -> Float[Tensor, " n"]:
    """The middles of n parts of N(0, 1) of equal mass, in rising order.

    Equal steps of probability, not of z: each picture stands for as many samples of the prior.

    Raises:
        ValueError: for n under 1.
    """
    if n < 1:
        raise ValueError(f"{n} quantiles make no picture; take 1 or more")
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()


def manifold_latents(n: Positive) -> Float[Tensor, "point 2"]:
    """The n² latents of `latent_manifold`: all pairs of quantiles, z2 changing fastest."""
    return torch.cartesian_prod(*[prior_quantiles(n)] * 2)


def latent_manifold(
    images: Float[Tensor, "point channel height width"],
    title: str,
    low: float = 0.0,
    high: float = 1.0,
) -> Figure:
    """Decoded means over the quantiles of the prior: z1 to the right, z2 upwards.

    Args:
        images: the decoder's means at `manifold_latents(n)`, in its order.
        title: what the model is.
        low: the value of black.
        high: the value of white.

    Raises:
        ValueError: for a number of images that is no square, no images or an empty range.
    """
    n = round(len(images) ** 0.5)
    if n * n != len(images):
        raise ValueError(f"{len(images)} images are no square; decode all of manifold_latents(n)")
    by_z1 = images.unflatten(0, (n, n)) if n else images[None]
    rows = [list(row) for row in by_z1.transpose(0, 1).flip(0)]
    values = [f"{z:.2f}".replace("-", "−") for z in prior_quantiles(n)] if n else []
    figure, axes = pictures(rows, title, low, high, (values, values[::-1]))
    axes.set(
        xlabel="$z_1$ (quantiles of the prior N(0, 1), of equal probability)",
        ylabel="$z_2$ (the same)",
    )
    if n > 20:  # their names would touch
        axes.tick_params(labelsize=6)
    return figure
