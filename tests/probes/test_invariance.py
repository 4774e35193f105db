"""The distance ratio against its definition in numpy, exact invariances, and planted defects."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.errors import UsageError
from udl_lab.nets.cnn import CNN
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.invariance import Invariance
from udl_lab.probes.pairing import disjoint_pairs, same_class_pairs
from udl_lab.probes.statistics import proportion
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import records
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.actions import Flips, Rotations, Translations

QUARTERS = Rotations([90, 180, 270])


class GlobalMean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def chain(**layers):
    return nn.Sequential(OrderedDict(layers))


def whole(*shape, seed=0):
    """Whole numbers, small enough that float32 sums of their products are exact."""
    return torch.randint(-8, 9, shape, generator=generator(seed)).float()


def linear(n_in, n_out, seed=1):
    layer = nn.Linear(n_in, n_out, bias=False)
    layer.weight.data = whole(n_out, n_in, seed=seed)
    return layer


def mapped(seed=1):
    """One linear map of an image of 4 x 4 pixels."""
    return chain(flat=nn.Flatten(), map=linear(16, 3, seed))


def measured(net, x, y=None, action=QUARTERS, untrained=None, background=0.0, **options):
    """The rows by metric, layer and element."""
    y = torch.zeros(len(x)).long() if y is None else y
    subject = Subject(net, untrained or net, Examples(x, y), background)
    rows = Invariance(action, **{"n_boot": 40, **options})(subject)
    table = {(row.metric, row.site, row.element): row for row in rows}
    assert len(table) == len(rows)  # no two rows of one name
    return table


def numbers(row):
    return (row.estimate, row.low, row.high)


def rho(table, site, element="", metric="rho"):
    return table[metric, site, element].estimate


# The definition, once more.


def distance(a, b):
    return float(np.sqrt(sum((p - q) ** 2 for p, q in zip(a.flat, b.flat, strict=True))))


def ratios(layer, images, copies, pairs):
    """Each pair's mean movement (pair, element) and distance (pair), straight from the definition.

    `copies[g][i]` is image i transformed by g, and `layer` a function of one image.
    """
    moved = [
        [np.mean([distance(layer(copy[i]), layer(images[i])) for i in pair]) for copy in copies]
        for pair in pairs
    ]
    apart = [distance(layer(images[i]), layer(images[j])) for i, j in pairs]
    return np.array(moved), np.array(apart)


def test_rho_of_a_linear_map_is_the_ratio_of_sums_by_its_definition():
    # 7 images: the last of three pairs leaves one out. Float32 images, so float32 distances would
    # miss the tolerance of float64 by a factor of 10^5.
    x, y = whole(7, 1, 4, 4), torch.tensor([0, 1, 0, 1, 1, 0, 1])
    trained, untrained = mapped(1), mapped(2)
    table = measured(trained, x, y, untrained=untrained, batch_size=3)

    images = x.double().numpy()
    copies = [[np.rot90(image, k, (1, 2)) for image in images] for k in (1, 2, 3)]
    pairs = disjoint_pairs(7, generator(0, "probe pairs")).tolist()
    alike = same_class_pairs(y, generator(0, "probe pairs of a class")).tolist()
    weight, start = (net.map.weight.detach().double().numpy() for net in (trained, untrained))
    layers = {"pixels": lambda image: image, "map": lambda image: weight @ image.ravel()}
    for site, layer in layers.items():
        moved, apart = ratios(layer, images, copies, pairs)
        columns = np.column_stack([moved.mean(axis=1), moved])
        expected = ratio_of_sums(columns, apart, n_boot=40)
        for element, interval in zip(["", "+90", "+180", "+270"], expected, strict=True):
            row = table["rho", site, element]
            by_hand = sum(columns[:, ["", "+90", "+180", "+270"].index(element)]) / sum(apart)
            assert row.estimate == pytest.approx(by_hand, rel=1e-12)
            bounds = (interval.low, interval.high)
            assert (row.low, row.high) == pytest.approx(bounds, rel=1e-12)
            assert row.n == 3
        moved, apart = ratios(layer, images, copies, alike)
        by_hand = moved.mean(axis=1).sum() / apart.sum()
        assert rho(table, site, metric="rho_same_class") == pytest.approx(by_hand, rel=1e-12)
    moved, apart = ratios(lambda image: start @ image.ravel(), images, copies, pairs)
    by_hand = moved.mean(axis=1).sum() / apart.sum()
    assert rho(table, "map", metric="rho_untrained") == pytest.approx(by_hand, rel=1e-12)


def test_an_exactly_invariant_layer_has_rho_zero_and_the_pixels_have_not():
    table = measured(chain(mean=GlobalMean()), whole(10, 1, 4, 4))  # sums of whole numbers: exact
    for element in ("", "+90", "+180", "+270"):
        assert numbers(table["rho", "mean", element]) == (0, 0, 0)
        assert rho(table, "pixels", element) > 0.5


def test_the_identity_moves_as_far_as_the_pixels():
    x = torch.rand(10, 1, 5, 5, generator=generator(2))
    table = measured(chain(same=nn.Identity(), flat=nn.Flatten()), x, action=Rotations([30, 90]))
    for metric in ("rho", "rho_same_class", "rho_round_trip", "rho_untrained"):
        for element in ("", "+30", "+90"):
            if (metric, "pixels", element) in table:
                same, pixels = (numbers(table[metric, s, element]) for s in ("same", "pixels"))
                assert same == pixels


def test_rho_does_not_depend_on_the_scale_of_the_layer():
    plain, large = mapped(), mapped()
    large.map.weight.data *= 1024  # a power of two: every distance is scaled exactly
    tables = [measured(net, whole(9, 1, 4, 4)) for net in (plain, large)]
    assert tables[0].keys() == tables[1].keys()
    for key, row in tables[0].items():
        if row.metric.startswith("rho"):
            assert numbers(row) == numbers(tables[1][key])


def test_no_result_depends_on_the_batch_size():
    with seeded(0, "net"):
        net = CNN([1, 12, 12], 3, channels=(2,), kernel_size=3, widths=(5,)).double()
    g = generator(3)
    # 15 pairs: with very few, some resample is the sample again, and rounding decides on which side
    # of the estimate the bootstrap counts it.
    x = torch.rand(31, 1, 12, 12, dtype=torch.float64, generator=g)
    y = torch.randint(2, (31,), generator=g)
    at_once = measured(net, x, y, action=Rotations([45, 90]), batch_size=31)
    for batch_size in (1, 7):
        table = measured(net, x, y, action=Rotations([45, 90]), batch_size=batch_size)
        assert table.keys() == at_once.keys()
        for key, row in table.items():
            # Convolutions may sum in another order: some 10 roundings of 1e-16 among numbers near
            # 1, in distances of about .01.
            assert numbers(row) == pytest.approx(numbers(at_once[key]), rel=1e-12, abs=1e-12)


def test_rho_may_exceed_one():
    # Two images with one bright pixel each, in the same corner: 4 and 5, so 1 apart. A flip moves
    # them by 4 sqrt(2) and 5 sqrt(2).
    x = torch.zeros(2, 1, 2, 2)
    x[:, 0, 0, 0] = torch.tensor([4.0, 5.0])
    table = measured(chain(same=nn.Identity(), flat=nn.Flatten()), x, action=Flips())
    for element in ("", "horizontal", "vertical", "both"):
        assert rho(table, "same", element) == pytest.approx(4.5 * np.sqrt(2), rel=1e-14)


@pytest.mark.parametrize("action", [QUARTERS, Flips()])
def test_the_round_trip_of_an_exact_group_is_zero_in_every_layer(action):
    with seeded(0, "net"):
        net = CNN([1, 12, 12], 3, channels=(2,), kernel_size=3, widths=(5,))
    table = measured(net, torch.rand(6, 1, 12, 12, generator=generator(4)), action=action)
    trips = [row for row in table.values() if row.metric == "rho_round_trip"]
    assert len(trips) == 4 * 7  # the mean and three elements; the pixels and six layers
    assert all(numbers(row) == (0, 0, 0) for row in trips)


def test_the_round_trip_shows_what_resampling_costs():
    x = torch.rand(6, 1, 9, 9, generator=generator(5))
    table = measured(chain(same=nn.Identity(), flat=nn.Flatten()), x, action=Rotations([45, 90]))
    trip = {e: rho(table, "same", e, "rho_round_trip") for e in ("", "+45", "+90")}
    assert trip["+90"] == 0 < trip["+45"]
    assert trip[""] == pytest.approx(trip["+45"] / 2, rel=1e-14)
    assert trip["+45"] < rho(table, "same", "+45")


def test_the_round_trip_of_a_move_costs_only_what_left_the_frame():
    x = torch.zeros(4, 1, 6, 6)
    x[..., 1:5, 1:5] = whole(4, 1, 4, 4, seed=6)
    inside = measured(chain(same=nn.Identity(), flat=nn.Flatten()), x, action=Translations([1]))
    assert rho(inside, "same", metric="rho_round_trip") == 0 < rho(inside, "same")
    outside = measured(chain(same=nn.Identity(), flat=nn.Flatten()), x, action=Translations([2]))
    assert rho(outside, "same", metric="rho_round_trip") > 0


def test_what_enters_the_frame_is_the_background():
    x = torch.full((4, 1, 4, 4), -0.5)
    x[:, 0, 1, 1] = torch.tensor([1.0, 2, 3, 5])
    for background, invariant in ((-0.5, True), (0.0, False)):
        net = chain(mean=GlobalMean())
        table = measured(net, x, action=Translations([1]), background=background)
        assert (rho(table, "mean") == 0) == invariant
        assert (rho(table, "mean", metric="rho_untrained") == 0) == invariant
        assert (rho(table, "mean", metric="rho_round_trip") == 0) == invariant


def test_the_untrained_control_is_the_untrained_network():
    x = whole(9, 1, 4, 4)
    one, other = mapped(1), mapped(2)
    forth, back = measured(one, x, untrained=other), measured(other, x, untrained=one)
    for a, b in ((forth, back), (back, forth)):
        assert numbers(a["rho", "map", ""]) == numbers(b["rho_untrained", "map", ""])
    assert rho(forth, "map") != rho(back, "map")


def test_the_same_class_control_takes_both_images_from_one_class():
    # One image per class, six times over: inside a class nothing differs, whatever the pairs.
    classes = torch.tensor([0, 1, 2]).repeat(6)
    table = measured(mapped(), whole(3, 1, 4, 4)[classes], classes)
    row = table["rho_same_class_undefined", "map", ""]
    assert (row.estimate, row.n) == (1, 9)
    assert ("rho_same_class", "map", "") not in table
    assert rho(table, "map") > 0


def test_a_dead_layer_is_reported_and_has_no_ratio():
    dead = chain(flat=nn.Flatten(), map=linear(16, 3), silence=nn.ReLU(), output=linear(3, 2))
    dead.map.weight.data.zero_()
    table = measured(dead, whole(8, 1, 4, 4), untrained=mapped_deep())
    for site in ("map", "silence", "output"):
        found = {metric for metric, s, _ in table if s == site}
        assert found == {
            "rho_undefined",
            "rho_same_class_undefined",
            "rho_round_trip_undefined",
            "rho_untrained",
        }
        row = table["rho_undefined", site, ""]
        assert numbers(row) == (1, 1, 1) and row.n == 4
        assert "no two of these images apart" in row.note
    assert {metric for metric, site, _ in table if site == "flat"} >= {"rho", "rho_round_trip"}
    assert not any(m.endswith("undefined") for m, site, _ in table if site in ("flat", "pixels"))
    rows = records(table.values())
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def mapped_deep():
    return chain(flat=nn.Flatten(), map=linear(16, 3), silence=nn.ReLU(), output=linear(3, 2))


def test_a_dead_untrained_network_does_not_hide_the_trained_one():
    dead = mapped_deep()
    dead.output.weight.data.zero_()
    table = measured(mapped_deep(), whole(8, 1, 4, 4), untrained=dead)
    assert ("rho_untrained_undefined", "output", "") in table
    assert rho(table, "output") > 0


def test_accuracies_are_those_of_the_network_on_each_copy():
    g = generator(7)
    x, y = whole(12, 1, 4, 4, seed=8), torch.randint(3, (12,), generator=g)
    net = mapped()
    table = measured(net, x, y)
    hits = []
    for k, element in enumerate(["identity", "+90", "+180", "+270"]):
        copy = x.rot90(k, (-2, -1))
        right = [net(copy[i : i + 1]).argmax().item() == y[i].item() for i in range(12)]
        row = table["accuracy", "", element]
        expected = proportion(sum(right), 12)
        assert numbers(row) == (expected.estimate, expected.low, expected.high)
        assert row.n == 12
        hits.append(right)
    assert len({sum(right) for right in hits}) > 1  # otherwise copies could be confused
    row = table["accuracy", "", ""]
    assert row.estimate == pytest.approx(np.mean(hits[1:]), rel=1e-15)
    assert row.n == 12


def test_the_accuracy_over_copies_stays_a_probability():
    # 40 images, one of them wrong on one of its three copies (the one at which its bright corner is
    # at the bottom right): Student's interval would end at 1.008.
    x = torch.zeros(40, 1, 2, 2)
    x[0, 0, 0, 0] = 1
    net = chain(flat=nn.Flatten(), output=nn.Linear(4, 2))
    net.output.weight.data = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 2]])
    net.output.bias.data = torch.tensor([1.0, 0])
    x[1:, 0, 0, 0] = torch.arange(39) / 100  # so that the images differ
    row = measured(net, x)["accuracy", "", ""]
    assert row.estimate == pytest.approx(1 - 1 / 120, rel=1e-15)
    assert row.low < row.estimate < row.high <= 1


def test_the_unit_of_the_accuracy_over_copies_is_the_image():
    # Every copy of an image is right or wrong as the image is: 3 copies tell no more than one, and
    # the interval is that of 40 draws, not of 120, up to the Monte Carlo error of 1000 resamples.
    x = torch.ones(40, 1, 2, 2)
    x[:20] = -1
    net = chain(flat=nn.Flatten(), output=nn.Linear(4, 2, bias=False))
    net.output.weight.data = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    table = measured(net, x, n_boot=1000)
    over_copies, upright = table["accuracy", "", ""], table["accuracy", "", "identity"]
    assert over_copies.estimate == upright.estimate == 0.5
    width, expected = over_copies.high - over_copies.low, upright.high - upright.low
    assert 0.85 * expected < width < 1.2 * expected


# The defects of the original labs (notes/seeds.md §3.1).


def paired_with_the_first_batch(x, rotated, batch_size):
    """The original lab-04bis: a new iterator at every step, so always the first batch (its bug 2).

    The mean distance of each rotated image to the image it is compared with.
    """
    total = 0.0
    for batch in rotated.split(batch_size):
        first = next(iter(x.split(batch_size)))[: len(batch)]
        total += float((batch - first).flatten(1).norm(dim=1).sum())
    return total / len(x)


def test_every_image_meets_its_own_copy():
    # Images that are their own number everywhere: a rotation changes none, so any distance at all
    # is one between two different images.
    x = torch.arange(10.0)[:, None, None, None].expand(10, 1, 4, 4).contiguous()
    table = measured(chain(same=nn.Identity(), flat=nn.Flatten()), x, batch_size=4)
    for element in ("", "+90", "+180", "+270"):
        assert rho(table, "same", element) == 0
        assert rho(table, "same", "", "rho_untrained") == 0
        assert rho(table, "same", element, "rho_round_trip") == 0
    # The original's pairing: 4 apart for images 4 to 7, 8 apart for 8 and 9, on 16 pixels each.
    planted = paired_with_the_first_batch(x, x.rot90(1, (-2, -1)), batch_size=4)
    assert planted == pytest.approx(4 * (4 * 4 + 2 * 8) / 10, rel=1e-6)


def test_the_pairing_of_the_original_lab_hides_an_invariance_that_rho_shows():
    # A layer that is invariant but for 5 %: the planted pairing calls it as far as another image.
    x = 5 * torch.rand(30, 1, 4, 4, generator=generator(9))
    net = chain(nearly=Nearly())
    rotated = x.rot90(1, (-2, -1))
    outputs, moved = net(x), net(rotated)
    pairs = disjoint_pairs(30, generator(0, "probe pairs"))
    another = (outputs[pairs[:, 0]] - outputs[pairs[:, 1]]).flatten(1).norm(dim=1).mean().item()
    hidden = paired_with_the_first_batch(outputs, moved, batch_size=5) / another
    found = rho(measured(net, x, action=Rotations([90]), batch_size=5), "nearly")
    assert found < 0.25 < 0.6 < hidden


class Nearly(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) + 0.005 * x[:, :, 0, 0]


# Networks of every kind.


class Twice(nn.Module):
    """One nonlinearity, called twice in a forward."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = linear(16, 5), linear(5, 3, seed=2), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x.flatten(1)))))


def test_a_layer_that_is_called_twice_has_rows_for_each_call():
    twice = Twice()
    apart = chain(flat=nn.Flatten(), a=twice.first, r=nn.ReLU(), b=twice.second, s=nn.ReLU())
    x = whole(9, 1, 4, 4)
    table, expected = measured(twice, x), measured(apart, x)
    assert numbers(table["rho", "relu#0", "+90"]) == numbers(expected["rho", "r", "+90"])
    assert numbers(table["rho", "relu#1", "+90"]) == numbers(expected["rho", "s", "+90"])
    assert ("rho", "relu", "") not in table


def test_a_layer_that_works_in_place_does_not_change_the_one_before():
    def net(inplace):
        return chain(flat=nn.Flatten(), map=linear(16, 5), relu=nn.ReLU(inplace=inplace))

    x = whole(9, 1, 4, 4)
    tables = [measured(net(inplace), x) for inplace in (False, True)]
    assert {key: numbers(row) for key, row in tables[0].items()} == {
        key: numbers(row) for key, row in tables[1].items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_first_layer_that_works_in_place_changes_neither_pixels_nor_examples(dtype):
    x = whole(9, 1, 4, 4).to(dtype)
    before = x.clone()
    table = measured(chain(clip=nn.ReLU(inplace=True), out=GlobalMean()), x)
    assert torch.equal(x, before)
    expected = measured(chain(same=nn.Identity(), out=GlobalMean()), x)
    for element in ("", "+90", "+180", "+270"):
        pixels = numbers(expected["rho", "pixels", element])
        assert numbers(table["rho", "pixels", element]) == pixels
        assert numbers(table["rho", "clip", element]) != pixels


def test_the_network_and_the_random_state_are_left_as_they_were():
    net = chain(
        dropout=nn.Dropout(0.5), norm=nn.BatchNorm2d(1), flat=nn.Flatten(), out=linear(16, 2)
    ).train()
    net.norm.eval()  # frozen
    x = whole(9, 1, 4, 4)
    evaluated = measured(chain(flat=nn.Flatten(), out=linear(16, 2)), x)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    random_state = torch.get_rng_state()
    table = measured(net, x)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    # Without dropout, and with a running mean 0 and variance 1 (plus 1e-5), nothing else is left.
    assert rho(table, "out") == pytest.approx(rho(evaluated, "out"), rel=1e-6)


def test_the_mode_is_restored_when_the_network_fails():
    net = chain(flat=nn.Flatten(), map=linear(15, 3)).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measured(net, whole(4, 1, 4, 4))
    assert all(module.training for module in net.modules())


class Sum(nn.Module):
    def forward(self, x):
        return x.sum((1, 2, 3))


class SequenceFirst(nn.Module):
    def forward(self, x):
        return x.flatten(1).T


def test_a_layer_may_be_one_number_an_image():
    net = chain(sum=Sum(), out=nn.Unflatten(0, (-1, 1)))
    x = whole(6, 1, 4, 4)
    x[:, 0, 0, 0] += torch.arange(6.0)
    table = measured(net, x, action=Translations([1]))
    assert numbers(table["rho", "sum", ""]) == numbers(table["rho", "out", ""])


def test_a_layer_without_a_row_per_image_is_refused_by_name():
    net = chain(turned=SequenceFirst(), back=SequenceFirst())
    with pytest.raises(ValueError, match=r"turned gave \(16, 42\) for 42 images.*leave it out"):
        measured(net, whole(6, 1, 4, 4))


def test_a_layer_called_as_the_input_is_refused():
    with pytest.raises(ValueError, match=r"called 'pixels'.*rename"):
        measured(chain(pixels=nn.Identity()), whole(6, 1, 4, 4))


def test_only_the_layers_that_were_asked_for_are_measured_beside_the_pixels():
    table = measured(mapped_deep(), whole(6, 1, 4, 4), sites=["out*"])
    assert {site for _, site, _ in table} == {"", "pixels", "output"}
    with pytest.raises(UsageError, match="outptu"):
        measured(mapped_deep(), whole(6, 1, 4, 4), sites=["outptu"])


def test_the_sample_is_the_one_of_the_subject():
    x = whole(40, 1, 4, 4)
    y = torch.arange(40) % 2
    net = mapped()
    part = Subject(net, net, Examples(x, y), 0.0).sample(11)
    sampled, direct = measured(net, x, y, n_images=11), measured(net, part.x, part.y)
    assert sampled == direct
    assert {row.n for row in sampled.values()} >= {11, 5}
    assert measured(net, x, y, n_images=None)["accuracy", "", ""].n == 40


def test_each_row_says_whether_its_pixels_were_resampled():
    x = torch.rand(6, 1, 5, 5, generator=generator(10))
    table = measured(
        chain(same=nn.Identity(), flat=nn.Flatten()), x, action=Rotations([45, 90], "bilinear")
    )
    for metric in ("rho", "rho_round_trip"):
        notes = {e: table[metric, "same", e].note for e in ("", "+45", "+90")}
        assert notes == {
            "": "interpolation bilinear",
            "+45": "interpolation bilinear",
            "+90": "pixels move whole",
        }


def test_one_image_makes_no_pair():
    with pytest.raises(ValueError, match="1 images make no pair"):
        measured(mapped(), whole(1, 1, 4, 4))
