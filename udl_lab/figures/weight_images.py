"""The weights of a layer that sees the image, drawn as images."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def weight_images(
    weight: Float[Tensor, "unit pixel"], labels: Sequence[str], title: str, most: int = 20
) -> Figure:
    """Draw one image per unit, all on one colour scale that is symmetric about 0.

    The original rescaled each image to [0, 1] by itself, which hides both sign and size.

    Args:
        weight: a row per unit, a column per pixel of a square image.
        labels: the name of each unit.
        title: what the layer is.
        most: how many units to draw; the title says when there are more.

    Raises:
        ValueError: when a row is no square image.
    """
    n_units, n_pixels = weight.shape
    side = math.isqrt(n_pixels)
    if side**2 != n_pixels:
        raise ValueError(f"a row of {n_pixels} weights is no square image; draw another layer")
    images = weight[:most].detach().cpu().reshape(-1, side, side).numpy()
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.7 * columns + 1, 1.9 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    scale = float(abs(images).max())
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, label in zip(grid.flat, images, labels, strict=False):
        picture = axes.imshow(image, cmap="RdBu_r", vmin=-scale, vmax=scale)
        axes.set_title(label, fontsize=9)
    figure.colorbar(
        picture,
        ax=grid,
        shrink=0.8,
        label="weight (per normalised pixel)\nred adds, blue subtracts",
    )
    figure.suptitle(title if n_units <= most else f"{title} (first {most} of {n_units:,})")
    return figure
