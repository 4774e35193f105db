"""Automorphisms against a list of all permutations, and the groups of known figures."""

import math
from itertools import permutations, product

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.automorphisms import (
    automorphisms,
    is_cyclic,
    is_group,
    is_transitive,
    merge_coinciding,
)
from udl_lab.symmetry.gram import gram


def circle(*degrees):
    t = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([t.cos(), t.sin()], dim=1)


def as_set(found):
    return set(map(tuple, found.tolist()))


@pytest.mark.parametrize("tolerance", [1e-9, 0.7])
@pytest.mark.parametrize(
    "w",
    [
        torch.randn(6, 2, generator=generator(0, "vectors"), dtype=torch.float64),
        circle(0, 60, 120, 180, 240, 300),
        circle(0, 50, 120, 170, 240, 290),
        circle(0, 0, 90, 90, 200, 200),
    ],
)
def test_they_are_the_permutations_that_keep_the_gram_matrix(w, tolerance):
    g = gram(w)
    by_hand = {
        p for p in permutations(range(6)) if (g[list(p)][:, list(p)] - g).abs().max() <= tolerance
    }
    found = automorphisms(g, tolerance)
    assert as_set(found) == by_hand
    assert len(found) == len(by_hand)


def test_the_identity_comes_first():
    assert automorphisms(gram(circle(0, 120, 240)), 1e-9)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("w", "order", "transitive", "cyclic"),
    [
        (circle(*range(0, 360, 30)), 24, True, True),  # regular 12-gon: D_12
        (circle(0, 40, 120, 160, 240, 280), 6, True, False),  # D_3, a free orbit
        (circle(10, 170, 190, 350), 4, True, False),  # rectangle: Klein's group
        (circle(0, 20, 100), 1, False, False),
        (circle(0, 100, 200), 2, False, False),  # an isosceles triangle
        (torch.tensor(list(product([-1.0, 1.0], repeat=3))), 48, True, False),  # cube
        (torch.eye(4), 24, True, True),  # all permutations
    ],
)
def test_known_figures_have_their_groups(w, order, transitive, cyclic):
    found = automorphisms(gram(w), 1e-6)
    assert len(found) == order
    assert is_group(found)
    assert is_transitive(found) == transitive
    assert is_cyclic(found) == cyclic


def test_colours_are_kept():
    colours = torch.tensor([0, 1, 0, 1])
    found = automorphisms(gram(circle(0, 90, 180, 270)), 1e-9, colours)
    assert len(found) == 4
    assert (colours[found] == colours).all()


def test_the_group_law_refuses_exchanges_that_only_a_tolerance_allows():
    """Lengths 1, 1.08 and 1.16 within .1: neighbours may change places, the ends may not."""
    found = automorphisms(torch.diag(torch.tensor([1, 1.08, 1.16])), 0.1)
    assert as_set(found) == {(0, 1, 2), (1, 0, 2), (0, 2, 1)}
    assert not is_group(found)


def test_too_many_automorphisms_are_refused_by_number():
    with pytest.raises(ValueError, match=r"7 vectors have more than 1000 automorphisms.*merge"):
        automorphisms(torch.eye(7), 1e-9)
    assert len(automorphisms(torch.eye(7), 1e-9, at_most=math.factorial(7))) == 5040


def test_merging_gives_each_place_once_and_counts_it():
    g = gram(circle(0, 120, 0, 240, 120, 0))
    places, counts = merge_coinciding(g, 1e-6)
    torch.testing.assert_close(places, gram(circle(0, 120, 240)))
    assert counts.tolist() == [3, 2, 1]


def test_merging_joins_chains_and_puts_the_place_at_their_mean():
    w = torch.tensor([[0.0], [10.0], [20.0], [50.0]])
    places, counts = merge_coinciding(gram(w), 11.0)
    assert counts.tolist() == [3, 1]
    torch.testing.assert_close(places, gram(torch.tensor([[10.0], [50.0]])))


def test_vectors_further_apart_stay_as_they_are():
    g = gram(circle(0, 50, 120))
    places, counts = merge_coinciding(g, 0.1)
    torch.testing.assert_close(places, g)
    assert counts.tolist() == [1, 1, 1]
