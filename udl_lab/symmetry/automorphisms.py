"""The symmetries of a set of vectors: the permutations that leave its Gram matrix as it is.

A permutation p with G[p_i, p_j] = G[i, j] for all i, j is the trace of an orthogonal map that
carries the vectors into each other. The vectors are one orbit exactly when these permutations send
some vector to every other. Vectors that coincide can be exchanged freely: merge them first.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from udl_lab.symmetry.group_laws import open_pair
from udl_lab.symmetry.groups import Symmetric

Permutations = Int64[Tensor, "permutation vector"]


def merge_coinciding(
    g: Float[Tensor, "vector vector"], distance: float
) -> tuple[Float[Tensor, "place place"], Int64[Tensor, " place"]]:
    """The Gram matrix of the places that are taken, and how many vectors are at each.

    Vectors are at one place if they are joined by steps of at most `distance` (single linkage); the
    place is their mean.
    """
    m = len(g)
    square = g.diag()[:, None] + g.diag() - 2 * g
    joined = torch.linalg.matrix_power((square <= distance**2).double(), m) > 0
    first = joined.int().argmax(dim=1)  # the first vector at each one's place
    _, place, counts = first.unique(return_inverse=True, return_counts=True)
    average = torch.zeros(len(counts), m, dtype=g.dtype)
    average[place, torch.arange(m)] = 1 / counts[place].to(g.dtype)
    return average @ g @ average.T, counts


def automorphisms(
    g: Float[Tensor, "vector vector"],
    tolerance: float,
    colours: Int64[Tensor, " vector"] | None = None,
    at_most: int = 1000,
) -> Permutations:
    """Every permutation p with |G[p_i, p_j] - G[i, j]| ≤ tolerance for all i, j, identity first.

    By backtracking. A vector may only go to one whose sorted column is the same within the
    tolerance, which is the first round of colour refinement (and all that the sorted-Gram penalty
    looks at), and which has the same of the given `colours`.

    Raises:
        ValueError: when there are more than `at_most`.
    """
    numbers = g.detach().double().numpy()
    columns = np.sort(numbers, axis=1)
    similar = np.abs(columns[:, None] - columns).max(axis=2) <= tolerance
    if colours is not None:
        similar &= np.equal.outer(colours.numpy(), colours.numpy())
    found = []
    for permutation in _extensions([], numbers, similar, tolerance):
        found.append(permutation)
        if len(found) > at_most:
            raise ValueError(
                f"{len(numbers)} vectors have more than {at_most} automorphisms within "
                f"{tolerance}; merge coinciding vectors, lower the tolerance or raise at_most"
            )
    return torch.tensor(found)


def is_group(permutations: Permutations) -> bool:
    """Whether they are a subgroup of all permutations.

    Automorphisms within a tolerance need not be: a product may be off by twice as much.
    """
    elements = [tuple(permutation) for permutation in permutations.tolist()]
    return open_pair(Symmetric(permutations.shape[1]).compose, elements) is None


def is_transitive(permutations: Permutations) -> bool:
    """Whether each vector is sent to every other: the vectors are one orbit."""
    m = permutations.shape[1]
    return all(len(permutations[:, i].unique()) == m for i in range(m))


def is_cyclic(permutations: Permutations) -> bool:
    """Whether the powers of one permutation visit every vector.

    In the order of its visits, the Gram matrix is circulant.
    """
    return bool(_visits_all(permutations).any())


def _visits_all(permutations: Permutations) -> Bool[Tensor, " permutation"]:
    m = permutations.shape[1]
    place = torch.zeros(len(permutations), 1, dtype=torch.int64)
    places = [place]
    for _ in range(m - 1):
        place = permutations.gather(1, place)
        places.append(place)
    return torch.cat(places, dim=1).sort(dim=1).values.eq(torch.arange(m)).all(dim=1)


def _extensions(
    images: list[int], g: np.ndarray, similar: np.ndarray, tolerance: float
) -> Iterator[list[int]]:
    """All automorphisms that send the first vectors to `images`."""
    i = len(images)
    if i == len(g):
        yield images
        return
    fits = (np.abs(g[:, images] - g[i, :i]) <= tolerance).all(axis=1)
    fits &= similar[i] & (np.abs(g.diagonal() - g[i, i]) <= tolerance)
    fits[images] = False
    for image in np.flatnonzero(fits):
        yield from _extensions([*images, int(image)], g, similar, tolerance)
