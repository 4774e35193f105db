"""Laws of simple data whose score is known: mixtures of normals in one and two dimensions."""

import math
from collections.abc import Callable
from typing import Literal

import torch

from udl_lab.diffusion.denoisers import GaussianMixture
from udl_lab.diffusion.schedule import Schedule

Law = Literal["book", "three_modes", "ring", "spiral"]


def make_law(name: Law, schedule: Schedule) -> GaussianMixture:
    """A law by its name, as a denoiser for a schedule.

    - `book`: four modes on a line, of unequal width (Prince 2023, notebooks 18.2 to 18.4).
    - `three_modes`: three modes on a line.
    - `ring`: eight narrow modes on a circle of radius √2, each coordinate of variance 1.
    - `spiral`: sixty narrow modes along one and a half turns of a spiral in the plane.
    """
    weights, means, deviations = _LAWS[name]()
    variances = torch.tensor(deviations, dtype=torch.float64).square()
    return GaussianMixture(
        schedule,
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(means, dtype=torch.float64),
        variances,
    )


Modes = tuple[list[float], list[list[float]], list[float]]
"""Weights, means and standard deviations."""


def _book() -> Modes:
    return (
        [0.2, 0.3, 0.35, 0.15],
        [[1.5], [-0.216], [0.45], [-1.875]],
        [0.3, 0.15, 0.525, 0.075],
    )


def _three_modes() -> Modes:
    return [0.3, 0.5, 0.2], [[-1.0], [0.2], [1.1]], [0.15, 0.1, 0.2]


def _ring() -> Modes:
    deviation = 0.1
    radius = math.sqrt(2 * (1 - deviation**2))
    turns = [2 * math.pi * i / 8 for i in range(8)]
    means = [[radius * math.cos(a), radius * math.sin(a)] for a in turns]
    return [1 / 8] * 8, means, [deviation] * 8


def _spiral() -> Modes:
    n = 60
    turns = [math.pi * (0.5 + 3 * i / (n - 1)) for i in range(n)]
    means = [[0.18 * a * math.cos(a), 0.18 * a * math.sin(a)] for a in turns]
    return [1 / n] * n, means, [0.05] * n


_LAWS: dict[str, Callable[[], Modes]] = {
    "book": _book,
    "three_modes": _three_modes,
    "ring": _ring,
    "spiral": _spiral,
}
