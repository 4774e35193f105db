"""The families of transformations: what they list, and the laws their exact elements obey."""

import itertools

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Flips, Rotations, Translations
from udl_lab.symmetry.fractional import FractionalShifts
from udl_lab.symmetry.groups import check_group
from udl_lab.symmetry.rotation import rotate
from udl_lab.symmetry.shifts import CircularShifts
from udl_lab.symmetry.square import SquareSymmetries

C4 = Rotations(degrees=[90, 180, 270])
FAMILIES = [
    C4,
    Rotations(degrees=[-15, 15, 45.5, 90], interpolation="bilinear"),
    Translations(pixels=[1, 3]),
    Flips(),
    SquareSymmetries(),
    CircularShifts([[1, 0], [0, -2], [3, 5]]),
    FractionalShifts([[0.5, 0], [1, -2], [0.25, 1]]),
]
FILL = -0.4242


def images(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(0, "images"), dtype=dtype)


def framed_images():
    """Images whose content keeps 3 pixels away from the border."""
    x = torch.full((5, 2, 12, 12), FILL)
    x[:, :, 3:-3, 3:-3] = images(5, 2, 6, 6)
    return x


@pytest.mark.parametrize("action", FAMILIES, ids=lambda action: action.name)
def test_elements_and_labels_are_distinct_and_can_key_a_table(action):
    elements = action.elements()
    assert len(set(elements)) == len(elements)
    assert len({action.label(element) for element in elements}) == len(elements)


@pytest.mark.parametrize("action", FAMILIES, ids=lambda action: action.name)
def test_no_element_is_the_identity(action):
    x = framed_images()
    for element in action.elements():
        assert not torch.equal(action.apply(x, element, FILL), x)


@pytest.mark.parametrize("action", FAMILIES, ids=lambda action: action.name)
def test_the_round_trip_of_an_exact_element_is_the_identity_bit_for_bit(action):
    x = framed_images()
    for element in action.elements():
        same = torch.equal(action.round_trip(x, element, FILL), x)
        assert same == action.exact(element)


def test_a_nearest_rotation_by_45_degrees_loses_pixels_on_its_round_trip():
    action = Rotations(degrees=[45], interpolation="nearest")
    x = framed_images()
    assert not torch.equal(action.round_trip(x, 45.0, FILL), x)


def test_a_translation_there_and_back_leaves_background_where_content_left():
    x = images(2, 1, 6, 6)
    y = Translations(pixels=[2]).round_trip(x, (2, 0), FILL)
    assert torch.equal(y[..., :4], x[..., :4])
    assert torch.equal(y[..., 4:], torch.full_like(y[..., 4:], FILL))


@pytest.mark.parametrize("action", FAMILIES, ids=lambda action: action.name)
def test_the_inverse_of_the_inverse_is_the_element_and_groups_contain_inverses(action):
    for element in action.elements():
        assert action.inverse(action.inverse(element)) == element
        assert not action.is_group or action.inverse(element) in action.elements()


@pytest.mark.parametrize("side", [7, 8])
def test_quarter_turns_compose_to_the_cyclic_group_of_four(side):
    x = images(2, 2, side, side)
    turned = {angle: C4.apply(x, angle, FILL) for angle in C4.elements()} | {0.0: x}
    for first, second in itertools.product(C4.elements(), repeat=2):
        twice = C4.apply(turned[first], second, FILL)
        assert torch.equal(twice, turned[(first + second) % 360])


@pytest.mark.parametrize("side", [7, 8])
def test_flips_and_quarter_turns_satisfy_the_relations_of_the_dihedral_group(side):
    x = images(2, 2, side, side)

    def s(x, element="horizontal"):
        return Flips().apply(x, element, FILL)

    def r(x, angle=90.0):
        return C4.apply(x, angle, FILL)

    assert torch.equal(s(s(x)), x)
    assert torch.equal(s(r(s(x))), r(x, 270.0))
    assert torch.equal(s(r(x, 180.0)), s(x, "vertical"))
    assert torch.equal(s(x, "both"), r(x, 180.0))
    assert torch.equal(s(r(x), "vertical"), x.mT)  # matrices: rot90 is a transpose, rows reversed


def test_flips_are_named_by_where_content_goes():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    flips = {
        element: Flips().apply(x, element, FILL)[0, 0].tolist() for element in Flips().elements()
    }
    assert flips == {
        "horizontal": [[2, 1], [4, 3]],
        "vertical": [[3, 4], [1, 2]],
        "both": [[4, 3], [2, 1]],
    }


def test_translations_go_where_their_labels_say():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    action = Translations(pixels=[2])
    found = {}
    for element in action.elements():
        _, _, row, column = torch.nonzero(action.apply(x, element, 0.0))[0].tolist()
        found[action.label(element)] = (row, column)
    assert found == {
        "right2": (2, 4),
        "right2up2": (0, 4),
        "up2": (0, 2),
        "left2up2": (0, 0),
        "left2": (2, 0),
        "left2down2": (4, 0),
        "down2": (4, 2),
        "right2down2": (4, 4),
    }


def test_rotations_apply_rotate_with_the_named_interpolation():
    x = images(3, 1, 8, 8)
    degrees = torch.full((3,), 15.0)
    for interpolation in ("nearest", "bilinear", "bicubic", "fourier"):
        action = Rotations(degrees=[15, 90], interpolation=interpolation)
        assert action.interpolation == interpolation
        expected = rotate(x, degrees, interpolation, FILL)
        assert torch.equal(action.apply(x, 15.0, FILL), expected)
        assert torch.equal(action.apply(x, 90.0, FILL), torch.rot90(x, 1, (-2, -1)))


def test_rotations_are_labelled_with_their_sign():
    action = Rotations(degrees=[90, -15, 22.5], interpolation="bilinear")
    assert [action.label(angle) for angle in action.elements()] == ["+90", "-15", "+22.5"]


def test_a_family_without_resampling_says_none():
    assert C4.interpolation == Translations([1]).interpolation == Flips().interpolation == "none"
    assert Rotations(degrees=[-90, 180], interpolation="bicubic").interpolation == "none"


def closed_by_enumeration(degrees):
    """Closure under sums and differences, by trying every pair of whole degrees."""
    turn = {0, *(angle % 360 for angle in degrees)}
    return all((a - b) % 360 in turn for a in turn for b in turn)


@pytest.mark.parametrize(
    "degrees",
    [
        [180],
        [90],
        [-90, 90],
        [90, 180, 270],
        [-90, 180, 90],
        [120, -120],
        [90, 270, 45],
        [60, 120, 180, 240],
        list(range(-165, 181, 15))[:11] + list(range(15, 181, 15)),
        list(range(15, 181, 15)),
    ],
)
def test_angles_are_a_group_exactly_when_they_are_closed(degrees):
    assert Rotations(degrees=degrees).is_group == closed_by_enumeration(degrees)


def test_a_group_of_angles_that_are_not_whole_is_recognised():
    assert Rotations(degrees=[360 / 7 * k for k in range(1, 7)]).is_group
    assert Flips().is_group and not Translations([1]).is_group


@pytest.mark.parametrize(
    ("degrees", "interpolation", "message"),
    [
        ([], "nearest", "at least one angle"),
        ([0, 90], "nearest", "0 is the identity"),
        ([360], "nearest", "360 is outside .* use 0"),
        ([450], "nearest", "450 is outside .* use 90"),
        ([float("nan")], "nearest", "nan is outside"),
        ([90, -270], "nearest", "90 and -270 are the same rotation"),
        ([90, 45], "none", "45 degrees resamples the image"),
    ],
)
def test_degrees_that_make_no_family_are_refused(degrees, interpolation, message):
    with pytest.raises(ValueError, match=message):
        Rotations(degrees=degrees, interpolation=interpolation)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [([], "at least one"), ([0], "0 moves nothing"), ([-2], "-2 moves"), ([2, 2], "2 is listed")],
)
def test_distances_that_make_no_family_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        Translations(pixels=pixels)


def test_a_move_that_empties_the_frame_is_refused():
    action = Translations(pixels=[7, 8])
    x = images(1, 1, 8, 8)
    assert torch.equal(action.apply(x, (7, 0), FILL)[..., 7], x[..., 0])
    with pytest.raises(ValueError, match=r"left8up8 empties images of 8 x 8 pixels.* at most 7"):
        action.apply(x, (-8, -8), FILL)
    for element in [(8, 0), (0, 8)]:
        with pytest.raises(ValueError, match="empties"):
            action.apply(x, element, FILL)


def test_an_angle_outside_an_exact_family_is_refused():
    with pytest.raises(ValueError, match="by 45 degrees needs an interpolation"):
        C4.apply(images(1, 1, 8, 8), 45.0, FILL)


def test_images_that_are_not_square_are_not_turned():
    with pytest.raises(ValueError, match="8 x 9 pixels"):
        C4.apply(images(1, 1, 8, 9), 180.0, FILL)


@pytest.mark.parametrize("action", FAMILIES, ids=lambda action: action.name)
def test_the_precision_and_the_shape_of_the_images_are_kept(action):
    x = images(2, 3, 8, 8, dtype=torch.float64)
    for element in action.elements():
        y = action.apply(x, element, FILL)
        assert y.dtype == torch.float64 and y.shape == x.shape


def test_angles_compose_to_their_sum_as_the_family_names_it():
    named = Rotations(degrees=[-90, 180, 90])
    assert named.compose(90.0, 180.0) == -90.0 and named.compose(-90.0, -90.0) == 180.0
    assert named.compose(180.0, 180.0) == named.identity
    free = Rotations(degrees=[15, 300], interpolation="bilinear")
    assert free.compose(15.0, 15.0) == 30.0 and free.compose(300.0, 300.0) == -120.0
    assert free.compose(free.inverse(15.0), 15.0) == free.identity


@pytest.mark.parametrize(
    "action",
    [C4, Flips(), Rotations(range(30, 360, 30)), Rotations([360 / 7 * k for k in range(1, 7)])],
)
def test_the_names_of_a_group_obey_its_laws(action):
    group = [action.identity, *action.elements()]
    check_group(action.compose, action.inverse, action.identity, group)


def test_translations_do_not_compose():
    action = Translations([1])
    with pytest.raises(
        ValueError, match=r"right1 and then left1 is no translation.*CircularShifts"
    ):
        action.compose((-1, 0), (1, 0))
    assert not action.invertible and action.label(action.identity) == "identity"


def test_exact_rotations_and_flips_act_on_every_layer_and_resampled_ones_on_none():
    action = Rotations(degrees=[45, 90], interpolation="bilinear")
    assert action.restrict(90.0, 4) == 90.0 and Flips().restrict("both", 2) == "both"
    with pytest.raises(ValueError, match=r"rotation \+45 is resampled.* multiples of 90 degrees"):
        action.restrict(45.0, 1)


def test_an_unknown_flip_is_refused():
    with pytest.raises(ValueError, match="'horizntal' is no flip; did you mean 'horizontal'"):
        Flips().apply(images(1, 1, 4, 4), "horizntal", FILL)
