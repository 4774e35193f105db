"""Equivariant dense layers: counted, projected on, and used."""

import itertools

import numpy as np
import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Flips, Rotations, Translations
from udl_lab.symmetry.commutant import (
    commutant_dimension,
    permutations_of,
    project_on_symmetric,
    reynolds,
)
from udl_lab.symmetry.groups import Symmetric
from udl_lab.symmetry.reflection import Reflection
from udl_lab.symmetry.sets import Permutations
from udl_lab.symmetry.shifts import CircularShifts
from udl_lab.symmetry.square import SquareSymmetries


def symmetric(n):
    return [torch.tensor(g) for g in Symmetric(n).elements()]


def cyclic(n):
    return permutations_of(CircularShifts("all", sizes=[n]), [1, n])


def dihedral(n):
    places = torch.arange(n)
    return [p for k in range(n) for p in (places.roll(k), places.flip(0).roll(k))]


C4 = Rotations([90, 180, 270])
ORACLES = {
    "S5": (symmetric(5), 2),
    "C5": (cyclic(5), 5),
    "D5": (dihedral(5), 3),
    "C4 on 3x3": (permutations_of(C4, [1, 3, 3]), 21),
    "D4 on 3x3": (permutations_of(SquareSymmetries(), [1, 3, 3]), 15),
    # Worked out by hand: 2 units exchanged, and pairs of 4 units under the 4 flips of 2 x 2.
    "S2": (symmetric(2), 2),
    "flips of 2x2": (permutations_of(Flips(), [1, 2, 2]), 4),
    "nothing": ([torch.arange(3)], 9),
    # Two channels that the group leaves apart: 2 x 2 blocks, each a circular convolution of 4.
    "C4 on two channels": (permutations_of(CircularShifts("all", sizes=[4]), [2, 4]), 16),
}
each_oracle = pytest.mark.parametrize("permutations, dimension", ORACLES.values(), ids=ORACLES)


def whole(*shape):
    return torch.randint(-8, 9, shape, generator=generator(0, "whole")).double()


@each_oracle
def test_the_dimension_is_the_known_one(permutations, dimension):
    assert commutant_dimension(permutations) == dimension


@each_oracle
def test_the_dimension_is_the_nullity_of_the_linear_system(permutations, dimension):
    n = len(permutations[0])
    one = np.eye(n)
    # Row-major vec: vec(P W - W P) = (P x I - I x P^T) vec(W). Few random elements generate it all.
    system = np.concatenate(
        [np.kron(one[p.numpy()], one) - np.kron(one, one[p.numpy()].T) for p in permutations[:16]]
        + [np.zeros((1, n * n))]
    )
    if len(permutations) > 16:
        more = [torch.tensor(g) for g in Symmetric(n).generators()]
        system = np.concatenate(
            [system] + [np.kron(one[p.numpy()], one) - np.kron(one, one[p.numpy()].T) for p in more]
        )
    assert n * n - np.linalg.matrix_rank(system) == dimension


@each_oracle
def test_the_trace_of_the_projection_is_the_dimension(permutations, dimension):
    n = len(permutations[0])
    trace = 0.0
    for i, j in itertools.product(range(n), repeat=2):
        unit = torch.zeros(n, n, dtype=torch.float64)
        unit[i, j] = 1
        trace += float(reynolds(unit, permutations)[i, j])
    assert trace == pytest.approx(dimension, abs=1e-10)


@each_oracle
def test_the_projection_commutes_is_idempotent_and_moves_no_entry_further_than_it_must(
    permutations, dimension
):
    n = len(permutations[0])
    weight = torch.randn(n, n, generator=generator(0, "weight"), dtype=torch.float64)
    projected = reynolds(weight, permutations)
    x = torch.randn(n, generator=generator(1, "x"), dtype=torch.float64)
    index = torch.stack(permutations)  # a row each
    torch.testing.assert_close(x[index] @ projected.T, (projected @ x)[index], rtol=0, atol=1e-12)
    torch.testing.assert_close(reynolds(projected, permutations), projected, rtol=0, atol=1e-13)
    # Orthogonal: what is taken away is perpendicular to the commutant.
    member = reynolds(whole(n, n), permutations)
    assert float(((weight - projected) * member).sum()) == pytest.approx(0, abs=1e-10)


def test_every_permutation_passes_lambda_plus_gamma_exactly_and_no_generic_layer():
    eye, ones = torch.eye(5, dtype=torch.float64), torch.ones(5, 5, dtype=torch.float64)
    weight, generic = 3 * eye - 2 * ones, whole(5, 5)
    x = whole(7, 5)
    for p in symmetric(5):
        assert torch.equal(torch.relu(x[:, p] @ weight.T), torch.relu(x @ weight.T)[:, p])
    broken = [(x[:, p] @ generic.T - (x @ generic.T)[:, p]).norm() for p in symmetric(5)[1:]]
    assert min(broken) > 1
    assert torch.equal(reynolds(weight, symmetric(5)), weight)  # whole numbers, divided last
    assert torch.equal(project_on_symmetric(weight), weight)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_closed_form_is_the_mean_over_all_permutations(n):
    weight = torch.randn(n, n, generator=generator(0, "weight"), dtype=torch.float64)
    expected = reynolds(weight, symmetric(n))
    torch.testing.assert_close(project_on_symmetric(weight), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("action", "shape"),
    [
        (SquareSymmetries(), [2, 3, 3]),
        (Reflection(), [2, 5]),
        (Permutations(4, 5), [4, 3]),
        (CircularShifts([[1, 2]]), [1, 4, 3]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_permutations_of_an_action_are_what_it_does_to_the_units(action, shape):
    x = torch.randn(3, *shape, generator=generator(0, "x"))
    found = permutations_of(action, shape)
    for element, index in zip([action.identity, *action.elements()], found, strict=True):
        expected = action.apply(x, element, 0.0).flatten(1)
        assert torch.equal(x.flatten(1)[:, index], expected)


def test_actions_that_permute_nothing_are_refused():
    with pytest.raises(ValueError, match=r"\+45 is resampled"):
        permutations_of(Rotations([45, 90]), [1, 3, 3])
    with pytest.raises(ValueError, match=r"right1 loses units at the border.*CircularShifts"):
        permutations_of(Translations([1]), [1, 3, 3])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "list a whole group"),
        ([[0, 1, 2], [1, 2, 0]], r"\[1, 2, 0\] and \[1, 2, 0\] compose to \[2, 0, 1\]"),
        ([[1, 2, 0], [2, 0, 1]], "identity is missing"),
        ([[0, 1], [0, 1]], "listed twice"),
        ([[0, 1], [1, 1]], r"\[1, 1\] is no permutation of 2 units"),
        ([[0, 1, 2], [1, 0, 2], [0, 2, 1]], "which is not listed"),
    ],
)
def test_lists_that_are_no_group_are_refused(rows, message):
    permutations = [torch.tensor(row) for row in rows]
    n = len(rows[0]) if rows else 3
    for function in (commutant_dimension, lambda p: reynolds(torch.ones(n, n), p)):
        with pytest.raises(ValueError, match=message):
            function(permutations)
