"""Orbits of vectors in the plane under the turns of a regular polygon, each orbit a class."""

import math

import torch

from udl_lab.data.source import Examples, Source
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


def orbits(
    root: str, n_orbits: Positive = 5, n_angles: Positive = 90, n_kept: Positive | None = None
) -> Source:
    """Orbits of C_n without noise (challenge 2023-2: "2-D vectors rotated every 3-4 degrees").

    The base point of orbit k has radius (k + 1) / n_orbits and a random phase, the same for every
    seed. The training points are the base turned by 360 l / n_angles degrees, l = 0 … n_angles - 1,
    and the test points lie half way between them: every turn of the group maps each of the two
    parts to itself, and they share no point. Computed in float64 and rounded once, to float32.

    Args:
        root: not used: the points are computed.
        n_orbits: how many classes.
        n_angles: the order of the group.
        n_kept: keep only the first so many points of each orbit, an arc, which no turn maps to
            itself: the control without the symmetry. All of them if `None`.

    Raises:
        ValueError: when more points would be kept than an orbit has.
    """
    kept = n_angles if n_kept is None else n_kept
    if kept > n_angles:
        raise ValueError(
            f"n_kept={n_kept} is more than the n_angles={n_angles} points of an orbit; "
            f"use at most {n_angles}"
        )
    draw = torch.rand(n_orbits, generator=generator(0, "orbits"), dtype=torch.float64)
    radius = torch.arange(1, n_orbits + 1, dtype=torch.float64) / n_orbits
    label = torch.arange(n_orbits).repeat_interleave(kept)

    def points(steps: torch.Tensor) -> Examples:
        turned = 2 * math.pi * (draw[:, None] + steps / n_angles)
        x = radius[:, None, None] * torch.stack([turned.cos(), turned.sin()], dim=2)
        return Examples(x.flatten(0, 1).float(), label)

    steps = torch.arange(kept, dtype=torch.float64)
    return Source(points(steps), points(steps + 0.5))
