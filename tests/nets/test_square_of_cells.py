"""The listed symmetries are groups, and their algebra is that of the moved images."""

import itertools

import pytest
import torch

from udl_lab.nets.square import GROUPS, Symmetry

IMAGE = torch.arange(2 * 9).reshape(2, 3, 3)  # no symmetry of its own

every_group = pytest.mark.parametrize("name", GROUPS)


def is_group(elements):
    """A finite set of permutations is a group if it is closed under composition."""
    return all(g.compose(h) in elements for g, h in itertools.product(elements, repeat=2))


@pytest.mark.parametrize(("name", "order"), [("identity", 1), ("flip", 2), ("c4", 4), ("d4", 8)])
def test_every_group_has_its_order_and_its_elements_move_an_image_differently(name, order):
    moved = {tuple(g.apply(IMAGE).flatten().tolist()) for g in GROUPS[name]}
    assert len(moved) == len(GROUPS[name]) == order


@every_group
def test_every_group_is_closed_and_holds_identity_and_inverses(name):
    group = GROUPS[name]
    assert is_group(group)
    assert torch.equal(group[0].apply(IMAGE), IMAGE)
    for g in group:
        assert g.inverse() in group
        assert g.compose(g.inverse()) == g.inverse().compose(g) == group[0]
        assert torch.equal(g.inverse().apply(g.apply(IMAGE)), IMAGE)


@every_group
def test_composition_moves_images_as_one_element_after_the_other(name):
    for g, h in itertools.product(GROUPS[name], repeat=2):
        assert torch.equal(g.compose(h).apply(IMAGE), g.apply(h.apply(IMAGE)))


def test_without_the_half_turn_the_quarter_turns_are_no_group():
    assert not is_group([g for g in GROUPS["c4"] if g.turns != 2])


def test_the_elements_move_a_corner_where_they_should():
    """The top left corner: to the bottom left by a quarter turn counter-clockwise."""
    corner = torch.zeros(4, 4)
    corner[0, 0] = 1
    places = {(0, 0): (0, False), (3, 0): (1, False), (3, 3): (2, False), (0, 3): (3, False)}
    for place, element in places.items():
        assert Symmetry(*element).apply(corner)[place] == 1
    assert Symmetry(0, True).apply(corner)[0, 3] == 1
