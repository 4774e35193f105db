"""What every action obeys, whatever it transforms."""

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Flips, Rotations, Translations
from udl_lab.symmetry.fractional import FractionalShifts
from udl_lab.symmetry.function_action import FunctionAction
from udl_lab.symmetry.reflection import Reflection
from udl_lab.symmetry.sets import Permutations
from udl_lab.symmetry.shifts import CircularShifts
from udl_lab.symmetry.square import SquareSymmetries

FILL = -0.4242

# Each with the axes of one example behind its channel (or, for sets, behind the batch).
ACTIONS = {
    "quarter turns": (Rotations([90, 180, 270]), [1, 8, 8]),
    "rotations": (Rotations([-15, 15, 45.5, 90], interpolation="fourier"), [1, 8, 8]),
    "12 rotations": (Rotations(range(30, 360, 30), interpolation="bilinear"), [1, 9, 9]),
    "translations": (Translations([1, 3]), [1, 7, 8]),
    "flips": (Flips(), [1, 7, 8]),
    "square": (SquareSymmetries(), [1, 7, 7]),
    "shifts": (CircularShifts([[1, 0], [0, -2], [3, 5]]), [1, 8, 10]),
    "all shifts": (CircularShifts("all", sizes=[3, 4]), [1, 4, 3]),
    "shifts of signals": (CircularShifts("all", sizes=[40]), [1, 40]),
    "reflection": (Reflection(), [1, 9]),
    "permutations": (Permutations(6, 5, seed=1), [6, 2]),
    "S3": (Permutations(3, 5), [3]),
    "fractional shifts": (FractionalShifts([[0.5, 0], [1, -2], [0.25, 1]]), [1, 7, 8]),
    "fractional shifts of signals": (FractionalShifts([[0.5], [-3]]), [1, 40]),
    "functions": (
        FunctionAction(
            "transpose", {"transpose": lambda x: x.mT}, {"transpose": "transpose"}, [4, 1, 5, 5]
        ),
        [1, 5, 5],
    ),
}
each_action = pytest.mark.parametrize(("action", "shape"), ACTIONS.values(), ids=ACTIONS)


def batch(shape, dtype=torch.float32):
    return torch.randn(5, *shape, generator=generator(0, "batch"), dtype=dtype)


@each_action
def test_it_passes_its_own_check(action, shape):
    action.check([5, *shape])
    action.check([1, *shape], seed=3)


@each_action
def test_elements_and_labels_are_distinct_and_the_identity_is_neither(action, shape):
    elements = [action.identity, *action.elements()]
    assert len(set(elements)) == len(elements) > 1
    assert len({action.label(element) for element in elements}) == len(elements)
    assert action.label(action.identity) == "identity"
    assert action.inverse(action.identity) == action.identity


@each_action
def test_the_identity_changes_nothing_and_inverses_undo_what_is_exact(action, shape):
    x = batch(shape)
    assert torch.equal(action.apply(x, action.identity, FILL), x)
    for element in action.elements():
        assert action.inverse(action.inverse(element)) == element
        undone = torch.equal(action.round_trip(x, element, FILL), x)
        assert undone == (action.exact(element) and action.invertible)
    inexact = not all(action.exact(element) for element in action.elements())
    assert inexact == (action.interpolation != "none")


# All but translations onto a background, whose refusal to compose is tested where they are.
@pytest.mark.parametrize("name", [n for n, (action, _) in ACTIONS.items() if action.invertible])
def test_composing_with_the_identity_or_the_inverse_is_as_it_must_be(name):
    action, _ = ACTIONS[name]
    for g in action.elements():
        assert action.compose(g, action.identity) == action.compose(action.identity, g) == g
        assert action.compose(g, action.inverse(g)) == action.identity


@each_action
def test_examples_channels_and_precision_are_left_alone(action, shape):
    x = batch(shape, torch.float64)
    for element in action.elements():
        y = action.apply(x, element, FILL)
        assert y.dtype == torch.float64 and y.shape == x.shape
        one = action.apply(x[2:3], element, FILL)
        # Equal but for the rounding of transforms that sum in another order.
        torch.testing.assert_close(y[2:3], one, rtol=0, atol=1e-14)
        if shape[0] == 1:  # three channels are three examples
            feature_map = x.transpose(0, 1)[:, :3]
            expected = y.transpose(0, 1)[:, :3]
            moved = action.apply(feature_map, element, FILL)
            torch.testing.assert_close(moved, expected, rtol=0, atol=1e-14)


@each_action
def test_a_layer_of_stride_1_is_acted_on_by_the_same_exact_elements(action, shape):
    for element in action.elements():
        if action.exact(element):
            assert action.restrict(element, 1) == element
    with pytest.raises(ValueError, match="stride: 0 is no stride"):
        action.restrict(action.elements()[0], 0)


GROUPS = {"quarter turns", "12 rotations", "flips", "square", "all shifts", "shifts of signals"}
GROUPS |= {"reflection", "S3", "functions"}


@pytest.mark.parametrize("name", ACTIONS)
def test_the_groups_are_known_as_such(name):
    assert ACTIONS[name][0].is_group == (name in GROUPS)
