"""Augmentations: their parameters are uniform, recorded, and reproduce the image."""

import pytest
import scipy.stats
import torch

from udl_lab.data.augment import Flips, Rotation, Translation, _table
from udl_lab.randomness import generator
from udl_lab.symmetry.actions import Rotations
from udl_lab.symmetry.rotation import rotate

FILL = -0.4242


def images(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(0, "images"), dtype=dtype)


def assert_uniform(counts):
    """Pearson's chi-square, refused in either tail at one in a million; the seed is fixed."""
    expected = counts.sum() / len(counts)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    low, high = scipy.stats.chi2.interval(1 - 2e-6, df=len(counts) - 1)
    assert low < statistic < high


ROTATIONS = [
    Rotation(),
    Rotation(degrees=[0, 180], step_degrees=5),
    Rotation(degrees=[-10.5, 12], step_degrees=4),  # its angles are no multiples of the step
    Rotation(degrees=[-20, 20], step_degrees=7),  # the step does not close a full turn
    Rotation(degrees=[-179.7, 180.3], step_degrees=0.3),
    Rotation(step_degrees=None),
    Rotation(interpolation="bilinear"),
    Rotation(degrees=[-30, 30], step_degrees=None, interpolation="bicubic"),
]


@pytest.mark.parametrize("augment", ROTATIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_recorded_degrees_reproduce_the_image_bit_for_bit(augment, dtype):
    x = images(200, 2, 8, 8, dtype=dtype)
    degrees = augment.draw(200, generator(1, "augment"))
    y = augment(x, degrees, FILL)
    assert y.dtype == dtype
    assert torch.equal(y, rotate(x, degrees, augment.interpolation, FILL))
    assert torch.equal(y, augment(x, degrees, FILL))


def test_degrees_from_elsewhere_are_obeyed_even_off_the_grid():
    x = images(2, 1, 28, 28)
    degrees = torch.tensor([33.3, 10.0], dtype=torch.float64)
    on_grid = torch.tensor([33.5, 10.0], dtype=torch.float64)
    y = Rotation()(x, degrees, FILL)
    assert torch.equal(y, rotate(x, degrees, "nearest", FILL))
    assert not torch.equal(y, Rotation()(x, on_grid, FILL))


def test_images_too_large_for_a_table_are_rotated_all_the_same():
    x = images(1, 1, 80, 80)
    assert _table(80, 80, 0.5, x.device) is None and _table(28, 28, 0.5, x.device) is not None
    degrees = torch.tensor([33.5])
    assert torch.equal(Rotation()(x, degrees, FILL), rotate(x, degrees, "nearest", FILL))


def test_drawn_angles_are_uniform_on_a_full_circle_that_counts_no_angle_twice():
    degrees = Rotation().draw(72_000, generator(0, "augment"))
    assert degrees.min() == -180 and degrees.max() == 179.5
    angles, counts = torch.unique(degrees, return_counts=True)
    assert torch.equal(angles, torch.arange(-360, 360) / 2)
    assert_uniform(counts)


def test_a_half_circle_includes_both_its_ends():
    degrees = Rotation(degrees=[0, 180], step_degrees=30).draw(7_000, generator(0, "augment"))
    angles, counts = torch.unique(degrees, return_counts=True)
    assert angles.tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert_uniform(counts)


def test_ends_that_rounding_would_miss_are_kept_and_full_circles_stay_half_open():
    tenths = Rotation(degrees=[0, 0.3], step_degrees=0.1).draw(200, generator(0, "augment"))
    assert len(torch.unique(tenths)) == 4
    circle = Rotation(degrees=[-0.1, 359.9], step_degrees=120).draw(200, generator(0, "augment"))
    assert len(torch.unique(circle)) == 3


def test_angles_without_a_step_are_continuous_and_uniform():
    degrees = Rotation(degrees=[-30, 60], step_degrees=None).draw(9_000, generator(0, "augment"))
    assert len(torch.unique(degrees)) == 9_000
    # Kolmogorov-Smirnov, one in a million.
    assert scipy.stats.kstest(degrees.numpy(), scipy.stats.uniform(-30, 90).cdf).pvalue > 1e-6


def test_the_default_angles_are_a_group():
    angles = Rotation(degrees=[-180, 180], step_degrees=60).draw(500, generator(0, "augment"))
    assert Rotations(degrees=[a for a in angles.unique().tolist() if a]).is_group


def test_translations_are_uniform_on_the_square_of_moves():
    moves = Translation(pixels=2).draw(25_000, generator(0, "augment"))
    _, counts = torch.unique(moves, dim=0, return_counts=True)
    assert len(counts) == 25 and moves.min() == -2 and moves.max() == 2
    assert_uniform(counts)


def test_a_recorded_translation_says_right_then_down():
    x = torch.full((1, 1, 5, 6), FILL)
    x[0, 0, 1, 1] = 1.0
    y = Translation(pixels=3)(x, torch.tensor([[3, 2]]), FILL)
    assert y[0, 0, 3, 4] == 1.0
    assert (y == FILL).sum() == 29


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, True), (True, False), (False, True)])
def test_each_enabled_flip_is_a_fair_coin_and_a_disabled_one_never_happens(horizontal, vertical):
    flips = Flips(horizontal=horizontal, vertical=vertical).draw(8_000, generator(0, "augment"))
    pairs, counts = torch.unique(flips, dim=0, return_counts=True)
    assert len(pairs) == 2 ** (horizontal + vertical)
    assert flips.any(0).tolist() == [horizontal, vertical]
    assert_uniform(counts)


def test_a_recorded_flip_says_horizontal_then_vertical():
    x = images(3, 2, 4, 5)
    y = Flips()(x, torch.tensor([[True, False], [False, True], [True, True]]), FILL)
    assert torch.equal(y[0], x[0].flip(-1))
    assert torch.equal(y[1], x[1].flip(-2))
    assert torch.equal(y[2], x[2].flip(-2, -1))


@pytest.mark.parametrize("augment", [Rotation(), Translation(pixels=3), Flips()], ids=str)
def test_a_draw_depends_on_its_generator_alone_and_has_a_row_per_image(augment):
    first = augment.draw(6, generator(0, "augment", 1))
    assert len(first) == 6
    assert torch.equal(first, augment.draw(6, generator(0, "augment", 1)))
    assert not torch.equal(first, augment.draw(6, generator(0, "augment", 2)))


@pytest.mark.parametrize("augment", [Rotation(), Translation(pixels=3), Flips()], ids=str)
def test_images_of_a_batch_do_not_see_each_other(augment):
    x = images(8, 3, 8, 8)
    parameters = augment.draw(8, generator(0, "augment"))
    y = augment(x, parameters, FILL)
    order = torch.tensor([3, 1, 7])
    assert torch.equal(y[order], augment(x[order], parameters[order], FILL))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degrees": [30, -30]}, r"\[30, -30\] is not a range"),
        ({"degrees": [30, 30]}, "is not a range"),
        ({"degrees": [-180, 181]}, "is not a range"),
        ({"degrees": [90]}, "is not a range"),
        ({"step_degrees": 0}, "0 does not fit"),
        ({"step_degrees": -0.5}, "-0.5 does not fit"),
        ({"degrees": [-2, 2], "step_degrees": 5}, "5 does not fit into the 4 degrees"),
        ({"step_degrees": 7}, "steps of 7 degrees do not close a full turn"),
        ({"step_degrees": 360}, "360 leaves one angle only"),
    ],
)
def test_angles_that_make_no_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Rotation(**arguments)


def test_translations_and_flips_that_do_nothing_are_refused():
    with pytest.raises(ValueError, match="pixels: 0 moves nothing"):
        Translation(pixels=0)
    with pytest.raises(ValueError, match="enable one of them"):
        Flips(horizontal=False, vertical=False)


def test_a_translation_that_can_empty_the_frame_is_refused():
    augment = Translation(pixels=8)
    with pytest.raises(ValueError, match=r"8 pixels empties images of 8 x 9 pixels.* at most 7"):
        augment(images(1, 1, 8, 9), torch.tensor([[0, 0]]), FILL)
