"""Fidelity and diversity by nearest neighbours: precision, recall, density and coverage.

A set's support is estimated by balls about its points, each reaching to the point's k-th nearest
other. Distances are Euclidean, in features or pixels; the four numbers have no unit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.sample_quality.nearest import nearest
from udl_lab.sample_quality.points import COLUMNS, ROWS, blocks, pair, squared_distances


@dataclass(frozen=True, slots=True)
class Coverage:
    """Four shares, beside what density and coverage are for equal laws.

    Attributes:
        precision: share of samples inside some real ball (Kynkäänniemi et al. 2019).
        recall: share of real points inside some ball of a sample (the same).
        density: real balls around a sample, on average, over k; may exceed 1 (Naeem et al.
            2020). Its mean is 1 for equal laws.
        coverage: share of real balls that hold a sample (Naeem et al. 2020).
        coverage_by_chance: its exact mean for equal continuous laws.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    coverage_by_chance: float


def coverage(
    real: Float[Tensor, "real dim"], samples: Float[Tensor, "sample dim"], k: int = 5
) -> Coverage:
    """Precision, recall, density and coverage of samples, each a mean over points.

    Precision and recall have no known value for equal laws, and one outlier with a large ball
    moves them: prefer density and coverage, and k that makes `coverage_by_chance` about .95.

    Raises:
        ValueError: unless both sets have more than k points, all finite, of one dimension.
    """
    real, samples = pair(real, samples, at_least=k + 1)
    centre = real.mean(0)
    real, samples = real - centre, samples - centre
    real_reach, sample_reach = _reach(real, k), _reach(samples, k)
    n, m = len(real), len(samples)
    n_around_sample = torch.zeros(m, dtype=torch.int64, device=real.device)
    holds_sample = torch.zeros(n, dtype=torch.bool, device=real.device)
    recalled = torch.zeros(n, dtype=torch.bool, device=real.device)
    for i, some_real in blocks(real, ROWS):
        rows = slice(i, i + len(some_real))
        for j, some_samples in blocks(samples, COLUMNS):
            columns = slice(j, j + len(some_samples))
            squared = squared_distances(some_real, some_samples)
            inside = squared < real_reach[rows, None].square()
            n_around_sample[columns] += inside.sum(0)
            holds_sample[rows] |= inside.any(1)
            recalled[rows] |= (squared < sample_reach[columns].square()).any(1)
    return Coverage(
        precision=_share(n_around_sample > 0),
        recall=_share(recalled),
        density=float(n_around_sample.sum()) / (k * m),
        coverage=_share(holds_sample),
        coverage_by_chance=coverage_by_chance(n, m, k),
    )


def coverage_by_chance(n_real: int, n_samples: int, k: int) -> float:
    """Mean coverage when both laws are equal and continuous (Naeem et al. 2020).

    Of the others ordered by their distance to a real point, n_real - 1 real and n_samples not,
    the ball holds no sample if the first k are real: prod_i (n_real - i) / (n_real + n_samples - i)
    for i = 1 to k.
    """
    i = torch.arange(1, k + 1, dtype=torch.float64)
    return 1 - float(((n_real - i) / (n_real + n_samples - i)).prod())


def _reach(points: Float64[Tensor, "point dim"], k: int) -> Float64[Tensor, " point"]:
    """Distance of each point to its k-th nearest other; the nearest of all is itself."""
    return nearest(points, points, k + 1).distance[:, k]


def _share(which: Tensor) -> float:
    return float(which.double().mean())
