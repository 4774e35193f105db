"""The symmetries of the square, against numpy and the plane, and the groups among them."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Flips
from udl_lab.symmetry.groups import check_group
from udl_lab.symmetry.square import (
    D4,
    SUBGROUPS,
    SquareSymmetries,
    SubgroupName,
    mirror_and_turn,
)

SQUARE = SquareSymmetries()
X = torch.randn(2, 3, 6, 6, generator=generator(0, "images"))

every_subgroup = pytest.mark.parametrize("name", SUBGROUPS)


def test_the_labels_say_what_is_done_first_things_first():
    by_label = {SQUARE.label(g): SQUARE.apply(X, g, 0.0).numpy() for g in SQUARE.elements()}
    x = X.numpy()
    expected = {
        "rot90": np.rot90(x, 1, (2, 3)),
        "rot180": np.rot90(x, 2, (2, 3)),
        "rot270": np.rot90(x, 3, (2, 3)),
        "flip": np.flip(x, 3),
        "flip_rot90": np.rot90(np.flip(x, 3), 1, (2, 3)),
        "flip_rot180": np.flip(x, 2),
        "flip_rot270": np.rot90(np.flip(x, 3), 3, (2, 3)),
    }
    assert list(by_label) == list(expected)
    for label, y in expected.items():
        np.testing.assert_array_equal(by_label[label], y)


def test_it_is_a_group_that_is_not_commutative():
    check_group(
        SQUARE.compose, SQUARE.inverse, SQUARE.identity, [SQUARE.identity, *SQUARE.elements()]
    )
    turn, flip = (1, False), (0, True)
    assert SQUARE.label(SQUARE.compose(turn, flip)) == "flip_rot90"
    assert SQUARE.label(SQUARE.compose(flip, turn)) == "flip_rot270"


def test_flips_are_three_of_its_elements():
    for name, g in {"horizontal": (0, True), "vertical": (2, True), "both": (2, False)}.items():
        assert torch.equal(SQUARE.apply(X, g, 0.0), Flips().apply(X, name, 0.0))


def test_a_layer_of_any_stride_is_moved_alike_and_images_must_be_square():
    assert SQUARE.restrict((3, True), 4) == (3, True)
    with pytest.raises(ValueError, match="5 x 6 pixels"):
        SQUARE.apply(X[:, :, 1:], (2, False), 0.0)


@pytest.mark.parametrize(("name", "order"), [("identity", 1), ("flip", 2), ("c4", 4), ("d4", 8)])
def test_every_subgroup_has_its_order_and_its_elements_move_an_image_differently(name, order):
    moved = {tuple(mirror_and_turn(X, g).flatten().tolist()) for g in SUBGROUPS[name]}
    assert len(moved) == len(SUBGROUPS[name]) == order
    assert set(get_args(SubgroupName)) == set(SUBGROUPS)


@every_subgroup
def test_every_subgroup_is_a_group_that_starts_with_the_identity(name):
    group = SUBGROUPS[name]
    check_group(D4.compose, D4.inverse, group[0], group)
    assert torch.equal(mirror_and_turn(X, group[0]), X)


def test_composition_and_inverses_are_those_of_the_moved_images():
    for g, h in itertools.product(D4.elements(), repeat=2):
        both = mirror_and_turn(mirror_and_turn(X, h), g)
        assert torch.equal(mirror_and_turn(X, D4.compose(g, h)), both)
    for g in D4.elements():
        assert torch.equal(mirror_and_turn(mirror_and_turn(X, g), D4.inverse(g)), X)


def test_without_the_half_turn_the_quarter_turns_are_no_group():
    rest = [g for g in SUBGROUPS["c4"] if g != (2, False)]
    with pytest.raises(ValueError, match="no group: not closed"):
        check_group(D4.compose, D4.inverse, D4.identity, rest)


def test_the_elements_move_a_corner_where_they_should():
    """The top left corner: to the bottom left by a quarter turn counter-clockwise."""
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 0] = 1
    places = {(0, 0): (0, False), (3, 0): (1, False), (3, 3): (2, False), (0, 3): (3, False)}
    for (row, column), element in places.items():
        assert mirror_and_turn(corner, element)[0, 0, row, column] == 1
    assert mirror_and_turn(corner, (0, True))[0, 0, 0, 3] == 1
