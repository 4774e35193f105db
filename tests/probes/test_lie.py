"""Lie derivatives in closed form, against finite differences, and what must not read as perfect."""

import math
import re
from collections import OrderedDict
from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.nets.cnn import CNN
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.flow import Direction, velocity
from udl_lab.probes.lie import LieDerivative, lie_derivative
from udl_lab.probes.pairing import disjoint_pairs
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.fourier import fourier_shift

N = 64


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def chain(**layers):
    return nn.Sequential(OrderedDict(layers)).double()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def sinusoid(m):
    """A row of 64 pixels with m cycles, with a phase that puts no pixel on a zero."""
    angle = 2 * torch.pi * m * torch.arange(N, dtype=torch.float64) / N + 0.3
    return angle.sin().expand(1, 1, 2, N).clone()


def band_limited(n, side, cycles, seed=0):
    """Images with random components of at most `cycles` along each side."""
    k = torch.fft.fftfreq(side, 1 / side).abs()
    keep = ((k[:, None] <= cycles) & (k <= cycles)).double()
    return torch.fft.ifft2(torch.fft.fft2(normal(n, 1, side, side, seed=seed)) * keep).real


def error(function, x, direction: Direction = "right", **options):
    """The Lie derivative of one function."""
    return lie_derivative(chain(f=Function(function)), x, "f", direction, **options)["f"].error


def rms(t):
    return float(t.square().mean().sqrt())


def test_the_identity_moves_along_exactly():
    for direction in ("right", "down", "rotation"):
        assert rms(error(lambda x: 1 * x, normal(2, 3, 8, 8), direction)) < 2e-16


@pytest.mark.parametrize("m", [5, 10, 15])
def test_a_square_without_aliasing_moves_along(m):
    # 2m < N/2. The terms are of size pi m / N, times 64 roundings in the transform.
    assert rms(error(torch.square, sinusoid(m))) < 1e-13


@pytest.mark.parametrize("m", [17, 20, 25])
def test_a_square_with_aliasing_errs_by_pi_over_root_two_whatever_the_frequency(m):
    # The component at 2m appears at 2m - N: its own derivative and the true one differ by
    # 2 pi / N · N · (1/2) cos, of RMS pi / sqrt(2).
    assert rms(error(torch.square, sinusoid(m))) == pytest.approx(2.221441469079183, abs=1e-12)


@pytest.mark.parametrize("m", [5, 10, 15, 17, 20, 25])
def test_a_relu_aliases_even_where_the_input_is_band_limited(m):
    assert rms(error(torch.relu, sinusoid(m))) > 0.05


@pytest.mark.parametrize(("direction", "axis"), [("right", -1), ("down", -2)])
def test_a_linear_functional_has_minus_its_product_with_the_derivative(direction, axis):
    x, w = normal(3, 1, 9, 12), normal(1, 9, 12, seed=1)
    n = x.shape[axis]
    # The derivative once more, as a matrix: of the Dirichlet kernel, without the Nyquist component.
    k = [k for k in range(-(n // 2), n // 2 + 1) if 2 * abs(k) < n]
    apart = np.subtract.outer(np.arange(n), np.arange(n))
    matrix = sum(-2 * math.pi * q / n * np.sin(2 * math.pi * q * apart / n) for q in k) / n
    slope = np.moveaxis(np.tensordot(matrix, x.numpy(), (1, x.ndim + axis)), 0, axis)
    found = error(lambda x: (x * w).sum((1, 2, 3)), x, direction)
    assert found.shape == (3,)
    expected = -(w.numpy() * slope).sum((1, 2, 3))
    assert found.numpy() == pytest.approx(expected, abs=1e-12)


def smooth_net(stride):
    with seeded(3, "net"):
        return chain(
            first=nn.Conv2d(1, 3, 3, padding=1),
            bend=nn.Tanh(),
            second=nn.Conv2d(3, 2, 4, stride=stride, padding=1, padding_mode="circular"),
            flat=nn.Flatten(),
            output=nn.LazyLinear(4, dtype=torch.float64),
        )


SITES = ["first", "bend", "second", "output"]


@pytest.mark.parametrize("direction", ["right", "down"])
def test_it_is_the_limit_of_finite_differences(direction):
    net, x = smooth_net(stride=2), normal(2, 1, 8, 8)
    net(x)
    exact = lie_derivative(net, x, SITES, direction)
    move = (1, 0) if direction == "right" else (0, 1)

    def shifted(grid, t):  # as a float64 tensor, so that t is not rounded to float32 on the way
        return fourier_shift(grid, *(torch.tensor(t * m, dtype=torch.float64) for m in move))

    def there_and_back(layer, t, stride):
        out = layer(shifted(x, t))
        return shifted(out, -t / stride) if out.ndim == 4 else out

    h = 1e-5  # truncation about 10 h² = 1e-9, rounding about 1e-15 / h = 1e-10
    for end, site, stride in [(1, "first", 1), (2, "bend", 1), (3, "second", 2), (5, "output", 1)]:
        difference = there_and_back(net[:end], h, stride) - there_and_back(net[:end], -h, stride)
        assert torch.allclose(exact[site].error, difference / (2 * h), atol=1e-8, rtol=0)
        assert rms(exact[site].error) > 0.01


def test_the_change_of_a_layer_is_the_directional_derivative_under_a_rotation():
    net, x = smooth_net(stride=2), normal(2, 1, 8, 8)
    net(x)
    # Truncation about |v|³ h² = 1e-9, rounding about 1e-15 / h = 1e-9.
    v, h = velocity(x, "rotation"), 1e-6
    found = lie_derivative(net, x, SITES, "rotation")
    for end, site in [(1, "first"), (2, "bend"), (3, "second"), (5, "output")]:
        difference = (net[:end](x + h * v) - net[:end](x - h * v)) / (2 * h)
        assert torch.allclose(found[site].changed, difference, atol=1e-8, rtol=0)


def blob(angle, side=64):
    """A round blob 6 pixels from the centre of the frame."""
    c = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    right, below = 6 * math.cos(angle), -6 * math.sin(angle)
    squared = (c - right) ** 2 + (c[:, None] - below) ** 2
    return (-squared / (2 * 2.5**2)).exp()[None, None]


def test_a_laplacian_is_equivariant_under_rotations_of_a_blob_and_a_slope_is_not():
    def blurred(x, power):  # isotropic and linear, by its transfer function
        k = 2 * torch.pi * torch.fft.fftfreq(64, dtype=torch.float64)
        return torch.fft.ifft2(torch.fft.fft2(x) * (-(k**2 + k[:, None] ** 2)) ** power).real

    x = blob(0.3)
    assert rms(error(partial(blurred, power=1), x, "rotation")) < 1e-10
    assert rms(error(lambda x: velocity(x, "right"), x, "rotation")) > 0.01


@pytest.mark.parametrize("direction", ["right", "down"])
def test_subsampling_moves_by_its_stride_if_nothing_aliases(direction):
    x = band_limited(2, 16, cycles=3)  # a map of 8 x 8 carries 3 cycles, and not 4
    every_second = partial(lambda x: x[..., ::2, ::2])
    assert rms(error(every_second, x, direction)) < 1e-14
    assert rms(error(every_second, x, direction, strides={"f": 2})) < 1e-14
    assert rms(error(every_second, x, direction, strides={"f": 1})) > 0.1
    assert rms(error(every_second, band_limited(2, 16, cycles=6), direction)) > 0.1


def test_a_rotation_needs_no_stride():
    flow = lie_derivative(
        nn.Sequential(nn.Conv2d(1, 1, 4).double()), normal(2, 1, 8, 8), "0", "rotation"
    )["0"]
    assert flow.spatial and flow.error.isfinite().all()


def test_a_global_mean_of_a_circular_convolution_does_not_change():
    net = chain(
        conv=nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"),
        mean=Function(lambda x: x.mean((2, 3))),
    )
    flows = lie_derivative(net, normal(2, 1, 8, 8), "*", "right")
    assert rms(flows["conv"].error) < 1e-15
    assert rms(flows["conv"].changed) > 0.1
    assert rms(flows["mean"].error) < 1e-16
    assert not flows["mean"].spatial


def test_after_a_cropped_map_sizes_tell_no_stride():
    net = chain(crop=nn.Conv2d(1, 1, 3), pool=nn.MaxPool2d(3))
    x = normal(2, 1, 8, 8)  # maps of 6, then 2, which alone would read as a stride of 4
    flows = lie_derivative(net, x, "*", "right")
    assert all("name it" in flow.reason for flow in flows.values())
    flows = lie_derivative(net, x, "*", "right", {"crop": 1, "pool": 3})
    assert [flow.note for flow in flows.values()] == ["stride 1, as given", "stride 3, as given"]
    carried = velocity(flows["pool"].value, "right") / 3
    assert torch.equal(flows["pool"].carried, carried)


def test_a_map_of_one_place_is_asked_to_be_invariant():
    net = chain(mean=nn.AdaptiveAvgPool2d(1))
    x = normal(4, 1, 8, 8)
    table = measured(net, x)
    assert set(table) == {("lie", "mean"), ("lie_untrained", "mean")}
    assert table["lie", "mean"].estimate < 1e-30


def test_zero_padding_is_seen():
    net = chain(conv=nn.Conv2d(1, 3, 3, padding=1))
    assert rms(lie_derivative(net, normal(2, 1, 8, 8), "*", "right")["conv"].error) > 0.01


def test_signals_move_to_the_right_only():
    net = chain(conv=nn.Conv1d(1, 2, 3, stride=2, padding=1, padding_mode="circular"))
    x = normal(3, 1, 40)
    flow = lie_derivative(net, x, "*", "right")["conv"]
    assert (flow.spatial, flow.note) == (True, "stride 2, from the sizes")
    for direction in ("down", "rotation"):
        with pytest.raises(ValueError, match="no motion of 1-dimensional maps"):
            lie_derivative(net, x, "*", direction)


def test_a_later_operation_in_place_changes_nothing():
    conv = nn.Conv2d(1, 2, 3, padding=1).double()
    flows = [
        lie_derivative(nn.Sequential(conv, nn.ReLU(inplace)), normal(2, 1, 6, 6), "*", "right")
        for inplace in (False, True)
    ]
    for site in ("0", "1"):
        for part in ("value", "changed", "carried"):
            assert torch.equal(getattr(flows[0][site], part), getattr(flows[1][site], part))
    assert not torch.equal(flows[1]["0"].value, flows[1]["1"].value)


# What has no Lie derivative.


def sample_grid(x):
    grid = nn.functional.affine_grid(torch.eye(2, 3).double().expand(len(x), 2, 3), x.shape, False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


UNSUPPORTED = {
    "detached": (lambda x: x.detach() * 2, "carries no derivative"),
    "whole": (lambda x: x.argmax(-1), "carries no derivative"),
    "rows": (lambda x: x[:, 0], r"layout \(6, 6\) is not that of the input"),
    "volume": (lambda x: x[..., None], r"layout \(1, 6, 6, 1\) is not that of the input"),
    "cropped": (lambda x: x[..., 1:5, 1:5], "sides 4 x 4 for an input of 6 x 6 tell no stride"),
    "narrow": (lambda x: x[..., ::2], "sides 6 x 3 for an input of 6 x 6 tell no stride"),
    "resampled": (sample_grid, "forward AD with grid_sampler_2d"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_layer_without_a_lie_derivative_is_nan_and_says_why(name):
    function, reason = UNSUPPORTED[name]
    net = chain(before=nn.Tanh(), odd=Function(function))
    x = normal(6, 1, 6, 6)
    rows = LieDerivative(n_boot=40)(Subject(net, net, Examples(x, torch.zeros(6).long()), 0.0))
    table = {(row.metric, row.site): row for row in rows}
    odd = table["lie", "odd"]
    assert all(map(math.isnan, (odd.estimate, odd.low, odd.high)))
    assert re.search(reason, odd.note)
    assert ("lie_share", "odd") not in table
    assert table["lie", "before"].estimate > 0


def test_layers_after_a_missing_derivative_are_reported_too():
    net = chain(odd=Function(sample_grid), after=nn.Tanh(), mean=Function(lambda x: x.mean((2, 3))))
    flows = lie_derivative(net, normal(4, 1, 6, 6), "*", "right")
    assert list(flows) == ["odd", "after", "mean"]
    assert all(flow.reason and flow.error.isnan().all() for flow in flows.values())


def test_a_layer_that_is_the_same_for_all_images_has_no_ratio():
    net = chain(dead=Function(lambda x: 0 * x))
    x = normal(4, 1, 6, 6)
    rows = LieDerivative(n_boot=40)(Subject(net, net, Examples(x, torch.zeros(4).long()), 0.0))
    assert all(math.isnan(row.estimate) and "is the same for all" in row.note for row in rows)


# The measurement.


def measured(net, x, untrained=None, **options):
    subject = Subject(net, untrained or net, Examples(x, torch.zeros(len(x)).long()), 0.0)
    rows = LieDerivative(**{"n_boot": 40, **options})(subject)
    table = {(row.metric, row.site): row for row in rows}
    assert len(table) == len(rows)
    return table


def numbers(row):
    return (row.estimate, row.low, row.high)


@pytest.mark.parametrize("direction", ["right", "down", "rotation"])
def test_the_rows_are_ratios_over_disjoint_pairs(direction):
    net, x = smooth_net(stride=2), normal(7, 1, 8, 8)
    net(x)
    table = measured(net, x, direction=direction, batch_size=2)
    pairs = disjoint_pairs(7, generator(0, "probe pairs")).tolist()
    for site, flow in lie_derivative(net, x, "*", direction).items():

        def squared(t, i):
            return float(t[i].square().sum())

        above = np.array([[squared(flow.error, i) + squared(flow.error, j)] for i, j in pairs])
        apart = np.array([squared(flow.value[[i]] - flow.value[[j]], 0) for i, j in pairs])
        motion = np.array(
            [
                sum(squared(p, i) for p in (flow.changed, flow.carried) for i in pair)
                for pair in pairs
            ]
        )
        for metric, below in [("lie", apart), ("lie_share", motion)]:
            if metric == "lie" or flow.spatial:
                [expected] = ratio_of_sums(above, below, n_boot=40)
                row = table[metric, site]
                assert numbers(row) == pytest.approx(numbers(expected), rel=1e-9)
                assert (row.n, row.element) == (3, direction)
    assert ("lie_share", "output") not in table


def test_the_share_lies_between_moving_along_and_moving_against():
    x = normal(6, 1, 8, 8)
    against = chain(mirror=Function(lambda x: x.flip(-1)))  # moves left as the image moves right
    table = measured(against, x)
    assert table["lie_share", "mirror"].estimate == pytest.approx(2, abs=1e-12)
    assert measured(chain(same=nn.Identity()), x)["lie_share", "same"].estimate < 1e-30
    table = measured(against, x, direction="down")
    assert table["lie_share", "mirror"].estimate < 1e-28


def test_the_ratios_depend_on_neither_scale_nor_shift_of_the_layer():
    x = normal(6, 1, 8, 8)
    tables = [
        measured(chain(f=Function(lambda x, a=a, b=b: a * torch.relu(x) + b)), x)
        for a, b in [(1, 0), (-8, 100)]
    ]
    for key, row in tables[0].items():
        # (100 + x) - 100 costs three digits of sixteen.
        assert numbers(row) == pytest.approx(numbers(tables[1][key]), rel=1e-11)


def test_no_result_depends_on_the_batch_size_and_the_network_stays_as_it_was():
    with seeded(0, "net"):
        net = CNN([1, 12, 12], 3, channels=(2,), kernel_size=3, padding=1, widths=(5,)).train()
        start = CNN([1, 12, 12], 3, channels=(2,), kernel_size=3, padding=1, widths=(5,))
    before = {name: p.clone() for name, p in net.state_dict().items()}
    x = normal(9, 1, 12, 12).float()
    tables = [measured(net, x, start, batch_size=b) for b in (1, 100)]
    assert {site for _, site in tables[0]} >= {"blocks.0.convolution", "blocks.0.pool", "output"}
    for key, row in tables[0].items():
        assert numbers(row) == pytest.approx(numbers(tables[1][key]), rel=1e-9)
        assert row.estimate > 0
    assert net.training and not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(before[name], p) for name, p in net.state_dict().items())
    untrained = measured(start, x)
    assert numbers(untrained["lie", "output"]) == numbers(tables[1]["lie_untrained", "output"])


# Mistakes.


def test_a_stride_of_an_unknown_site_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match="strides has 'smae', which is no site; did you mean 'same'"
    ):
        measured(chain(same=nn.Identity()), normal(4, 1, 4, 4), strides={"smae": 1})


def test_examples_without_sides_are_refused():
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"no sides to move|f64"):
        measured(chain(same=nn.Identity()), normal(4, 16))


def test_an_output_without_a_row_per_image_is_refused():
    with pytest.raises(ValueError, match=r"f gave \(4,\) for 2 inputs"):
        error(lambda x: x.sum((0, 1, 2)), normal(2, 1, 4, 4))


PARTS = ("convolution", "pool", "activation")


def test_the_strides_of_a_cropping_network_come_from_its_architecture():
    """From sizes alone, 28 to 24 to 12 pixels, the second layer's stride could not be told."""
    from udl_lab.nets.cnn import CNN
    from udl_lab.randomness import seeded

    with seeded(0, "net"):
        net = CNN([1, 28, 28], 3, channels=(2, 3), kernel_size=5, pool=2, widths=())
    x = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    subject = Subject(net, net, Examples(x, torch.zeros(6).long()), 0.0)
    rows = {(row.metric, row.site): row for row in LieDerivative(n_boot=40)(subject)}
    for site in ("blocks.0.convolution", "blocks.0.pool", "blocks.1.activation"):
        assert 0 < rows["lie_share", site].estimate < 2
    alone = LieDerivative(sites=["blocks.1.*"], n_boot=40)(subject)
    assert {row.site for row in alone} == {f"blocks.1.{part}" for part in PARTS}
