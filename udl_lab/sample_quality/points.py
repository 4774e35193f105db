"""Sets of points as the measures of this room take them, and the distances between them."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor

ROWS = 1024  # points of the first set compared at a time
COLUMNS = 4096  # points of the second set: 1024 x 4096 numbers in float64 are 32 MiB


def checked(name: str, points: Float[Tensor, "point dim"], at_least: int = 1) -> None:
    """Refuse what is no set of points.

    Raises:
        ValueError: with too few points, without coordinates, or with a coordinate not finite.
    """
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(
            f"{name} has the shape {tuple(points.shape)}; give one point per row, for images "
            "flatten(1)"
        )
    if len(points) < at_least:
        raise ValueError(f"{name} has {len(points)} points; give at least {at_least}")
    for start, block in blocks(points, COLUMNS):
        bad = torch.nonzero(~torch.isfinite(block))
        if len(bad) > 0:
            row, column = bad[0].tolist()
            raise ValueError(
                f"{name} holds {block[row, column].item()} at row {start + row}, column {column}; "
                "report samples that diverged, then leave them out"
            )


def pair(
    a: Float[Tensor, "a_point a_dim"], b: Float[Tensor, "b_point b_dim"], at_least: int = 1
) -> tuple[Float64[Tensor, "a_point dim"], Float64[Tensor, "b_point dim"]]:
    """Both sets in float64, once they can be compared.

    Raises:
        ValueError: as `checked`, and when the dimensions differ.
    """
    checked("a", a, at_least)
    checked("b", b, at_least)
    same_dimension(a, b)
    return a.double(), b.double()


def same_dimension(a: Float[Tensor, "a_point a_dim"], b: Float[Tensor, "b_point b_dim"]) -> None:
    """Refuse two sets of points of different spaces.

    Raises:
        ValueError: when the dimensions differ.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"the points have {a.shape[1]} and {b.shape[1]} coordinates; compare samples and data "
            "in the same space, or features of both by the same network"
        )


def squared_distances(
    a: Float64[Tensor, "a_point dim"], b: Float64[Tensor, "b_point dim"]
) -> Float64[Tensor, "a_point b_point"]:
    """Squared Euclidean distances, summed over coordinates, by one matrix product.

    Rounding is about 1e-15 of the squared norms, not of the distance: points far from the origin
    should be centred first, and a copy is at about 1e-7 of its norm rather than at 0.
    """
    a_norm = a.square().sum(1)
    b_norm = b.square().sum(1)
    # In place: the matrix may be the largest thing in memory.
    squared = torch.mm(a, b.mT).mul_(-2).add_(a_norm[:, None]).add_(b_norm)
    return squared.clamp_(min=0)


def blocks(points: Float[Tensor, "point dim"], size: int) -> Iterator[tuple[int, Tensor]]:
    """The position of each block of at most `size` points, and the block in float64."""
    for start in range(0, len(points), size):
        yield start, points[start : start + size].double()
