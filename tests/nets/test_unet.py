"""The U-Net follows its description, sees the whole example, and has the stated sizes."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from udl_lab.nets.time_mlp import TimeMLP
from udl_lab.nets.unet import Attention, ResidualBlock, UNet
from udl_lab.randomness import generator, seeded

T = torch.tensor([0.01, 0.4, 1.0])
SMALL = {"channels": (32, 64), "embedding": 128, "attention": True}
MEDIUM = {"channels": (64, 128), "embedding": 256, "attention": True}
SIGNALS = {"channels": (32, 64, 64), "embedding": 128}
TINY = {"channels": (4, 8), "groups": 2, "embedding": 8, "n_features": 4}


def build(*args, **kwargs):
    with seeded(0, "net"):
        return UNet(*args, **kwargs)


def batch(*shape, dtype=torch.float32):
    return torch.randn(3, *shape, generator=generator(0, "batch"), dtype=dtype)


def normalised(h, groups):
    """Every group of channels of every row with mean 0 and variance 1 (1e-5 is torch's own)."""
    rows = h.reshape(len(h), groups, -1)
    centred = rows - rows.mean(2, keepdim=True)
    return (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).reshape(h.shape)


def silu(h):
    return h / (1 + (-h).exp())


@pytest.mark.parametrize(("kind", "convolve"), [(nn.Conv1d, F.conv1d), (nn.Conv2d, F.conv2d)])
@pytest.mark.parametrize("n_out", [4, 6])
def test_a_block_adds_two_convolutions_with_the_level_s_scale_and_shift_between(
    kind, convolve, n_out
):
    with seeded(0, "block"):
        block = ResidualBlock(kind, 4, n_out, embedding=3, groups=2).double()
        nn.init.normal_(block.norm_in.weight)  # which begins at one, where its place is not seen
    sides = [6, 5][: 1 if kind is nn.Conv1d else 2]
    h, level = batch(4, *sides, dtype=torch.float64), batch(3, dtype=torch.float64)
    per_channel = [-1, *(1 for _ in sides)]

    weight, bias = block.norm_in.weight, block.norm_in.bias
    r = normalised(h, 2) * weight.view(per_channel) + bias.view(per_channel)
    r = convolve(silu(r), block.conv_in.weight, block.conv_in.bias, padding=1)
    w_and_b = level @ block.scale_shift.weight.T + block.scale_shift.bias
    w, b = (v.view(3, *per_channel) for v in (w_and_b[:, :n_out], w_and_b[:, n_out:]))
    r = normalised(r, 2) * (w + 1) + b
    r = convolve(silu(r), block.conv_out.weight, block.conv_out.bias, padding=1)
    kept = h if n_out == 4 else convolve(h, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(h, level), kept + r, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "sides"), [(nn.Conv1d, [6]), (nn.Conv2d, [3, 2])])
def test_attention_adds_to_each_pixel_a_mean_of_all_weighted_by_likeness(kind, sides):
    """Vaswani et al. 2017, eq. 1, pixel by pixel."""
    with seeded(0, "attention"):
        attention = Attention(kind, 4, groups=2).double()
        nn.init.normal_(attention.norm.weight)
    h = batch(4, *sides, dtype=torch.float64)
    three = attention.query_key_value
    pixels = (normalised(h, 2).flatten(2) * attention.norm.weight.view(4, 1)).mT
    query, key, value = (pixels @ three.weight.flatten(1).T + three.bias).split(4, dim=2)
    seen = torch.empty_like(pixels)
    for i in range(len(h)):
        for p in range(6):
            likeness = (key[i] @ query[i, p] / 4**0.5).exp()
            seen[i, p] = likeness @ value[i] / likeness.sum()
    added = seen @ attention.out.weight.flatten(1).T + attention.out.bias
    expected = h + added.mT.reshape(h.shape)
    torch.testing.assert_close(attention(h), expected, rtol=1e-10, atol=1e-10)


def test_attention_stands_after_the_coarsest_blocks():
    net, x = build((2, 16), **TINY, attention=True), batch(2, 16)
    seen = {}
    for name in ("middle", "attend"):
        hook = net.get_submodule(name).register_forward_hook
        hook(lambda _, given, out, name=name: seen.update({name: (given[0], out)}))
    net(x, T)
    assert seen["attend"][0] is seen["middle"][1]
    assert seen["attend"][0].shape == (3, 8, 4)
    assert not torch.equal(seen["attend"][0], seen["attend"][1])


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_the_blocks_are_joined_as_described(stem_stride):
    """The same signal network, with halving and doubling written as matrix products."""
    net = build((2, 16), **TINY, stem_stride=stem_stride, n_classes=3).double()
    x, t, y = batch(2, 16, dtype=torch.float64), T.double(), torch.tensor([0, 3, 1])
    level = net.condition(t, y)
    for i in (0, 2):
        level = silu(level @ net.embed[i].weight.T + net.embed[i].bias)
    h = net.stem(x)
    n = h.shape[2] // 2
    twice = torch.eye(n, dtype=x.dtype).repeat_interleave(2, dim=1)  # each sample stands twice
    fine = net.down[0][0](h, level)
    coarse = fine @ twice.T / 2
    coarse = net.middle[1](net.middle[0](coarse, level), level)
    # Narrowed after the doubling, as it is usually drawn.
    h = torch.cat([net.narrow[0](coarse @ twice), fine], dim=1)
    h = silu(normalised(net.up[0][0](h, level), 2))
    expected = F.conv_transpose1d(h, net.head.weight, net.head.bias, stem_stride, padding=1)
    torch.testing.assert_close(net(x, t, y), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("in_shape", "size", "n_parameters"),
    [
        ((1, 28, 28), SMALL, 274_401),
        ((1, 28, 28), MEDIUM, 1_075_137),
        ((1, 40), SIGNALS, 247_649),
    ],
)
def test_the_sizes_are_those_stated_in_the_configurations(in_shape, size, n_parameters):
    """Counted block by block, from the description."""
    stem, (first, *_) = 4 ** (len(in_shape) - 1), size["channels"]
    kernel, e = 3 ** (len(in_shape) - 1), size["embedding"]

    def block(a, b):
        convolutions = kernel * (a + b) * b + 2 * b + (a != b) * (a + 1) * b
        return 2 * a + convolutions + (e + 1) * 2 * b

    expected = (stem + 1) * first + 2 * first + stem * first + 1  # stem, last norm, head
    expected += (64 + 1) * e + (e + 1) * e
    before = first
    for c, coarser in zip(size["channels"], size["channels"][1:], strict=False):
        expected += block(before, c) + (coarser + 1) * c + block(2 * c, c)
        before = c
    coarse = size["channels"][-1]
    expected += block(before, coarse) + block(coarse, coarse)
    if size.get("attention"):
        expected += 2 * coarse + (coarse + 1) * 3 * coarse + (coarse + 1) * coarse
    found = sum(p.numel() for p in build(in_shape, **size).parameters())
    assert found == expected == n_parameters


def seen(net, in_shape):
    """Which pixels of an example the corner of the output depends on by convolutions alone."""
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm | Attention):  # they let every pixel see every other
                setattr(module, name, nn.Identity())
    x = batch(*in_shape, dtype=torch.float64)[:1].requires_grad_()
    net.double()(x, T[:1].double()).flatten()[0].backward()
    return x.grad != 0


@pytest.mark.parametrize(
    ("in_shape", "size"), [((1, 28, 28), SMALL), ((1, 28, 28), MEDIUM), ((1, 40), SIGNALS)]
)
def test_the_convolutions_alone_see_the_whole_example(in_shape, size):
    assert seen(build(in_shape, **size), in_shape).all()


def test_the_convolutions_of_one_resolution_see_their_neighbourhood():
    """Six convolutions of radius one: that of the stem, two in each of two blocks, and the head."""
    mask = seen(build((1, 28), channels=(8,), stem_stride=1), (1, 28))
    assert mask.flatten().tolist() == [True] * 7 + [False] * 21


@pytest.mark.parametrize(
    ("in_shape", "channels", "stem_stride"),
    [
        ((1, 28, 28), (8,), 1),
        ((1, 28, 28), (8, 8, 16), 1),  # 28, 14, 7
        ((1, 28, 28), (8, 16), 2),
        ((3, 8, 12), (8, 16), 2),
        ((1, 40), (8, 8, 16), 1),  # 40, 20, 10
        ((1, 40), (8, 8, 16), 2),
        ((2, 7), (8,), 1),
    ],
)
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_the_output_has_the_shape_of_the_input_or_several_of_it(
    in_shape, channels, stem_stride, n_blocks
):
    size = {"channels": channels, "stem_stride": stem_stride, "n_blocks": n_blocks}
    x = batch(*in_shape)
    assert build(in_shape, **size)(x, T).shape == x.shape
    assert build(in_shape, **size, n_outputs=2)(x, T).shape == (3, 2, *in_shape)


@pytest.mark.parametrize("n_blocks", [1, 3])
def test_every_resolution_has_its_blocks_and_the_coarsest_twice_as_many(n_blocks):
    net = build((1, 40), channels=(8, 8, 16), n_blocks=n_blocks)
    assert [len(blocks) for blocks in net.down] == [n_blocks] * 2
    assert [len(blocks) for blocks in net.up] == [n_blocks] * 2
    assert len(net.middle) == 2 * n_blocks


def test_the_output_depends_on_the_level():
    net, x = build((1, 8, 8), **TINY), batch(1, 8, 8)
    assert (net(x, T) != net(x, T.roll(1))).flatten(1).any(1).all()


def test_the_output_depends_on_the_label_and_none_is_no_label():
    net, x = build((1, 8, 8), **TINY, n_classes=3), batch(1, 8, 8)
    outputs = [net(x, T, torch.full((3,), label)) for label in range(4)]
    for i in range(4):
        for j in range(i):
            assert (outputs[i] != outputs[j]).flatten(1).any(1).all()
    assert torch.equal(net(x, T), outputs[3])


def test_levels_of_double_precision_leave_the_output_in_that_of_the_input():
    net, x = build((1, 8, 8), **TINY, n_classes=3), batch(1, 8, 8)
    y = net(x, T.double())
    assert y.dtype == x.dtype
    # The angles in single precision round by at most 500 · 2^-23 = 6e-5.
    torch.testing.assert_close(y, net(x, T), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"in_shape": (1, 30, 28)},
            "a side of 30 pixels does not divide by 4, .* fewer channels, or pad the sides to 32",
        ),
        (
            {"in_shape": (1, 28, 28), "channels": (8, 8, 8)},
            "a side of 28 pixels does not divide by 8, .* pad the sides to 32",
        ),
        ({"in_shape": (2,)}, "is no .channels, length.*net=time_mlp"),
        (
            {"in_shape": (1, 40), "channels": (20, 64)},
            "20 channels do not divide into 8 groups; use 24 channels, or 4 groups",
        ),
        ({"in_shape": (1, 40), "n_features": 5}, "n_features 5 is odd; use 6"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_remedy(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_labels_are_refused_by_a_network_without_them():
    with pytest.raises(ValueError, match="without labels"):
        build((1, 8, 8), **TINY)(batch(1, 8, 8), T, torch.zeros(3, dtype=torch.long))


def test_the_sites_have_the_names_that_the_recorder_is_told():
    names = dict(build((1, 8, 8), **TINY).named_modules())
    for site in ("stem", "down.0.0", "middle.1", "up.0.0", "head"):
        assert site in names


def test_both_denoisers_are_called_alike():
    calls = [inspect.signature(net.forward) for net in (UNet, TimeMLP)]
    assert list(calls[0].parameters) == list(calls[1].parameters) == ["self", "x", "t", "y"]
    assert UNet.takes_level and TimeMLP.takes_level
