"""What a latent model makes of examples: from the mean of q(z|x), and from draws of it."""

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.figures.canvas import pictures


def reconstructions(
    images: Float[Tensor, "n channel height width"],
    from_mean: Float[Tensor, "_n _channel _height _width"],
    from_draws: Float[Tensor, "draw _n _channel _height _width"],
    title: str,
    low: float = 0.0,
    high: float = 1.0,
) -> Figure:
    """A column per example: itself, E[x|z] at the mean of q(z|x), and at draws of q(z|x).

    What differs between draws is what the latents leave open; what they share and the image has
    not is what the decoder cannot draw.

    Args:
        images: the examples.
        from_mean: the decoder's mean at the posterior mean of each.
        from_draws: and at draws of each posterior.
        title: what the model is.
        low: the value of black.
        high: the value of white.

    Raises:
        ValueError: for other numbers or shapes of images in some row, no images or an empty range.
    """
    rows = [images, from_mean, *from_draws]
    names = ["image x", "z = mean of q(z|x)"]
    names += [f"z ~ q(z|x), draw {i + 1}" for i in range(len(from_draws))]
    if len({row.shape for row in rows}) > 1:
        shapes = {name: tuple(row.shape) for name, row in zip(names, rows, strict=True)}
        raise ValueError(f"shapes {shapes} differ; give each row the same examples in one size")
    columns = [str(i + 1) for i in range(len(images))]
    figure, axes = pictures([list(row) for row in rows], title, low, high, (columns, names))
    axes.set(xlabel="example", ylabel="example, and its decoded means E[x|z]")
    return figure
