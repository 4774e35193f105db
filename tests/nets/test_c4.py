"""Group convolutions equal their definition and turn as they should; the network is invariant."""

import itertools

import pytest
import torch
from torch import nn

from udl_lab.nets.c4 import C4CNN, Lift, RegularConv, check_turns
from udl_lab.nets.geometry import Window
from udl_lab.randomness import generator, seeded

every_layer = pytest.mark.parametrize("layer", [Lift, RegularConv])


def build(kind, *args, whole=False, **kwargs):
    """In double precision; `whole` makes weights and biases small whole numbers: exact sums."""
    with seeded(0, "c4"):
        module = kind(*args, **kwargs).double()
    if whole:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(20).round_()
    return module


def images(*shape):
    return torch.randn(*shape, generator=generator(0, "images"), dtype=torch.float64)


def whole_numbers(*shape):
    return torch.randint(-5, 6, shape, generator=generator(0, "whole")).double()


def turned(x, element):
    return x.rot90(element, (-2, -1))


def acted(layer, x, element):
    """What `element` quarter turns do to the input of a layer: images turn, fields also permute."""
    x = turned(x, element)
    if isinstance(layer, Lift):
        return x
    n = x.shape[1] // 4
    order = [4 * c + (r - element) % 4 for c in range(n) for r in range(4)]
    return x[:, order]


def error(layer, x, element, permute=True):
    """The distance of layer(turned x) from the turned layer(x), relative to it."""
    after = turned(layer(x), element)
    if permute:
        after = after[:, layer.regular_permutation(element)]
    return (layer(acted(layer, x, element)) - after).norm() / after.norm()


def turn_place(row, column, turns):
    """A place, counted from the centre with rows downwards, after counter-clockwise turns."""
    for _ in range(turns % 4):
        row, column = -column, row
    return row, column


@pytest.mark.parametrize("kernel", [2, 3])
@every_layer
def test_a_group_convolution_is_the_sum_over_the_group_that_defines_it(layer, kernel):
    """[f * psi](x, r) = sum over k and h = (y, s) of f_k(h) psi_k(g^-1 h), loop by loop."""
    net = build(layer, 2, 2, kernel)
    orientations = 1 if layer is Lift else 4
    f = images(1, 2 * orientations, 4, 4)
    psi = net.weight.detach().reshape(2, 2, orientations, kernel, kernel)
    half = (kernel - 1) / 2
    side = 4 - kernel + 1
    expected = net.bias.detach().repeat_interleave(4)[:, None, None].repeat(1, side, side)
    for out, r, k, s in itertools.product(range(2), range(4), range(2), range(orientations)):
        for x, y in itertools.product(
            itertools.product(range(side), repeat=2), itertools.product(range(4), repeat=2)
        ):
            from_centre = (
                y[0] - x[0] - half,
                y[1] - x[1] - half,
            )  # y - x, x at its window's centre
            row, column = turn_place(*from_centre, -r)
            a, b = int(row + half), int(column + half)
            if 0 <= row + half < kernel and 0 <= column + half < kernel:
                filters = psi[out, k, (s - r) % orientations]
                value = f[0, k * orientations + s, *y]
                expected[out * 4 + r, *x] += value * filters[a, b]
    torch.testing.assert_close(net(f)[0], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (4, 1, 1), (3, 2, 0)])
@every_layer
def test_the_known_action_is_exact(layer, kernel, stride, padding):
    net = build(layer, 3, 2, kernel, stride, padding)
    lift = build(layer, 3, 2, kernel, stride, padding, whole=True)
    n = 3 if layer is Lift else 12
    for element in range(4):
        assert error(net, images(2, n, 9, 9), element) < 1e-12
        assert error(lift, whole_numbers(2, n, 9, 9), element) == 0  # bit for bit


@every_layer
def test_turning_the_pixels_alone_is_not_the_action(layer):
    net = build(layer, 3, 2, 3)
    x = images(2, 3 if layer is Lift else 12, 9, 9)
    for element in (1, 2, 3):
        assert error(net, x, element, permute=False) > 0.3


@every_layer
def test_the_permutations_form_the_cyclic_group_of_order_4(layer):
    net = build(layer, 3, 5, 3)
    once = net.regular_permutation(1)
    product = torch.arange(20)
    for element in range(8):
        assert torch.equal(net.regular_permutation(element), product)
        assert (element % 4 == 0) == torch.equal(product, torch.arange(20))
        product = product[once]


def test_the_geometries_that_turns_keep_are_those_of_the_rule():
    """Both ways, over 72 geometries: the layer's error vanishes exactly where the rule says."""
    kept = []
    for side, stride, kernel, padding in itertools.product(
        (27, 28, 29), (1, 2), (2, 3, 4, 5), (0, 1, 2)
    ):
        layer = build(Lift, 1, 1, kernel, stride, padding)
        holds = bool(error(layer, images(1, 1, side, side), 1) < 1e-12)
        assert holds == ((side + 2 * padding - kernel) % stride == 0)
        try:
            check_turns(side, {"layer": Window(kernel, stride, padding, padding)})
        except ValueError:
            assert not holds
        else:
            assert holds
        kept.append(holds)
    assert len(kept) == 72
    assert sum(kept) == 36 + 18


@pytest.mark.parametrize(("side", "holds"), [(28, False), (29, True), (30, False), (31, True)])
@every_layer
def test_stride_2_with_kernel_3_and_padding_1_holds_on_odd_sides_only(layer, side, holds):
    net = build(layer, 1, 4, 3, 2, 1)
    x = images(2, 1 if layer is Lift else 4, side, side)
    if holds:
        assert error(net, x, 1) < 1e-12
    else:
        assert error(net, x, 1) > 0.3
    settings = {"kernel_size": 3, "stride": 2, "padding": 1, "pool": None}
    if holds:
        C4CNN((1, side, side), 10, [4], **settings)
    else:
        near = f"{side - 1}, {side + 1}"
        with pytest.raises(
            ValueError, match=rf"blocks.0.convolution sees a side of {side} .*{near}"
        ):
            C4CNN((1, side, side), 10, [4], **settings)


NETS = [
    {},
    {"pooling": "average", "activation": "gelu"},
    {"pool": None, "kernel_size": [3, 5], "stride": [1, 2], "padding": "same", "side": 13},
    {"pool": 3, "kernel_size": [3, 2], "side": 14, "widths": [], "padding": 0},
]


@pytest.mark.parametrize("settings", NETS, ids=str)
def test_the_outputs_are_invariant_to_quarter_turns(settings):
    settings = {"side": 16, "kernel_size": 3, "padding": 1, "widths": [5]} | settings
    side = settings.pop("side")
    net = build(C4CNN, (2, side, side), 4, [3, 5], **settings)
    lift = build(C4CNN, (2, side, side), 4, [3, 5], **settings, whole=True)
    x, whole = images(6, 2, side, side), whole_numbers(6, 2, side, side)
    y = net(x)
    assert y.std(0).min() > 1e-5  # means of noise differ little, but far more than rounding
    for element in range(4):
        torch.testing.assert_close(net(turned(x, element)), y, rtol=0, atol=1e-12)
        if settings.get("activation") != "gelu":  # which leaves the whole numbers
            assert torch.equal(lift(turned(whole, element)), lift(whole))
    mirrored = net(x.flip(-1))
    assert (mirrored - y).abs().max() > 1e-5  # mirror images are not in the group


def test_every_site_turns_as_its_kind_does():
    """Blocks: pixels turn and orientations shift; after their pooling pixels turn; then nothing."""
    net = build(C4CNN, (1, 16, 16), 4, [3, 5], kernel_size=3, padding=1, widths=[5], whole=True)
    x = whole_numbers(2, 1, 16, 16)
    for element in (1, 2, 3):
        h, k = x, turned(x, element)
        for block in net.blocks:
            permutation = block.convolution.regular_permutation(element)
            for part in block:
                h, k = part(h), part(k)
                assert torch.equal(k, turned(h, element)[:, permutation])
        h, k = net.orientation_pool(h), net.orientation_pool(k)
        assert torch.equal(k, turned(h, element))
        assert torch.equal(net.global_pool(k), net.global_pool(h))


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_orientation_pool_reduces_the_four_maps_of_each_channel(pooling):
    net = build(C4CNN, (1, 8, 8), 2, [3], kernel_size=3, pooling=pooling)
    x = images(2, 12, 4, 4)
    for c in range(3):
        maps = x[:, 4 * c : 4 * c + 4]
        expected = maps.amax(1) if pooling == "max" else maps.mean(1)
        torch.testing.assert_close(net.orientation_pool(x)[:, c], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("channels", [[4], [12, 32], [3, 5, 7]])
@pytest.mark.parametrize("widths", [[], [84]])
def test_the_number_of_parameters_is_that_of_the_formula(channels, widths):
    """A filter for each pair of maps but one set for the four orientations of the output."""
    net = C4CNN((2, 32, 32), 10, channels, 5, widths=widths, pool=None)
    n = 2 * 25 * channels[0] + channels[0]
    for a, b in itertools.pairwise(channels):
        n += 4 * a * 25 * b + b
    for a, b in itertools.pairwise([channels[-1], *widths, 10]):
        n += a * b + b
    assert sum(p.numel() for p in net.parameters()) == n


def test_the_sites_have_the_names_that_the_recorder_is_told():
    sites = {f"blocks.{i}.{part}" for i in (0, 1) for part in ("convolution", "pool", "activation")}
    sites |= {"orientation_pool", "global_pool", "dense.0.linear", "dense.0.activation", "output"}
    assert sites <= set(dict(C4CNN((1, 28, 28), 10).named_modules()))


def test_he_weights_have_variance_2_over_all_maps_in_a_window():
    layer = build(C4CNN, (1, 8, 8), 2, [32, 64], 3, pool=None, init="he").blocks[1].convolution
    # A turned filter sees 32 channels of 4 orientations in 9 pixels: 73 728 weights.
    n = layer.weight.numel()
    assert n == 64 * 32 * 4 * 9
    ratio = layer.weight.square().mean() / (2 / (32 * 4 * 9))
    assert abs(ratio - 1) < 5 * (2 / n) ** 0.5
    assert not layer.bias.any()
    assert isinstance(layer, nn.Conv2d)  # which is how the schemes find it


def test_two_strided_stages_need_sides_of_4_k_plus_1():
    settings = {"kernel_size": 3, "stride": 2, "padding": 1, "pool": None}
    for side in range(20, 45):
        if side % 4 == 1:
            C4CNN((1, side, side), 2, [1, 1], **settings)
        else:
            with pytest.raises(ValueError, match="of side ") as refusal:
                C4CNN((1, side, side), 2, [1, 1], **settings)
            named = str(refusal.value).split("of side ")[1].split(", or")[0].split(", ")
            below = (side - 1) // 4 * 4 + 1
            assert [int(near) for near in named] == [below - 4, below, below + 4]


@pytest.mark.parametrize(
    ("in_shape", "settings", "message"),
    [
        ((1, 40), {}, r"no \(channels, side, side\)"),
        ((1, 28, 27), {}, r"no \(channels, side, side\)"),
        ((1, 12, 12), {}, "blocks.1.convolution leaves no pixel.*use smaller kernels"),
        ((1, 28, 28), {"kernel_size": 3}, r"blocks.1.pool sees a side of 11 .* 22, 26, 30"),
        ((1, 28, 28), {"kernel_size": [5, 4], "padding": "same"}, "4 is even"),
        ((1, 28, 28), {"stride": [1]}, "stride .* for 2 convolutions; give 2"),
        ((1, 28, 28), {"channels": []}, "leaves no group convolution; give one"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_remedy(in_shape, settings, message):
    with pytest.raises(ValueError, match=message):
        C4CNN(in_shape, 10, **settings)
