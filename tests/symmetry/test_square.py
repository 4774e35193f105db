"""The symmetries of the square, against numpy and the plane."""

import numpy as np
import pytest
import torch

from udl_lab.nets.square import Symmetry
from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Flips
from udl_lab.symmetry.groups import check_group
from udl_lab.symmetry.square import SquareSymmetries

D4 = SquareSymmetries()
X = torch.randn(2, 3, 6, 6, generator=generator(0, "images"))


def test_the_labels_say_what_is_done_first_things_first():
    by_label = {D4.label(g): D4.apply(X, g, 0.0).numpy() for g in D4.elements()}
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
    check_group(D4.compose, D4.inverse, D4.identity, [D4.identity, *D4.elements()])
    turn, flip = (1, False), (0, True)
    assert D4.label(D4.compose(turn, flip)) == "flip_rot90"
    assert D4.label(D4.compose(flip, turn)) == "flip_rot270"


def test_flips_are_three_of_its_elements():
    for name, g in {"horizontal": (0, True), "vertical": (2, True), "both": (2, False)}.items():
        assert torch.equal(D4.apply(X, g, 0.0), Flips().apply(X, name, 0.0))


def test_equivariant_layers_name_the_same_symmetries_alike():
    for g in D4.elements():
        assert torch.equal(Symmetry(*g).apply(X), D4.apply(X, g, 0.0))
        for h in D4.elements():
            assert tuple(Symmetry(*g).compose(Symmetry(*h))) == D4.compose(g, h)


def test_a_layer_of_any_stride_is_moved_alike_and_images_must_be_square():
    assert D4.restrict((3, True), 4) == (3, True)
    with pytest.raises(ValueError, match="5 x 6 pixels"):
        D4.apply(X[:, :, 1:], (2, False), 0.0)
