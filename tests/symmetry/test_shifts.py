"""Circular shifts by whole pixels."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Translations
from udl_lab.symmetry.shifts import CircularShifts, compass_label


def whole(*shape, seed=0):
    return torch.randint(-4, 5, shape, generator=generator(seed)).float()


def test_an_image_goes_right_and_down_and_comes_in_at_the_other_side():
    x = torch.zeros(1, 1, 4, 5)
    x[0, 0, 1, 4] = 1.0
    for shift, place in {(1, 2): (3, 0), (-1, -2): (3, 3), (0, 1): (2, 4)}.items():
        y = CircularShifts([shift]).apply(x, shift, 0.0)
        assert torch.nonzero(y)[0, 2:].tolist() == list(place)


def test_where_nothing_leaves_the_frame_it_is_a_translation():
    x = torch.zeros(2, 1, 9, 9)
    x[:, :, 3:6, 3:6] = whole(2, 1, 3, 3)
    for shift in Translations([1, 3]).elements():
        y = CircularShifts([shift]).apply(x, shift, 0.0)
        assert torch.equal(y, Translations([1, 3]).apply(x, shift, 0.0))
        assert CircularShifts([shift]).label(shift) == Translations([1]).label(shift)


def test_a_circular_convolution_of_signals_commutes_with_all_40_shifts_bit_for_bit():
    weight, x = whole(3, 1, 5, seed=1), whole(2, 1, 40)

    def net(x):
        return F.relu(F.conv1d(F.pad(x, (2, 2), mode="circular"), weight))

    action = CircularShifts("all", sizes=[40])
    assert len(action.elements()) == 39 and action.is_group
    for shift in action.elements():
        assert torch.equal(net(action.apply(x, shift, 0.0)), action.apply(net(x), shift, 0.0))


def test_a_circular_net_of_images_commutes_bit_for_bit_also_through_a_stride():
    weight, x = whole(3, 1, 3, 3, seed=1), whole(2, 1, 8, 12)

    def net(x):
        return F.max_pool2d(F.relu(F.conv2d(F.pad(x, (1,) * 4, mode="circular"), weight)), 2)

    action = CircularShifts([[2, 0], [4, -2], [0, 6]], sizes=[12, 8])
    for shift in action.elements():
        layer = action.restrict(shift, 2)
        assert torch.equal(net(action.apply(x, shift, 0.0)), action.apply(net(x), layer, 0.0))
    assert not torch.equal(net(x.roll(1, -1)), net(x))


@pytest.mark.parametrize("action", [CircularShifts([[3, 0], [4, 4]]), Translations([3, 4])])
def test_a_shift_that_the_stride_does_not_divide_is_refused_with_ones_that_it_divides(action):
    assert action.restrict((4, -6), 2) == (2, -3)
    assert action.restrict((-6, 0), 3) == (-2, 0)
    with pytest.raises(
        ValueError,
        match=r"a shift of 3 pixels is not a multiple of the layer's stride 2; use 2, 4 \.\.\.",
    ):
        action.restrict((4, -3), 2)
    with pytest.raises(ValueError, match=r"a shift of 1 pixel is not a multiple .* use 3, 6"):
        action.restrict((1, 0), 3)


def test_a_grid_that_the_stride_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"side of 7 pixels .* stride 2.* crop to 6"):
        CircularShifts([[2, 0]], sizes=[8, 7]).restrict((2, 0), 2)
    with pytest.raises(ValueError, match="stride: 0"):
        CircularShifts([[2, 0]], sizes=[8, 7]).restrict((2, 0), 0)


def test_sizes_name_each_shift_by_its_shortest():
    action = CircularShifts([[39], [20], [-20 + 1], [41]], sizes=[40])
    assert action.elements() == [(-1,), (20,), (-19,), (1,)]
    assert action.inverse((20,)) == (20,)
    assert action.compose((20,), (20,)) == action.identity == (0,)
    assert action.compose((-19,), (-1,)) == (20,)
    free = CircularShifts([[39]])
    assert free.elements() == [(39,)] and free.compose((39,), (1,)) == (40,)
    assert free.inverse((39,)) == (-39,)


def closed_by_enumeration(shifts, sizes):
    group = {(0, 0), *((a % sizes[0], b % sizes[1]) for a, b in shifts)}
    return all(
        ((a - c) % sizes[0], (b - d) % sizes[1]) in group
        for (a, b), (c, d) in itertools.product(group, repeat=2)
    )


@pytest.mark.parametrize(
    "shifts",
    [
        [(2, 0), (4, 0)],
        [(2, 0)],
        [(3, 0), (0, 2), (3, 2)],
        [(3, 2)],
        [(3, 0), (0, 2)],
        [(1, 1), (2, 2), (3, 3)],
        [(2, 2), (4, 0), (0, 2), (2, 0), (4, 2)],
        [(a, b) for a in range(6) for b in range(4)][1:],
    ],
)
def test_shifts_are_a_group_when_closed_on_the_stated_grid_and_never_without(shifts):
    action = CircularShifts(shifts, sizes=[6, 4])
    assert action.is_group == closed_by_enumeration(shifts, (6, 4))
    assert not CircularShifts(shifts).is_group


def test_sizes_are_width_and_height():
    action = CircularShifts("all", sizes=[3, 4])
    action.check([2, 1, 4, 3])
    with pytest.raises(ValueError, match="fails its check: inverse: down2"):
        action.check([2, 1, 3, 4])


@pytest.mark.parametrize(
    ("shifts", "sizes", "message"),
    [
        ([], None, "the list is empty"),
        ([[0, 0]], None, r"\[0, 0\] is the identity"),
        ([[1], [40]], [40], r"\[40\] is the identity"),
        ([[1], [-39]], [40], r"\[1\] and \[-39\] are the same"),
        ([[1, 0], [1, 0]], None, "are the same"),
        ([[1, 0], [2]], None, r"\[2\] is no shift"),
        ([[1, 0, 2]], None, r"\[1, 0, 2\] is no shift"),
        ([[1, 0]], [40], "differ in length"),
        ("all", None, "shifts: all needs the sizes"),
        ("all", [1], "the list is empty"),
        ([[1]], [0], "sizes: 0 is no size"),
    ],
)
def test_shifts_that_make_no_family_are_refused(shifts, sizes, message):
    with pytest.raises(ValueError, match=message):
        CircularShifts(shifts, sizes=sizes)


def test_images_and_signals_are_not_mixed_up():
    with pytest.raises(ValueError, match=r"\[1\] does not fit .*\(2, 1, 4, 5\)"):
        CircularShifts([[1]]).apply(whole(2, 1, 4, 5), (1,), 0.0)
    with pytest.raises(ValueError, match=r"\[1, 0\] does not fit .*\(2, 1, 5\)"):
        CircularShifts([[1, 0]]).apply(whole(2, 1, 5), (1, 0), 0.0)


def test_labels_are_compass_directions():
    assert compass_label((2, -1)) == "right2up1" and compass_label((-3,)) == "left3"
    assert compass_label((0, 4)) == "down4" and compass_label((-0.5, 0.25)) == "left0.5down0.25"
    assert compass_label((0, 0)) == compass_label((0.0,)) == "identity"
