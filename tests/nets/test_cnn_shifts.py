"""What cyclic shifts of the input do to a convolutional network, exactly."""

import itertools

import pytest
import torch

from udl_lab.nets.cnn import CNN
from udl_lab.randomness import generator, seeded


def build(in_shape, whole=True, **settings):
    """Circular by default; weights and biases small whole numbers, so that sums are exact."""
    settings = {"kernel_size": 3, "padding": "same", "padding_mode": "circular"} | settings
    with seeded(0, "net"):
        net = CNN(in_shape, 4, [4, 3], **settings).double()
    if whole:
        with torch.no_grad():
            for parameter in net.blocks.parameters():
                parameter.mul_(10).round_()
    return net


def whole_numbers(*shape):
    return torch.randint(-5, 6, shape, generator=generator(0, "images")).double()


def relative(a, b):
    return (a - b).norm() / b.norm()


def test_circular_blocks_commute_with_every_shift_of_an_image_bit_for_bit():
    net = build((2, 5, 6), pool=None)
    x = whole_numbers(3, 2, 5, 6)
    maps = net.blocks(x)
    assert maps.any()
    for shift in itertools.product(range(5), range(6)):
        assert torch.equal(net.blocks(x.roll(shift, (2, 3))), maps.roll(shift, (2, 3)))


def test_circular_blocks_commute_with_all_40_shifts_of_a_signal_bit_for_bit():
    net = build((1, 40), kernel_size=[5, 3], pool=None)
    x = whole_numbers(3, 1, 40)
    for shift in range(40):
        assert torch.equal(net.blocks(x.roll(shift, 2)), net.blocks(x).roll(shift, 2))


def test_zero_padding_breaks_a_shift_by_one_pixel():
    """Whole numbers again, so any difference is structure; and it is no small one."""
    x = whole_numbers(3, 2, 9, 9)
    for mode, holds in (("circular", True), ("zeros", False)):
        net = build((2, 9, 9), pool=None, padding_mode=mode)
        maps = net.blocks(x).roll(1, 3)
        moved = net.blocks(x.roll(1, 3))
        assert torch.equal(moved, maps) == holds
        assert (relative(moved, maps) > 0.05) != holds


@pytest.mark.parametrize(
    "settings",
    [
        {"pool": 2, "pooling": "max"},
        {"pool": 2, "pooling": "average"},
        {"pool": None, "stride": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("in_shape", [(2, 8, 12), (1, 16)])
def test_strides_of_2_twice_keep_the_shifts_by_multiples_of_4(in_shape, settings):
    net = build(in_shape, **settings)
    x = whole_numbers(3, *in_shape)
    maps = net.blocks(x)
    for shift in range(1, 8):
        moved = net.blocks(x.roll(shift, 2))
        if shift % 4 == 0:
            assert torch.equal(moved, maps.roll(shift // 4, 2))
        else:
            assert not any(torch.equal(moved, maps.roll(s, 2)) for s in range(maps.shape[2]))


def test_a_global_pool_makes_the_outputs_invariant_to_every_shift_bit_for_bit():
    net = build((2, 5, 6), pool=None, global_pool=True)
    x = whole_numbers(3, 2, 5, 6)
    for shift in itertools.product(range(5), range(6)):
        assert torch.equal(net(x.roll(shift, (2, 3))), net(x))
    dense = build((2, 5, 6), pool=None)
    assert relative(dense(x.roll(1, 3)), dense(x)) > 0.01


def test_real_weights_keep_the_invariance_to_rounding():
    net = build((2, 5, 6), whole=False, pool=None, global_pool=True, activation="gelu")
    x = torch.randn(3, 2, 5, 6, generator=generator(0, "real"), dtype=torch.float64)
    # A thousand roundings of 2^-53 of numbers around 1 bound any sum here.
    torch.testing.assert_close(net(x.roll((2, 5), (2, 3))), net(x), rtol=0, atol=1000 * 2**-53)


@pytest.mark.parametrize("in_shape", [(2, 8, 9), (2, 20)])
def test_a_circular_convolution_is_the_sum_with_wrapped_indices(in_shape):
    net = build(in_shape, whole=False, kernel_size=5, pool=None)
    layer = net.blocks[0].convolution
    x = torch.randn(3, *in_shape, generator=generator(0, "wrapped"), dtype=torch.float64)
    axes = range(2, x.ndim)
    expected = layer.bias.reshape(-1, *[1] * len(axes)).expand(4, *in_shape[1:]).clone()[None]
    for offset in itertools.product(range(5), repeat=len(axes)):
        pixels = x.roll([2 - o for o in offset], list(axes))  # pixel p + offset - 2, wrapped
        weight = layer.weight[(slice(None), slice(None), *offset)]
        expected = expected + torch.einsum("oc,bc...->bo...", weight, pixels)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_global_pool_is_the_mean_of_each_map_and_average_pooling_of_each_window():
    net = build((2, 8, 8), whole=False, pool=2, pooling="average", global_pool=True, widths=[])
    x = torch.randn(3, 2, 8, 8, generator=generator(0, "mean"), dtype=torch.float64)
    h = x
    for block in net.blocks:
        h = block.convolution(h)
        h = (h[..., ::2, :] + h[..., 1::2, :]) / 2
        h = ((h[..., ::2] + h[..., 1::2]) / 2).clamp(min=0)
    y = h.mean((2, 3)) @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), y, rtol=0, atol=1e-13)
    assert {"blocks.0.pool", "global_pool"} <= set(dict(net.named_modules()))
    assert "global_pool" not in dict(CNN((1, 28, 28), 10).named_modules())


@pytest.mark.parametrize("in_shape", [(1, 9, 7), (1, 9)])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_same_keeps_the_sides_over_the_stride_rounded_up(in_shape, stride):
    net = CNN(in_shape, 2, [1, 1], [5, 3], stride, "same", pool=None)
    maps = net.blocks(torch.zeros(1, *in_shape))
    assert maps.shape[2:] == tuple(-(-side // stride**2) for side in in_shape[1:])


def test_padding_same_with_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="4 is even; use a kernel of 3 or 5"):
        CNN((1, 28, 28), 10, kernel_size=4, padding="same")


@pytest.mark.parametrize("in_shape", [(1, 3, 5), (1, 3)])
def test_circular_padding_is_refused_exactly_where_torch_cannot_wrap(in_shape):
    def net(padding):
        return CNN(in_shape, 2, [1], 3, 1, padding, None, padding_mode="circular")

    x = torch.zeros(1, *in_shape)
    assert net(3)(x).shape == (1, 2)
    with pytest.raises(ValueError, match=r"blocks.0.* sees a side of 3 .* by 4 would wrap"):
        net(4)
    with pytest.raises(RuntimeError, match="wrapping around more than once"):
        torch.nn.functional.pad(x, [4] * 2 * (len(in_shape) - 1), mode="circular")
