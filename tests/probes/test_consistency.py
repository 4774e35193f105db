"""Shift consistency: exactly 1 where the architecture says so, and the definition by hand."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.probes.consistency import ShiftConsistency
from udl_lab.probes.pairing import disjoint_pairs
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded


def whole(*shape, seed=0, largest=3):
    """Whole numbers, so that float64 sums of products are exact and no tie can be broken."""
    g = generator(seed)
    return torch.randint(-largest, largest + 1, shape, generator=g, dtype=torch.float64)


def one_pixel(n, side=6, seed=5):
    """Images with one bright pixel each."""
    places = torch.randint(side * side, (n,), generator=generator(seed))
    return nn.functional.one_hot(places, side * side).double().reshape(n, 1, side, side)


class Pooled(nn.Module):
    """Circular convolutions with whole-number weights, then the sum over all places.

    Less the median over the images, so that no class is named always.
    """

    def __init__(self, stride, images):
        super().__init__()
        shapes = [(1, 4, stride), (4, 5, 1)]
        convolutions = [
            nn.Conv2d(i, o, 3, s, 1, padding_mode="circular", bias=False).double()
            for i, o, s in shapes
        ]
        for seed, convolution in enumerate(convolutions):
            convolution.weight.data = whole(*convolution.weight.shape, seed=seed)
        self.features = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU())
        self.usual = self.features(images).sum((2, 3)).median(0).values

    def forward(self, x):
        return self.features(x).sum((2, 3)) - self.usual


class Column(nn.Module):
    """Names the column of the bright pixel."""

    def forward(self, x):
        return x.sum((1, 2))


class Brightness(nn.Module):
    """Names class 1 for an image of positive sum, wherever it is."""

    def forward(self, x):
        total = x.sum((1, 2, 3))
        return torch.stack([-total, total], 1)


class Constant(nn.Module):
    def forward(self, x):
        return x.new_tensor([0.0, 0, 1]).expand(len(x), 3)


def measured(net, x, y=None, untrained=None, background=0.0, **options):
    """The rows by name and distance."""
    y = torch.zeros(len(x)).long() if y is None else y
    options = {"n_boot": 40, "max_shift": 2, "mode": "circular", **options}
    rows = ShiftConsistency(**options)(Subject(net, untrained or net, Examples(x, y), background))
    table = {(row.metric, row.element): row for row in rows}
    assert len(table) == len(rows)
    return table


def numbers(row):
    return (row.estimate, row.low, row.high)


# The definition once more, one image and one shift at a time.


def moved(image, shift, mode, background=0.0):
    right, down = (int(pixels) for pixels in shift)
    if mode == "circular":
        return np.roll(image, (down, right), (1, 2))
    _, height, width = image.shape
    canvas = np.full((1, 3 * height, 3 * width), background)
    top, left = height + down, width + right
    canvas[:, top : top + height, left : left + width] = image
    return canvas[:, height : 2 * height, width : 2 * width]


def trials(net, x, mode, max_shift, n_pairs, background=0.0):
    """(image, shift a, shift b, predictions agree) for every pair of shifts."""
    size = (len(x), n_pairs, 2, 2)
    shifts = torch.randint(
        -max_shift, max_shift + 1, size, generator=generator(0, "shift consistency")
    )
    for i, image in enumerate(x.numpy()):
        for a, b in shifts[i].tolist():
            first, second = (
                int(net(torch.tensor(moved(image, s, mode, background))[None]).argmax())
                for s in (a, b)
            )
            yield i, a, b, first == second


@pytest.mark.parametrize("max_shift", [2, 7])
def test_a_circular_net_of_stride_1_with_global_pooling_is_exactly_consistent(max_shift):
    x = whole(30, 1, 8, 8, seed=3)
    net = Pooled(1, x)
    table = measured(net, x, net(x).argmax(1), max_shift=max_shift)
    shares = [row for key, row in table.items() if key[0] in ("consistency", "consistency_correct")]
    assert len(shares) > 3
    assert all(numbers(row) == (1, 1, 1) for row in shares)
    assert numbers(table["flip_rate", ""]) == (0, 0, 0)
    assert table["consistency_chance", ""].estimate < 0.6


def test_a_stride_of_2_breaks_consistency_at_odd_shifts():
    x = whole(30, 1, 8, 8, seed=3)
    table = measured(Pooled(2, x), x)
    assert table["consistency", ""].high < 1
    assert table["flip_rate", ""].low > 0


@pytest.mark.parametrize("mode", ["circular", "zero"])
def test_the_rows_are_those_of_the_definition(mode):
    with seeded(0, "net"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(30, 4)).double()
    x = torch.randn(7, 1, 5, 6, generator=generator(1), dtype=torch.float64)
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 4  # three mistakes
    table = measured(net, x, y, background=-0.5, mode=mode, n_pairs_per_image=5)
    found = list(trials(net, x, mode, 2, 5, background=-0.5))

    def distance(a, b):
        sides = [abs(p - q) for p, q in zip(a, b, strict=True)]
        if mode == "circular":  # right is around 6 pixels, down around 5
            sides = [min(s, n - s) for s, n in zip(sides, (6, 5), strict=True)]
        return max(sides)

    everywhere = [agree for *_, agree in found]
    assert table["consistency", ""].estimate == pytest.approx(np.mean(everywhere), abs=1e-15)
    assert 0 < np.mean(everywhere) < 1
    distances = {distance(a, b) for _, a, b, _ in found} - {0}
    assert {d for metric, d in table if metric == "consistency"} == {"", *map(str, distances)}
    assert max(distances) == (3 if mode == "circular" else 4)
    for d in distances:
        those = [(i, agree) for i, a, b, agree in found if distance(a, b) == d]
        row = table["consistency", str(d)]
        assert row.estimate == pytest.approx(np.mean([agree for _, agree in those]), abs=1e-15)
        assert row.n == len({i for i, _ in those})
    right = net(x).argmax(1) == y
    row = table["consistency_correct", ""]
    expected = np.mean([agree for i, _, _, agree in found if right[i]])
    assert (row.estimate, row.n) == (pytest.approx(expected, abs=1e-15), 4)


@pytest.mark.parametrize("mode", ["circular", "zero"])
def test_the_flip_rate_is_the_share_of_the_four_neighbours_with_another_class(mode):
    with seeded(0, "net"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(30, 4)).double()
    x = torch.randn(9, 1, 5, 6, generator=generator(1), dtype=torch.float64)
    flips = [
        int(net(torch.tensor(moved(image, s, mode, 0.5))[None]).argmax()) != int(own.argmax())
        for image, own in zip(x.numpy(), net(x), strict=True)
        for s in ((0, 1), (1, 0), (0, -1), (-1, 0))
    ]
    found = measured(net, x, background=0.5, mode=mode)["flip_rate", ""]
    assert found.estimate == pytest.approx(np.mean(flips), abs=1e-15)
    assert 0 < np.mean(flips) < 1


def test_a_net_that_reads_the_column_is_consistent_where_the_columns_agree():
    table = measured(Column(), one_pixel(200), n_pairs_per_image=10)
    # a and b agree in the column with probability 1/5; 2000 independent pairs.
    sd = math.sqrt(0.2 * 0.8 / 2000)
    assert table["consistency", ""].estimate == pytest.approx(0.2, abs=4 * sd)
    # Moves right and left change the column, down and up do not: half, for every image.
    assert numbers(table["flip_rate", ""]) == (0.5, 0.5, 0.5)


def test_the_image_is_the_unit_of_the_interval():
    # Half of the images are consistent always and half are never (their columns are all alike).
    x = one_pixel(40)
    x[::2] = 0  # no bright pixel: column 0, wherever it is
    rows = [
        measured(Column(), x, n_pairs_per_image=n, n_boot=400)["consistency", ""] for n in (4, 64)
    ]
    # An image's share is about 1 or 0.2: standard deviation 0.4, and 1.96 · 0.4 / sqrt(40) = 0.12
    # each way, however many pairs of shifts an image meets.
    for row in rows:
        assert 0.18 < row.high - row.low < 0.32
        assert row.n == 40


def test_a_constant_predictor_is_as_consistent_as_chance():
    table = measured(Constant(), whole(6, 1, 4, 4))
    for key in ("consistency", "consistency_chance", "consistency_untrained"):
        assert numbers(table[key, ""]) == (1, 1, 1)
    assert numbers(table["flip_rate", ""]) == (0, 0, 0)


def test_chance_is_the_sum_of_squared_marginals():
    x = whole(600, 1, 4, 4, seed=8) + 0.125  # 16 pixels of mean 1/8: no sum is 0
    bright = (x.sum((1, 2, 3)) > 0).double()
    table = measured(Brightness(), x, n_pairs_per_image=2)
    assert table["consistency", ""].estimate == 1  # predictions do not move, so pairs are exact
    chance = table["consistency_chance", ""]
    pairs = disjoint_pairs(600, generator(0, "probe pairs"))
    assert chance.estimate == float((bright[pairs[:, 0]] == bright[pairs[:, 1]]).double().mean())
    assert chance.n == 300
    p = float(bright.mean())
    assert chance.estimate == pytest.approx(p**2 + (1 - p) ** 2, abs=4 * math.sqrt(0.25 / 300))


def test_chance_counts_every_shifted_copy():
    # Columns of a copy are uniform over 6 places: 1/6, though single images only reach 5 of them.
    chance = measured(Column(), one_pixel(400))["consistency_chance", ""]
    assert chance.estimate == pytest.approx(1 / 6, abs=4 * math.sqrt(1 / 6 * 5 / 6 / 200))


def test_no_correct_image_gives_nan_and_not_zero():
    x = whole(6, 1, 4, 4)
    row = measured(Constant(), x, torch.zeros(6).long())["consistency_correct", ""]
    assert all(map(math.isnan, numbers(row)))
    assert (row.n, row.note) == (0, "no share: no image was classified correctly")


def test_what_enters_the_frame_is_the_background():
    with seeded(0, "net"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(25, 8)).double()
    empty = torch.full((4, 1, 5, 5), -0.42).double()
    assert measured(net, empty, background=-0.42, mode="zero")["consistency", ""].estimate == 1
    assert measured(net, empty, background=0.5, mode="zero")["consistency", ""].estimate < 1


def test_the_untrained_network_meets_the_same_shifts():
    x = one_pixel(20)
    table = measured(Column(), x, untrained=Column())
    for metric in ("consistency", "consistency_chance"):
        assert numbers(table[f"{metric}_untrained", ""]) == numbers(table[metric, ""])
    assert measured(Column(), x, untrained=Constant())["consistency_untrained", ""].estimate == 1


def test_an_unknown_mode_is_refused_by_name():
    # The annotation refuses it in tests and in a configuration, the constructor anywhere else.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="reflect"):
        ShiftConsistency(mode="reflect")  # pyright: ignore[reportArgumentType]


def test_a_shift_that_could_empty_the_image_is_refused():
    with pytest.raises(
        ValueError, match="max_shift 4 can empty images of 4 x 6 pixels; use at most 3"
    ):
        measured(Constant(), whole(3, 1, 4, 6), max_shift=4)
    measured(Constant(), whole(3, 1, 4, 6), max_shift=3)


def test_signals_are_refused():
    with pytest.raises(ValueError, match=r"an example here has shape \(1, 40\)"):
        measured(Constant(), whole(3, 1, 40))
