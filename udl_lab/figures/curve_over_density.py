"""A latent model of one latent in the plane: its curve, its density and its samples."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor


def curve_over_density(
    x1: Float[Tensor, " x1"],
    x2: Float[Tensor, " x2"],
    density: Float[Tensor, "x1 x2"],
    z: Float[Tensor, " z"],
    curve: Float[Tensor, "z 2"],
    samples: Float[Tensor, "sample 2"],
    point: Float[Tensor, " 2"],
    title: str,
) -> Figure:
    """The density p(x) twice: with the curve E[x|z], and with samples.

    Args:
        x1: an axis of the plane.
        x2: the other one.
        density: p(x) on their grid.
        z: latents in rising order; whole ones are marked on the curve.
        curve: E[x|z] at each.
        samples: draws of x.
        point: a place to be marked.
        title: what the model is.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes in (left, right):
        picture = axes.pcolormesh(
            x1.numpy(), x2.numpy(), density.T.numpy(), cmap="Blues", vmin=0, shading="gouraud",
            rasterized=True,
        )  # fmt: skip
        where = "({:g}, {:g})".format(*point.tolist()).replace("-", "−")
        axes.plot(
            *point.tolist(), "*", color="black", markersize=10, zorder=3, label=f"x = {where}"
        )
        axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    figure.colorbar(picture, ax=[left, right], label="density p(x) (per unit of area)")
    _curve(left, z.numpy(), curve.numpy())
    right.plot(*samples.T.numpy(), ".", color="C1", markersize=4)
    left.set_title("density and the curve E[x|z], marked at z")
    right.set_title(f"density and {len(samples):,} samples")
    left.legend(fontsize=9, loc="lower right")
    _frame(
        left, x1, x2, density, np.concatenate([curve.numpy(), samples.numpy(), point.numpy()[None]])
    )
    return figure


def _curve(axes: Axes, z: np.ndarray, curve: np.ndarray) -> None:
    axes.plot(*curve.T, color="C3", linewidth=1.2)
    whole = np.arange(np.ceil(z[0]), np.floor(z[-1]) + 1)
    marked = np.array([np.interp(whole, z, coordinate) for coordinate in curve.T]).T
    axes.plot(*marked.T, "o", color="C3", markersize=4)
    for value, place in zip(whole, marked, strict=True):
        axes.annotate(
            f"{value:g}".replace("-", "−"), place, xytext=(4, 4), textcoords="offset points",
            fontsize=9, color="C3", path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


def _frame(axes: Axes, x1: Tensor, x2: Tensor, density: Tensor, points: np.ndarray) -> None:
    """Show what has density, and every point: the grid reaches further than the eye."""
    seen = density > 1e-3 * density.max()
    shown = (x1[seen.any(1)], x2[seen.any(0)])
    limits = [
        (min(float(s.min()), p.min()) - 0.1, max(float(s.max()), p.max()) + 0.1)
        for s, p in zip(shown, points.T, strict=True)
    ]
    axes.set(xlim=limits[0], ylim=limits[1])
