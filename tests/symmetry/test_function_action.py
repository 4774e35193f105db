"""A user's own action: made in few lines, checked when it is made."""

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.function_action import FunctionAction

SHAPE = [3, 1, 5, 5]


def turn(x):
    return x.rot90(1, (-2, -1))


def back(x):
    return x.rot90(-1, (-2, -1))


def half(x):
    return x.rot90(2, (-2, -1))


def test_a_group_of_functions_is_recognised_and_composes():
    action = FunctionAction(
        "turns",
        {"turn": turn, "half": half, "back": back},
        {"turn": "back", "half": "half", "back": "turn"},
        shape=SHAPE,
    )
    assert action.is_group and action.exact("turn") and action.name == "turns"
    assert action.compose("turn", "turn") == "half"
    assert action.compose("turn", "back") == "identity"
    assert action.compose("identity", "back") == "back"
    x = torch.randn(2, 3, 4, 4, generator=generator(0))
    assert torch.equal(action.apply(x, action.compose("half", "turn"), 0.0), back(x))


def test_the_order_of_functions_that_do_not_commute_is_first_h_then_g():
    def exchange(x):
        return x[:, [1, 0, 2]]

    def cycle(x):
        return x[:, [2, 0, 1]]

    def cycle_back(x):
        return x[:, [1, 2, 0]]

    functions = {
        "exchange": exchange,
        "cycle": cycle,
        "cycle_back": cycle_back,
        "exchange_cycle": lambda x: cycle(exchange(x)),
        "cycle_exchange": lambda x: exchange(cycle(x)),
    }
    inverses = dict(zip(functions, functions, strict=True))
    inverses |= {"cycle": "cycle_back", "cycle_back": "cycle"}
    action = FunctionAction("S3", functions, inverses, shape=[4, 3])
    assert action.is_group
    assert action.compose("cycle", "exchange") == "exchange_cycle"
    assert action.compose("exchange", "cycle") == "cycle_exchange"


def test_functions_that_are_not_closed_are_no_group():
    action = FunctionAction(
        "turns", {"turn": turn, "back": back}, {"turn": "back", "back": "turn"}, shape=SHAPE
    )
    assert not action.is_group and action.compose("turn", "back") == "identity"
    with pytest.raises(ValueError, match="turn and then turn is none of the functions of 'turns'"):
        action.compose("turn", "turn")


def test_without_a_shape_nothing_is_known_and_nothing_is_tried():
    action = FunctionAction("wrong", {"turn": turn}, {"turn": "turn"})
    assert not action.is_group
    with pytest.raises(ValueError, match="no table of compositions"):
        action.compose("turn", "turn")
    with pytest.raises(ValueError, match="inverse: turn does not undo turn"):
        action.check(SHAPE)


def test_a_wrong_inverse_is_found_when_the_action_is_made():
    with pytest.raises(
        ValueError, match="the action 'wrong' fails its check: inverse: turn does not undo turn"
    ):
        FunctionAction("wrong", {"turn": turn}, {"turn": "turn"}, shape=SHAPE)


def test_a_function_that_flips_the_batch_is_found_when_the_action_is_made():
    with pytest.raises(ValueError, match="flip mixes the examples of a batch"):
        FunctionAction("wrong", {"flip": lambda x: x.flip(0)}, {"flip": "flip"}, shape=SHAPE)


def test_functions_that_resample_are_not_held_to_the_bit():
    def blur(x):
        return 0.5 * (x + x.roll(1, -1))

    action = FunctionAction("blur", {"blur": blur}, {"blur": "blur"}, SHAPE, "linear")
    assert not action.exact("blur") and not action.is_group and action.interpolation == "linear"
    with pytest.raises(ValueError, match="blur blur is resampled"):
        action.restrict("blur", 1)


@pytest.mark.parametrize(
    ("functions", "inverses", "message"),
    [
        ({}, {}, "has no functions"),
        ({"identity": turn}, {"identity": "identity"}, "'identity' is what changes nothing"),
        ({"turn": turn, "back": back}, {"turn": "back"}, "'back' has none"),
        ({"turn": turn}, {"turn": "tun"}, "'tun' is none of the functions; did you mean 'turn'"),
        ({"turn": turn}, {"turn": "turn", "half": "turn"}, "'half' is none"),
        ({"a": half, "b": half}, {"a": "b", "b": "a"}, "'a' and 'b' do the same"),
    ],
)
def test_names_that_do_not_fit_together_are_refused(functions, inverses, message):
    with pytest.raises(ValueError, match=message):
        FunctionAction("wrong", functions, inverses, shape=SHAPE)


def test_an_unknown_element_is_refused():
    action = FunctionAction("half", {"half": half}, {"half": "half"}, shape=SHAPE)
    with pytest.raises(ValueError, match="'hlf' is none of 'half'; did you mean 'half'"):
        action.apply(torch.zeros(1, 1, 2, 2), "hlf", 0.0)
