"""Contours that enclose a stated share of a distribution, so that two can be compared."""

import math

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

MASSES = (0.5, 0.9, 0.99)
WIDTHS = (1.8, 1.2, 0.7)  # of their lines, in the same order
IN_WORDS = "50 % (thick), 90 % and 99 % (thin)"


def density_levels(density: Float[Tensor, " point"], cell: Float[Tensor, " point"]) -> list[float]:
    """The densities above which lie 99, 90 and 50 % of the mass, in rising order.

    The regions above them are the smallest of their mass. Masses are shares of what is on the grid.
    """
    order = density.argsort(descending=True)
    mass = (density[order] * cell[order]).cumsum(0)
    found = torch.searchsorted(mass / mass[-1], torch.tensor(MASSES).to(mass)).clamp(
        max=len(mass) - 1
    )
    return sorted(float(level) for level in density[order][found])


def normal_contours(
    axes: Axes,
    mean: Float[Tensor, " 2"],
    std: Float[Tensor, " 2"],
    colour: str,
    linestyle: str = "-",
    label: str | None = None,
) -> None:
    """The ellipses that hold the same shares of a normal of two independent coordinates.

    A mass m lies within √(−2 log(1 − m)) deviations: the squared radius is exponential.
    """
    angle = np.linspace(0, 2 * math.pi, 201)
    for i, (mass, width) in enumerate(zip(MASSES, WIDTHS, strict=True)):
        radius = math.sqrt(-2 * math.log1p(-mass))
        axes.plot(
            float(mean[0]) + radius * float(std[0]) * np.cos(angle),
            float(mean[1]) + radius * float(std[1]) * np.sin(angle),
            color=colour, linestyle=linestyle, linewidth=width, label=None if i else label,
        )  # fmt: skip
