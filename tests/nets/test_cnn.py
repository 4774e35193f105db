"""The convolutional network equals its formula in any memory layout, for any geometry."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from udl_lab.nets.cnn import CNN
from udl_lab.randomness import generator, seeded


def build(*args, **kwargs):
    with seeded(0, "net"):
        return CNN(*args, **kwargs)


def batch(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(0, "batch"), dtype=dtype)


def by_hand(net, x, stride=1, padding=0, pool=None, pool_stride=None, pool_last=False):
    """ReLU network in plain functions and the usual layout, from the parameters alone."""
    signal = x.ndim == 3
    convolve, max_pool = (F.conv1d, F.max_pool1d) if signal else (F.conv2d, F.max_pool2d)
    parameters = [p.contiguous() for p in net.parameters()]
    layers = list(zip(parameters[0::2], parameters[1::2], strict=True))
    n = len(net.blocks)
    for weight, bias in layers[:n]:
        x = convolve(x, weight, bias, stride=stride, padding=padding)
        if pool is not None and not pool_last:
            x = max_pool(x, pool, pool_stride or pool)
        x = x.clamp(min=0)
        if pool is not None and pool_last:
            x = max_pool(x, pool, pool_stride or pool)
    x = x.flatten(1)
    for weight, bias in layers[n:-1]:
        x = (x @ weight.T + bias).clamp(min=0)
    weight, bias = layers[-1]
    return x @ weight.T + bias


GEOMETRIES = [
    {"pool": 2},
    {"pool": 2, "pool_stride": 1},
    {"pool": 3, "pool_stride": 2, "padding": 1},
    {"pool": None, "stride": 2, "padding": 2},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("in_shape", [(3, 20, 17), (2, 40)])
def test_the_outputs_are_convolutions_and_products(in_shape, geometry):
    net = build(in_shape, 4, [5, 6], 3, widths=[8, 7], **geometry).double()
    x = batch(6, *in_shape, dtype=torch.float64)
    torch.testing.assert_close(net(x), by_hand(net, x, **geometry), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_memory_layout_changes_outputs_by_rounding_only(geometry):
    net = build((3, 20, 17), 4, [5, 6], 3, widths=[8, 7], **geometry)
    x = batch(6, 3, 20, 17)
    # Sums of up to 3 · 3 · 5 products of numbers around 1, in another order: 45 roundings of 2^-24.
    torch.testing.assert_close(net(x), by_hand(net, x, **geometry), rtol=0, atol=45 * 2**-24)
    assert net.blocks[0].convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_in_either_layout_gives_the_same_outputs():
    net = build((3, 20, 17), 4, [5, 6], 3)
    x = batch(6, 3, 20, 17)
    assert torch.equal(net(x.contiguous(memory_format=torch.channels_last)), net(x))


@pytest.mark.parametrize("geometry", GEOMETRIES[:3], ids=str)
@pytest.mark.parametrize("in_shape", [(3, 20, 17), (2, 40)])
def test_pooling_before_relu_is_exactly_pooling_after_it(in_shape, geometry):
    net = build(in_shape, 4, [5, 6], 3, **geometry)
    x = batch(6, *in_shape)
    before, after = (by_hand(net, x, **geometry, pool_last=last) for last in (False, True))
    assert torch.equal(before, after)
    assert (before != 0).any()


@pytest.mark.parametrize(
    ("in_shape", "settings", "n_parameters"),
    [
        ((1, 28, 28), {"pool_stride": 1}, 638_342),  # the JAX homework as it ran
        ((1, 28, 28), {}, 46_982),  # as its layout suggests
        (
            (1, 40),
            {
                "channels": [25, 25, 25],
                "kernel_size": [5, 3, 3],
                "stride": 2,
                "padding": 1,
                "pool": None,
                "widths": [],
            },
            5_210,  # mnist1d's CNN
        ),
    ],
)
def test_the_numbers_of_parameters_are_those_published(in_shape, settings, n_parameters):
    net = CNN(in_shape, 10, **settings)
    assert sum(p.numel() for p in net.parameters()) == n_parameters


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_network_is_built_exactly_where_torchs_own_layers_run(dimensions):
    """Two blocks over all small geometries; the dense layers then fit what the blocks leave."""
    convolve, max_pool = ((F.conv1d, F.max_pool1d), (F.conv2d, F.max_pool2d))[dimensions - 1]
    built = refused = 0
    for side, kernel, stride, padding, pool, pool_stride in itertools.product(
        (3, 4, 7, 10), (1, 2, 4), (1, 2, 3), (0, 2), (None, 2, 3), (None, 1)
    ):
        sides = (side,) if dimensions == 1 else (side, side + 1)
        weight = torch.zeros(1, 1, *[kernel] * dimensions)
        x = torch.zeros(1, 1, *sides)
        try:
            for _ in range(2):
                x = convolve(x, weight, stride=stride, padding=padding)
                x = x if pool is None else max_pool(x, pool, pool_stride or pool)
        except RuntimeError:
            with pytest.raises(ValueError, match="leaves no pixel"):
                CNN((1, *sides), 2, [1, 1], kernel, stride, padding, pool, pool_stride, [])
            refused += 1
        else:
            net = CNN((1, *sides), 2, [1, 1], kernel, stride, padding, pool, pool_stride, [])
            assert net.output.in_features == x.numel()
            assert net(torch.zeros(1, 1, *sides)).shape == (1, 2)
            built += 1
    assert built > 100
    assert refused > 100


def test_too_small_an_image_is_refused_with_the_block_and_a_remedy():
    with pytest.raises(ValueError, match=r"block 1 leaves no pixel.*use smaller kernels"):
        CNN((1, 12, 12), 10)


@pytest.mark.parametrize("name", ["kernel_size", "stride"])
@pytest.mark.parametrize("values", [[3], [3, 3, 3]])
def test_a_wrong_number_of_kernels_or_strides_is_refused(name, values):
    with pytest.raises(ValueError, match=f"{name} .* for 2 convolutions; give 2"):
        CNN((1, 28, 28), 10, [4, 4], **{name: values})


@pytest.mark.parametrize("in_shape", [(28,), (1, 2, 28, 28)])
def test_something_else_than_signals_and_images_is_refused(in_shape):
    with pytest.raises(ValueError, match=r"\(channels, length\) or \(channels, height, width\)"):
        CNN(in_shape, 10)


def test_one_kernel_for_each_convolution_is_used_in_order():
    net = CNN((1, 28, 28), 10, [4, 4], kernel_size=[5, 3], stride=[1, 2])
    assert [block.convolution.kernel_size[0] for block in net.blocks] == [5, 3]
    assert [block.convolution.stride[0] for block in net.blocks] == [1, 2]


def test_the_sites_have_the_names_that_the_recorder_is_told():
    names = dict(CNN((1, 28, 28), 10).named_modules())
    for site in ("blocks.0.convolution", "blocks.1.pool", "blocks.1.activation", "output"):
        assert site in names
    assert {"dense.0.linear", "dense.1.activation"} <= set(names)
    assert "blocks.0.pool" not in dict(CNN((1, 28, 28), 10, pool=None).named_modules())
