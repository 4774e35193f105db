"""The nearest points of a large set, with a bound on memory and exact distances.

Besides its arguments and its result this needs under 192 MiB for points of up to 784 coordinates,
however many there are: 10,000 samples against the 60,000 images of MNIST, for one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from udl_lab.sample_quality.points import (
    COLUMNS,
    ROWS,
    blocks,
    checked,
    same_dimension,
    squared_distances,
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest points of each query, nearest first.

    Attributes:
        distance: Euclidean, summed over coordinates, in the unit of the data.
        index: rows of the set searched.
    """

    distance: Float64[Tensor, "query rank"]
    index: Int64[Tensor, "query rank"]


def nearest(
    queries: Float[Tensor, "query dim"], among: Float[Tensor, "point dim"], k: int
) -> Neighbours:
    """The k nearest points of `among` to each query, by Euclidean distance.

    Found by a matrix product, then measured by subtraction: a copy is at distance exactly 0.

    Raises:
        ValueError: with fewer than k points, no query, a value not finite, or different
            dimensions.
    """
    if k < 1:
        raise ValueError(f"k is {k}; give at least 1")
    checked("queries", queries)
    checked("among", among, at_least=k)
    same_dimension(queries, among)
    centre = among.mean(0, dtype=torch.float64)
    found = [_of_block(block, among, k, centre) for _, block in blocks(queries, ROWS)]
    return Neighbours(torch.cat([f.distance for f in found]), torch.cat([f.index for f in found]))


def _of_block(
    queries: Float64[Tensor, "query dim"],
    among: Float[Tensor, "point dim"],
    k: int,
    centre: Float64[Tensor, " dim"],
) -> Neighbours:
    # Centred, or the rounding of a product of large numbers would hide who is nearest.
    centred = queries - centre
    squared = queries.new_empty(len(queries), 0)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start, block in blocks(among, COLUMNS):
        best = squared_distances(centred, block - centre).topk(min(k, len(block)), largest=False)
        squared = torch.cat([squared, best.values], dim=1)
        index = torch.cat([index, best.indices + start], dim=1)
        kept = squared.topk(min(k, squared.shape[1]), largest=False)
        squared, index = kept.values, index.gather(1, kept.indices)
    # One rank at a time: all at once would be k copies of the queries.
    exact = [(queries - among[rank].double()).norm(dim=1) for rank in index.T]
    ordered = torch.stack(exact, dim=1).sort(dim=1)
    return Neighbours(ordered.values, index.gather(1, ordered.indices))
