"""The sorted-Gram criterion: what it finds in the plane, and what passes it elsewhere."""

import math
from itertools import combinations_with_replacement, permutations

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.randomness import generator
from udl_lab.symmetry.automorphisms import automorphisms, is_group, is_transitive
from udl_lab.symmetry.gram import (
    anisotropy,
    circulant_error,
    commutator_norm,
    first_weights,
    gram,
    pairing_error,
    planar_circulant_error,
    sorted_gram_error,
    sorted_gram_penalty,
)

# Frucht 1939: cubic, 12 vertices, no symmetry; its LCF code, vertex i is joined to i + code[i].
FRUCHT = [-5, -2, -4, 2, 5, -2, 2, 5, -2, -5, 4, 2]


def frucht_vectors():
    adjacency = torch.zeros(12, 12, dtype=torch.float64)
    for i, far in enumerate(FRUCHT):
        for j in (i + 1, i + far):
            adjacency[i, j % 12] = adjacency[j % 12, i] = 1
    assert adjacency.sum(0).tolist() == [3] * 12
    return torch.linalg.cholesky(4 * torch.eye(12) + adjacency)  # eigenvalues of A are ≥ -3


def circle(angles):
    t = torch.as_tensor(angles, dtype=torch.float64)
    return torch.stack([t.cos(), t.sin()], dim=1)


def dihedral(n, a, copies=1, phase=0.3):
    """Two regular n-gons, mirror images of each other, at angles phase ± a + 2πl/n."""
    turns = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return circle(torch.cat([turns + a, turns - a]).repeat(copies) + phase)


def random(*shape, name="vectors"):
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


def test_the_penalty_is_the_sum_over_pairs_of_columns():
    w = random(5, 3)
    columns = [np.sort(column) for column in gram(w).numpy().T]
    by_hand = sum(((columns[i] - columns[j]) ** 2).sum() for i in range(5) for j in range(i + 1, 5))
    assert sorted_gram_penalty(w).item() == pytest.approx(by_hand, rel=1e-12)


def test_the_gradient_of_the_penalty_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(sorted_gram_penalty, random(4, 2).requires_grad_())


def test_frucht_vectors_pass_the_criterion_and_the_automorphisms_refuse_them():
    """Oracle 23 of notes/probes.md: the known false positive."""
    w = frucht_vectors()
    # 144 entries up to 4 with a few roundings of 2^-53 each, squared and summed over 66 pairs.
    assert sorted_gram_penalty(w) < 1e-25
    found = automorphisms(gram(w), 1e-9)
    assert found.tolist() == [list(range(12))]
    assert is_group(found)
    assert not is_transitive(found)


def test_a_cyclic_orbit_passes_both_and_random_vectors_neither():
    polygon = 2 * dihedral(12, 0)[:12]
    assert sorted_gram_penalty(polygon) < 1e-25
    found = automorphisms(gram(polygon), 1e-9)
    assert len(found) == 24  # 12 turns, 12 reflections
    assert is_group(found)
    assert is_transitive(found)
    other = random(12, 12)
    assert sorted_gram_penalty(other) > 100
    assert len(automorphisms(gram(other), 1e-9)) == 1


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("a", [0.0, 0.1, 0.2])
def test_every_dihedral_orbit_of_the_plane_has_penalty_0(n, a, copies):
    assert sorted_gram_penalty(dihedral(n, a, copies)) < 1e-25


def test_collapsed_rows_have_penalty_0_as_well():
    for w in (torch.zeros(12, 2), torch.ones(12, 2), circle([0.3] * 6 + [0.3 + math.pi] * 6)):
        assert sorted_gram_penalty(w) < 1e-25
    assert sorted_gram_error(torch.zeros(12, 12)) == 0


@pytest.mark.parametrize("m", [3, 4, 5, 6])
def test_in_the_plane_penalty_0_means_one_orbit_with_every_place_taken_equally_often(m):
    """All multisets of m places among 12, the first at 0, against the 24 symmetries of the 12-gon.

    They are all that is needed: a turn or reflection that carries one place to another is one.
    """
    chosen = np.array([(0, *rest) for rest in combinations_with_replacement(range(12), m - 1)])
    cosine = np.cos(2 * np.pi * (chosen[:, :, None] - chosen[:, None]) / 12)
    columns = np.sort(cosine, axis=2)
    meets = (columns.max(1) - columns.min(1)).max(1) < 1e-9
    maps = [(sign, shift) for sign in (1, -1) for shift in range(12)]
    for places, met in zip(chosen, meets, strict=True):
        taken = np.bincount(places, minlength=12)
        kept = [
            (sign, shift)
            for sign, shift in maps
            if np.array_equal(taken[(sign * np.arange(12) + shift) % 12], taken)
        ]
        reached = {shift for _, shift in kept}  # from place 0
        orbit = reached == set(np.flatnonzero(taken))
        assert met == orbit, places
    assert 0 < meets.sum() < len(chosen) / 5


def test_vectors_of_different_lengths_are_never_one_orbit():
    w = torch.cat([circle([0, 2]), 2 * circle([1, 3])])
    assert sorted_gram_penalty(w) > 1


@pytest.mark.parametrize("n", [3, 4, 6, 7])
def test_a_dihedral_orbit_is_sine_two_delta_over_root_two_from_circulant(n):
    """Its places are two Fourier modes of Z_2n, with weights cos δ and sin δ."""
    for delta in (0.0, 0.02, -0.1):
        j = torch.arange(2 * n).double()
        w = circle(math.pi * j / n + delta * (-1) ** j)
        expected = abs(math.sin(2 * delta)) / math.sqrt(2)
        assert circulant_error(gram(w)) == pytest.approx(expected, abs=1e-12)


def test_the_circulant_error_is_the_distance_to_the_mean_over_all_cyclic_shifts():
    g = gram(random(7, 4))
    mean = torch.stack([g.roll((k, k), (0, 1)) for k in range(7)]).mean(0)
    assert circulant_error(g) == pytest.approx(((g - mean).norm() / g.norm()).item(), rel=1e-12)
    assert circulant_error(mean) < 1e-15


def test_the_planar_error_sees_neither_turn_nor_scale_nor_order():
    w = random(12, 2)
    error = planar_circulant_error(w)
    turn = circle([0.7, 0.7 + math.pi / 2])
    mixed = torch.randperm(12, generator=generator(0, "order"))
    assert planar_circulant_error(3 * (w @ turn)[mixed]) == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 12])
def test_coinciding_regular_polygons_are_circulant_in_one_of_the_orders(n):
    turns = torch.arange(12).double() % n
    # Off the cut of atan2 at ±π, where rounding would tear coinciding vectors apart.
    assert planar_circulant_error(circle(2 * math.pi * turns / n + 0.1)) < 1e-12


@pytest.mark.parametrize("m", [5, 6])
def test_both_bounds_are_below_the_circulant_error_in_every_order(m):
    for trial in range(3):
        w = random(m, 2, name=f"trial {trial}")
        g = gram(w)
        orders = [torch.tensor([0, *rest]) for rest in permutations(range(1, m))]
        best = min(circulant_error(g[order][:, order]) for order in orders)
        assert pairing_error(g) <= best + 1e-12
        assert sorted_gram_error(g) <= best + 1e-12
        assert best <= planar_circulant_error(w) + 1e-12


@pytest.mark.parametrize("m", [1, 2, 5, 6, 12])
def test_a_regular_polygon_has_no_pairing_error(m):
    assert pairing_error(gram(dihedral(m, 0)[:m])) < 1e-15


def test_the_pairing_error_of_a_rectangle_is_that_by_hand():
    """A row holds 1, -1, c and -c: either ±c are made equal, or -1 and -c."""
    a = 0.3
    c = math.cos(2 * a)
    by_hand = math.sqrt(4 * min(2 * c**2, (1 - c) ** 2 / 2)) / math.sqrt(4 * (2 + 2 * c**2))
    assert pairing_error(gram(dihedral(2, a))) == pytest.approx(by_hand, rel=1e-9)


def test_the_commutator_of_two_symmetric_matrices_of_the_plane_by_their_angles():
    """With traceless parts a (cos p Z + sin p X), s (cos q Z + sin q X): 8 a² s² sin²(p - q)."""
    z, x = torch.tensor([[1.0, 0], [0, -1]]).double(), torch.tensor([[0.0, 1], [1, 0]]).double()
    a, p, s, q = 0.7, 0.4, 1.3, 1.9
    first = 2 * torch.eye(2) + a * (math.cos(p) * z + math.sin(p) * x)
    second = -torch.eye(2) + s * (math.cos(q) * z + math.sin(q) * x)
    by_hand = 8 * a**2 * s**2 * math.sin(p - q) ** 2
    assert commutator_norm(first, second).item() == pytest.approx(by_hand, rel=1e-12)


def test_anisotropy_is_0_for_a_tight_frame_and_1_on_a_line():
    assert anisotropy(dihedral(3, 0.2)) < 1e-15
    assert anisotropy(torch.tensor([[1.0, 2], [2, 4], [-3, -6]])) == pytest.approx(1, abs=1e-12)
    assert anisotropy(torch.tensor([[2.0, 0], [0, 1]])) == pytest.approx(3 / 5, rel=1e-12)
    assert anisotropy(torch.zeros(3, 2)) == 0


def test_the_first_weights_are_the_first_linear_layers():
    net = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3))
    assert first_weights(net) is net[0].weight
    with pytest.raises(ValueError, match=r"1 linear layers.*net.widths=\[12\]"):
        first_weights(nn.Linear(2, 3))
