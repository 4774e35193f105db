"""Where the encoder puts the data, against where the prior expects them."""

import torch
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from udl_lab.figures.mass_levels import IN_WORDS, WIDTHS, density_levels, normal_contours
from udl_lab.latent.diagnostics import log_aggregate_posterior
from udl_lab.latent.normal import Normal

_SIDE = 141  # points of the grid for the contours, on each axis
_CLASSES = ListedColormap([f"C{i}" for i in range(10)])


def aggregate_posterior(
    q: Normal,
    labels: Int[Tensor, " example"] | None,
    title: str,
    units: tuple[int, int] = (0, 1),
) -> Figure:
    """The means of all q(z|x) by class, with regions of their mixture q(z) and of the prior.

    The decoder is trained on q(z) and asked for samples of the prior: where their contours part,
    it draws what it never learned, or leaves out what it did.

    Args:
        q: of many examples; the contours take all of them, some 20,000 grid points each.
        labels: their classes, or none.
        title: what the model is, and which examples.
        units: the two units to draw, counted from 0, of a model of more.

    Raises:
        ValueError: for a unit that the model has not, or labels of other examples.
    """
    n, latent = q.mean.shape
    if not all(0 <= unit < latent for unit in units):
        raise ValueError(f"units={units}: choose two of 0 to {latent - 1}")
    if labels is not None and len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} examples; give one of each")
    two = Normal(q.mean[:, units].detach().cpu(), q.log_std[:, units].detach().cpu())
    figure = Figure(figsize=(9.6, 6.6), layout="constrained")
    axes = figure.subplots()
    means = two.mean.double().numpy()
    colours = {"color": "0.5"} if labels is None else {
        "c": labels.numpy() % 10, "cmap": _CLASSES, "vmin": -0.5, "vmax": 9.5
    }  # fmt: skip
    axes.scatter(*means.T, s=7, alpha=0.6, linewidths=0, **colours)
    reach = max(3.3, float((two.mean.abs() + 2 * two.log_std.exp()).max()))
    _mixture(axes, two, reach)
    normal_contours(axes, torch.zeros(2), torch.ones(2), "black", "--")
    axes.set(
        title=title, xlabel=f"z of unit {units[0]}", ylabel=f"z of unit {units[1]}",
        xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    _legends(figure, labels)
    return figure


def _mixture(axes: Axes, q: Normal, reach: float) -> None:
    axis = torch.linspace(-reach, reach, _SIDE, dtype=torch.float64)
    density = log_aggregate_posterior(q, torch.cartesian_prod(axis, axis)).exp()
    levels = density_levels(density, torch.ones_like(density))
    if levels[0] < levels[1] < levels[2]:
        grid = density.reshape(_SIDE, _SIDE).T.numpy()
        axes.contour(
            axis.numpy(), axis.numpy(), grid, levels, colors="0.25", linewidths=WIDTHS[::-1]
        )


def _legends(figure: Figure, labels: Tensor | None) -> None:
    dot = {"marker": "o", "linestyle": "", "markersize": 5}
    if labels is not None:
        classes = [
            Line2D([], [], color=f"C{c % 10}", label=str(c), **dot)
            for c in sorted(set(labels.tolist()))
        ]
        figure.legend(
            handles=classes, title="mean of q(z|x),\nby class of x", loc="outside right upper",
            alignment="left", fontsize=9, title_fontsize=9, frameon=False,
        )  # fmt: skip
    regions = [
        Line2D([], [], color="0.25", linewidth=1, label="q(z), of all examples"),
        Line2D([], [], color="black", linestyle="--", linewidth=1, label="prior N(0, I)"),
    ]
    figure.legend(
        handles=regions, title=f"regions that hold\n{IN_WORDS}", loc="outside right lower",
        alignment="left", fontsize=9, title_fontsize=9, frameon=False,
    )  # fmt: skip
