"""An action on a layer: the places of a map that no border reaches, by hand and by trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import pytest
import torch
from torch import nn

from udl_lab.probes.geometry import geometry
from udl_lab.probes.layer_action import LayerAction
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.action import Action
from udl_lab.symmetry.actions import Translations
from udl_lab.symmetry.shifts import CircularShifts

FILL = 7.0
TRANSLATIONS = Translations([1])


@final
@dataclass(frozen=True)
class Moves(Action[tuple[int, int]]):
    """Translations by the listed (right, down) alone; a `Translations` has all eight directions."""

    moves: Sequence[tuple[int, int]]
    name: ClassVar[str] = "moves"
    identity = (0, 0)
    invertible = False

    def elements(self):
        return list(self.moves)

    def apply(self, x, element, fill):
        return TRANSLATIONS.apply(x, element, fill)

    def inverse(self, element):
        return TRANSLATIONS.inverse(element)

    def restrict(self, element, stride):
        return TRANSLATIONS.restrict(element, stride)


def convolutions(stride=1):
    with seeded(0, "net"):
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 4, 3, stride, padding=1)
        ).double()


def on(net, site, *moves):
    return LayerAction(site, Moves(moves), geometry(net, (1, 12, 14))[site], FILL, "skip")


@pytest.mark.parametrize(
    ("moves", "rows", "columns"),
    [
        # Place j of the first layer sees j - 1, j, j + 1, which must be old pixels of the frame.
        ([(2, 0)], (1, 11), (3, 13)),
        ([(0, 2)], (3, 11), (1, 13)),
        ([(-1, 3)], (4, 11), (1, 12)),
        ([(2, 0), (-1, 0)], (1, 11), (3, 12)),
        ([(0, -2), (0, 1)], (2, 9), (1, 13)),
    ],
)
def test_the_interior_is_what_every_move_leaves_counted_by_hand(moves, rows, columns):
    assert on(convolutions(), "0", *moves).interior == (slice(*rows), slice(*columns))


@pytest.mark.parametrize("moves", [[(2, 0), (-1, 1)], [(0, -3)], [(3, 1), (1, -2), (-2, 0)]])
def test_a_layer_moves_on_its_interior_and_no_further(moves):
    net = convolutions()
    known = on(net, "2", *moves)
    x = torch.randn(2, 1, 12, 14, generator=generator(0, "images"), dtype=torch.float64)
    error = torch.zeros(12, 14, dtype=torch.float64)
    for e, move in enumerate(moves):
        moved = net(known.action.apply(x, move, FILL))
        error = error.maximum((moved - known.carry(net(x), e)).abs().amax((0, 1)))
    rows, columns = known.interior
    # Rounding: sums of 27 products of numbers around 1, in another order at most.
    assert error[rows, columns].max() < 1e-13
    for axis, part, shifts in (
        (0, rows, [m[1] for m in moves]),
        (1, columns, [m[0] for m in moves]),
    ):
        if max(shifts) > 0:  # something enters at the near end
            assert error.movedim(axis, 0)[part.start - 1].max() > 1e-3
        if min(shifts) < 0:
            assert error.movedim(axis, 0)[part.stop].max() > 1e-3


def test_a_move_that_the_stride_does_not_divide_has_no_part_in_the_interior():
    net = convolutions(stride=2)
    assert on(net, "2", (2, 0), (-1, 0)).interior == on(net, "2", (2, 0)).interior
    assert on(net, "2", (1, 0)).interior is None


def test_an_action_that_loses_nothing_needs_no_interior():
    net = convolutions()
    assert LayerAction("2", TRANSLATIONS, None, FILL, "skip").interior is None
    place = geometry(net, (1, 12, 14))["2"]
    assert LayerAction("2", TRANSLATIONS, place, FILL, "skip").interior is not None
    assert LayerAction("2", CircularShifts([[1, 0]]), place, FILL, "skip").interior is None
