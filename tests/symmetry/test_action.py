"""The check finds each law that an action can break; the defaults promise nothing."""

import pytest
import torch

from udl_lab.symmetry.action import Action
from udl_lab.symmetry.actions import Rotations, Translations

SHAPE = [3, 2, 4, 6]


class Rolls(Action[int]):
    """Circular shifts to the right, written as a user would; each test breaks one thing."""

    name = "rolls"
    identity = 0
    listed = (1,)

    def elements(self):
        return list(self.listed)

    def apply(self, x, element, fill):
        return x.roll(element, -1)

    def inverse(self, element):
        return -element


class ClosedRolls(Rolls):
    is_group = True
    listed = (2, 4)

    def inverse(self, element):
        return -element % 6

    def compose(self, g, h):
        return (g + h) % 6


def test_five_members_make_an_action():
    action = Rolls()
    action.check(SHAPE)
    assert action.label(1) == "1" and action.interpolation == "none" and action.exact(1)
    assert not action.is_group and action.invertible
    assert action.restrict(1, 1) == 1
    with pytest.raises(ValueError, match="'rolls' does not say how it acts on a layer of stride 2"):
        action.restrict(1, 2)
    with pytest.raises(ValueError, match="'rolls' does not say what 1 and then 2 is"):
        action.compose(2, 1)


def test_a_group_of_a_user_passes():
    ClosedRolls().check(SHAPE)


def broken(base=Rolls, **members):
    return type("Broken", (base,), members)()


def in_place(self, x, element, fill):
    return x.mul_(-1) if element else x


def raising(self, x, element, fill):
    return x.reshape(7, 7) if element else x


BROKEN = {
    "lists its identity '0'": broken(listed=(0, 1)),
    "has an identity that changes its input": broken(apply=lambda self, x, g, fill: x.roll(1, -1)),
    "6 changes nothing": broken(listed=(6,)),
    r"1 made \(3, 2, 4, 5\)": broken(apply=lambda self, x, g, fill: x[..., 1:] if g else x),
    r"1 made .*, torch.float32 of": broken(apply=lambda self, x, g, fill: x.float() if g else x),
    "1 mixes the examples of a batch": broken(apply=lambda self, x, g, fill: x.roll(g, 0)),
    "inverse: 1 does not undo 1": broken(inverse=lambda self, element: element),
    "1 changes its input in place": broken(apply=in_place),
    r"1 cannot be applied to a tensor of shape \(3, 2, 4, 6\): .*invalid": broken(apply=raising),
    "closure: the inverse of 1 is not": broken(ClosedRolls, listed=(1, 4)),
    "closure: 1 and then 1, 2, is not": broken(ClosedRolls, listed=(1, 5)),
    "composition: 2 and then 2 is not 0": broken(ClosedRolls, compose=lambda self, g, h: 0),
    # Resampled elements are not compared, but their names must be closed all the same.
    "closure: 2 and then 2, 1, is not": broken(
        ClosedRolls, interpolation="bilinear", compose=lambda self, g, h: 1
    ),
}


@pytest.mark.parametrize(("message", "action"), BROKEN.items())
def test_a_broken_law_is_named(message, action):
    with pytest.raises(ValueError, match=f"'rolls' fails its check: {message}"):
        action.check(SHAPE)
    assert len(BROKEN) == 13


def test_what_cannot_be_bitwise_is_not_asked_for():
    def blur(self, x, element, fill):
        return x + x.roll(element, -1) if element else x

    action = broken(ClosedRolls, interpolation="linear", apply=blur)
    action.check(SHAPE)  # neither inverse nor composition hold
    Translations([1, 2]).check(SHAPE)  # exact moves that lose pixels
    with pytest.raises(ValueError, match="inverse"):
        broken(ClosedRolls, apply=blur).check(SHAPE)


def test_a_check_of_a_shape_that_does_not_fit_says_so():
    with pytest.raises(
        ValueError, match=r"'translation' fails its check: right4up4 cannot be .*empti"
    ):
        Translations([4]).check(SHAPE)
    with pytest.raises(ValueError, match="4 x 6 pixels does not turn"):
        Rotations([90]).check(SHAPE)


def test_a_large_group_is_checked_on_a_sample_of_its_pairs():
    class Counting(ClosedRolls):
        listed = tuple(range(1, 60))
        calls = 0

        def inverse(self, element):
            return -element % 60

        def compose(self, g, h):
            self.calls += 1
            return (g + h) % 60

    action = Counting()
    action.check([1, 1, 60])
    assert action.calls == 24 * 24


def test_the_check_draws_from_its_seed_alone():
    seen = []

    def apply(self, x, element, fill):
        seen.append((x.clone(), fill))
        return x.roll(element, -1)

    action = broken(apply=apply)
    for seed in (0, 0, 1):
        action.check(SHAPE, seed)
    third = len(seen) // 3
    assert torch.equal(seen[0][0], seen[third][0]) and seen[0][1] == seen[third][1]
    assert not torch.equal(seen[0][0], seen[2 * third][0])
