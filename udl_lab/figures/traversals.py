"""What each latent unit does to a picture."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.figures.canvas import pictures
from udl_lab.ranges import Positive


def traversal_latents(
    start: Float[Tensor, " latent"], values: Float[Tensor, " step"]
) -> Float[Tensor, "latent step latent"]:
    """The latents of `traversals`: one example's, with unit i in row i moved over the values."""
    n = len(start)
    z = start.expand(n, len(values), n).clone()
    units = torch.arange(n)
    z[units, :, units] = values.to(z)
    return z


def traversals(
    images: Float[Tensor, "_latent _step channel height width"],
    values: Float[Tensor, " step"],
    kl: Float[Tensor, " latent"],
    title: str,
    most: Positive = 10,
    low: float = 0.0,
    high: float = 1.0,
) -> Figure:
    """A row per unit, moved over the values while the others stay: the largest KL at the top.

    Args:
        images: decoded means at `traversal_latents`, in its order.
        values: of the unit, usually `latent_manifold.prior_quantiles`.
        kl: KL(q(z|x) ‖ N(0, 1)) of each unit in nats, averaged over examples; units are counted
            from 0, as in the metrics.
        title: what the model is, and which example stays.
        most: so many units are drawn; the title says of how many.
        low: the value of black.
        high: the value of white.

    Raises:
        ValueError: when images, values and KLs do not match, no images or an empty range.
    """
    if images.shape[:2] != (len(kl), len(values)):
        raise ValueError(
            f"{images.shape[0]} × {images.shape[1]} images do not match {len(kl)} units and "
            f"{len(values)} values; decode traversal_latents"
        )
    order = kl.argsort(descending=True)[:most].tolist()
    names = [f"unit {i}: {kl[i]:.2f} nats" for i in order]
    columns = [f"{value:.2f}".replace("-", "−") for value in values]
    if len(order) < len(kl):
        title = f"{title}\nthe {len(order)} units of largest KL, of {len(kl)}"
    rows = [list(images[i]) for i in order]
    figure, axes = pictures(rows, title, low, high, (columns, names))
    axes.set(
        xlabel="value that the unit is set to (the others stay)",
        ylabel="unit, with its mean\nKL(q(z|x) ‖ N(0, 1))",
    )
    return figure
