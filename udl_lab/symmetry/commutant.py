"""The linear maps that commute with a group of permutations: how many there are, and the nearest.

A permutation is an index tensor: P_g x = x[index]. A dense layer W is equivariant when
P_g W = W P_g for every g; these W form a linear space, the commutant.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from udl_lab.symmetry.action import Action


def permutations_of(action: Action, shape: Sequence[int]) -> list[Int64[Tensor, " unit"]]:
    """How the identity and each element move the units of one example of this shape, flattened.

    `action.apply(x, g, 0).flatten(1)` is `x.flatten(1)[:, index]`, so the shape has no batch axis.

    Raises:
        ValueError: for an element that is not exact, or that loses units at the border.
    """
    # One channel's worth of float64 counts units exactly up to 2^53.
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(1, *shape)
    found = [places.flatten().long()]
    for element in action.elements():
        index = action.apply(places, action.require_exact(element), -1.0).flatten().long()
        if (index < 0).any():
            raise ValueError(
                f"{action.name} {action.label(element)} loses units at the border, so it permutes "
                f"nothing; use an action that is a group, such as CircularShifts"
            )
        found.append(index)
    return found


def commutant_dimension(permutations: Sequence[Int64[Tensor, " unit"]]) -> int:
    """How many free parameters an equivariant dense layer without bias has.

    Burnside's lemma: the number of orbits of the group on pairs of units,
    (1/|G|) sum_g fix(g)^2, where fix(g) counts the units that g leaves in place.

    Raises:
        ValueError: when the permutations are not a whole group.
    """
    rows = _group(permutations)
    places = torch.arange(rows.shape[1], device=rows.device)
    fixed = (rows == places).sum(1)
    return int(fixed.square().sum()) // len(rows)


def reynolds(
    weight: Float[Tensor, "unit unit"], permutations: Sequence[Int64[Tensor, " unit"]]
) -> Float[Tensor, "unit unit"]:
    """The orthogonal projection on the commutant: the mean over the group of P_g W P_g^T.

    Divided last, so that whole numbers stay exact until then.

    Raises:
        ValueError: when the permutations are not a whole group.
    """
    rows = _group(permutations).to(weight.device)
    total = torch.zeros_like(weight)
    for index in rows:
        total = total + weight[index][:, index]
    return total / len(rows)


def project_on_symmetric(weight: Float[Tensor, "unit unit"]) -> Float[Tensor, "unit unit"]:
    """`reynolds` for all permutations of the units, in closed form: lambda I + gamma 11^T.

    gamma is the mean of the entries off the diagonal, and lambda + gamma that of the diagonal:
    the layer of Deep Sets (Zaheer et al. 2017, lemma 3).
    """
    n = len(weight)
    on = weight.diagonal().mean()
    off = (weight.sum() - weight.diagonal().sum()) / max(1, n * (n - 1))
    one = torch.eye(n, dtype=weight.dtype, device=weight.device)
    return (on - off) * one + off


def _group(permutations: Sequence[Int64[Tensor, " unit"]]) -> Int64[Tensor, "element unit"]:
    """The permutations as rows, once they are known to be a whole group.

    Generators are collected until their products are all of them: |G| log |G| compositions, where
    trying every pair takes |G|^2.
    """
    if not permutations:
        raise ValueError("no permutations; list a whole group, the identity included")
    rows = torch.stack(list(permutations))
    listed = [tuple(row) for row in rows.tolist()]
    known, identity = set(listed), tuple(range(rows.shape[1]))
    for index in listed:
        if tuple(sorted(index)) != identity:
            raise ValueError(f"{list(index)} is no permutation of {len(identity)} units")
    if len(known) != len(listed) or identity not in known:
        raise ValueError(
            "the permutations are no group: one is listed twice, or the identity is missing"
        )
    reached, generators = {identity}, []
    for index in listed:
        if index in reached:
            continue
        generators.append(index)
        reached, fresh = {identity}, [identity]
        while fresh:
            g = fresh.pop()
            for step in generators:
                product = tuple(g[unit] for unit in step)
                if product not in known:
                    raise ValueError(
                        f"the permutations are no group: {list(g)} and {list(step)} compose to "
                        f"{list(product)}, which is not listed"
                    )
                if product not in reached:
                    reached.add(product)
                    fresh.append(product)
    return rows
