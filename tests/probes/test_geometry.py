"""Strides, fields and interiors against what gradients and shifted inputs show."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from udl_lab.activations.recorder import activations
from udl_lab.nets.cnn import CNN
from udl_lab.probes.geometry import geometry, trace
from udl_lab.probes.windows import Geometry
from udl_lab.randomness import generator, seeded


def chain(**layers):
    return nn.Sequential(OrderedDict(layers)).double()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def positive(net):
    """Positive weights, so that no gradient cancels and no ReLU is off."""
    for i, weight in enumerate(net.parameters()):
        weight.data = normal(*weight.shape, seed=i).abs() + 0.1
    return net


def stack():
    with seeded(0):
        return chain(
            a=nn.Conv2d(1, 3, (3, 5), padding=(1, 0)),
            act=nn.ReLU(inplace=True),
            pool=nn.AvgPool2d(2),
            b=nn.Conv2d(3, 2, 3, stride=2, dilation=2),
        )


def test_a_stack_has_the_geometry_worked_out_by_hand():
    found = geometry(stack(), (1, 21, 24))
    assert list(found) == ["a", "act", "pool", "b"]
    assert found["a"].shape == found["act"].shape == (3, 21, 20)
    assert (found["a"].stride, found["a"].receptive_field) == ((1, 1), (3, 5))
    assert (found["a"].start, found["a"].padded) == ((0, 2), (True, False))
    assert found["act"] == found["a"]
    assert (found["pool"].shape, found["pool"].stride) == ((3, 10, 10), (2, 2))
    assert (found["pool"].receptive_field, found["pool"].start) == ((4, 6), (0.5, 2.5))
    # A dilated kernel of 3 spans 5 places, which are 2 pixels apart: 4 + 8 and 6 + 8 pixels.
    assert (found["b"].shape, found["b"].stride) == ((2, 3, 3), (4, 4))
    assert (found["b"].receptive_field, found["b"].start) == ((12, 14), (4.5, 6.5))
    assert all(place.spatial and place.known for place in found.values())


def seen_by(net, in_shape, site, place):
    """First and last input pixel per axis that have a gradient at one place of a layer."""
    x = torch.ones(1, *in_shape, dtype=torch.float64, requires_grad=True)
    kept = {}
    layer = net.get_submodule(site)
    hook = layer.register_forward_hook(lambda m, i, o: kept.update(o=o.clone()))
    net(x)
    hook.remove()
    gradient = torch.autograd.grad(kept["o"][0, :, *place].sum(), x)[0]
    return [(int(a.min()), int(a.max())) for a in gradient[0].abs().sum(0).nonzero().T]


@pytest.mark.parametrize("site", ["a", "pool", "b"])
def test_the_receptive_field_is_where_the_gradient_is(site):
    net, shape = positive(stack()), (1, 21, 24)
    g = geometry(net, shape)[site]
    for place in [(1, 1), (2, 1)]:
        centres = [x + j * s for x, j, s in zip(g.start, place, g.stride, strict=True)]
        half = [(field - 1) / 2 for field in g.receptive_field]
        expected = [
            (max(0, c - h), min(side - 1, c + h))
            for c, h, side in zip(centres, half, g.frame, strict=True)
        ]
        assert seen_by(net, shape, site, place) == expected


def padded_net(padding_mode, rank=2):
    convolution, pool = [(nn.Conv1d, nn.MaxPool1d), (nn.Conv2d, nn.MaxPool2d)][rank - 1]
    with seeded(1):
        return chain(
            a=convolution(1, 3, 3, padding=1, padding_mode=padding_mode),
            act=nn.Tanh(),
            pool=pool(2),
            b=convolution(3, 4, 3, padding=1, padding_mode=padding_mode),
        )


@pytest.mark.parametrize("padding_mode", ["zeros", "circular", "reflect"])
@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (-2, 4), (4, -6)])
def test_the_interior_of_a_zero_fill_shift_is_the_largest_on_which_the_layer_shifts(
    padding_mode, shift
):
    net, (down, right) = padded_net(padding_mode), shift
    x = normal(2, 1, 18, 20)
    # The same move on an endless input, of which two frames are seen: no border is met inside.
    moved = F.pad(x, (right, -right, down, -down), value=7.0)
    here, there = (activations(net, images, sites="*") for images in (x, moved))
    for site, g in geometry(net, (1, 18, 20)).items():
        if any(pixels % s for pixels, s in zip(shift, g.stride, strict=True)):
            continue
        steps = tuple(pixels // s for pixels, s in zip(shift, g.stride, strict=True))
        error = (there[site] - here[site].roll(steps, (-2, -1))).abs().amax((0, 1))
        rows, columns = g.interior(shift)
        assert rows.stop > rows.start and columns.stop > columns.start
        # Rounding: sums of 27 products of numbers around 1, in another order at most.
        assert error[rows, columns].max() < 1e-13
        for axis, part in ((0, rows), (1, columns)):
            # One row or column further the padding or the entering pixels are seen.
            if shift[axis] and part.start > 0:
                assert error.movedim(axis, 0)[part.start - 1].max() > 1e-3
            if shift[axis] and part.stop < g.sides[axis]:
                assert error.movedim(axis, 0)[part.stop].max() > 1e-3


def test_no_place_is_interior_where_the_receptive_field_is_as_large_as_the_frame():
    net = chain(a=nn.Conv1d(1, 1, 5, padding=2))
    assert geometry(net, (1, 6))["a"].interior((0,)) == (slice(2, 4),)
    assert geometry(net, (1, 6))["a"].interior((1,)) == (slice(3, 4),)
    assert geometry(net, (1, 6))["a"].interior((2,)) == (slice(0, 0),)


def test_a_shift_that_is_no_multiple_of_the_stride_has_no_interior():
    place = geometry(padded_net("zeros"), (1, 8, 8))["b"]
    with pytest.raises(ValueError, match="use a multiple of 2"):
        place.interior((0, 3))
    flat = geometry(chain(flat=nn.Flatten()), (1, 8, 8))["flat"]
    with pytest.raises(ValueError, match="no interior: it has no map"):
        flat.interior((0, 0))


def test_flattened_and_globally_pooled_layers_have_no_map():
    net = CNN((1, 12, 12), 3, kernel_size=3, global_pool=True, widths=(5,))
    found = geometry(net, (1, 12, 12))
    assert found["blocks.1.activation"].spatial
    assert found["blocks.1.activation"].stride == (4, 4)
    for site in ("global_pool", "dense.0.linear", "dense.0.activation", "output"):
        assert found[site].known and not found[site].spatial and found[site].stride == ()
    assert found["output"].shape == (3,)


class Functional(nn.Module):
    """A network whose pieces between layers are given as a function."""

    def __init__(self, between, rank=2):
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d)[rank - 1]
        self.a = convolution(1, 4, 3)
        self.between = between
        self.last = nn.Identity()

    def forward(self, x):
        return self.last(self.between(self.a(x)))


@pytest.mark.parametrize(
    ("between", "spatial"),
    [
        (torch.relu, True),
        (lambda x: F.gelu(x).square().clamp(min=0.1), True),
        (lambda x: x.contiguous(memory_format=torch.channels_last), True),
        (lambda x: x.view(2, 2, 2, 6, 6).amax(2), True),  # over a group of channels
        (lambda x: x.flatten(1), False),
        (lambda x: x.contiguous(memory_format=torch.channels_last).flatten(1), False),
        (lambda x: x.mean((2, 3)), False),
        (lambda x: x.amax((-1, -2), keepdim=True), False),
        (lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), False),
    ],
)
def test_functions_between_layers_are_followed(between, spatial):
    found = geometry(Functional(between), (1, 8, 8))["last"]
    assert found.known and found.spatial == spatial
    assert found.receptive_field == ((3, 3) if spatial else ())


@pytest.mark.parametrize(
    ("between", "named"),
    [
        (lambda x: x + x.flip(-1), "AddBackward0"),
        (lambda x: x.flip(-1), "FlipBackward0"),
        (lambda x: x.roll(1, -1), "RollBackward0"),
        (lambda x: x.transpose(-1, -2), "TransposeBackward0"),
        (lambda x: F.pad(x, (1, 1, 1, 1)), "ConstantPadNd"),
        (lambda x: x.mean((1, 2)), "MeanBackward1"),
        (lambda x: x.reshape(2, 4, 4, 9), "ViewBackward0"),
        (lambda x: x.detach(), "without a derivative"),
    ],
)
def test_what_is_not_understood_is_unknown_with_the_operation_named(between, named):
    net = nn.Sequential(Functional(between), nn.Tanh())
    found = geometry(net, (1, 8, 8))
    assert found["0.a"].known
    assert not found["0.last"].known and named in found["0.last"].reason
    assert not found["0.last"].spatial and found["0.last"].stride == ()
    assert "0.last" in found["1"].reason and named in found["1"].reason


def test_a_signal_of_one_channel_is_flattened_though_its_shape_stays():
    found = geometry(nn.Sequential(nn.Flatten(), nn.Linear(40, 3)), (1, 40))
    assert not found["0"].spatial and found["1"].known


def test_branches_are_followed_each_to_its_own_source():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 3)
            self.joined = nn.Identity()

        def forward(self, x):
            wide, narrow = self.wide(x), self.narrow(x)
            return self.joined(wide + narrow[..., 1:-1, 1:-1])

    found = geometry(Branches(), (1, 9, 9))
    assert found["wide"].receptive_field == (5, 5)
    assert found["narrow"].receptive_field == (3, 3)
    assert "AddBackward0" in found["joined"].reason


class Opaque(nn.Module):
    """A convolution that torch does not know as one; by its attributes it can be followed."""

    def __init__(self, **attributes):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 3, 3))
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return F.conv2d(x, self.weight, stride=2, padding=1)


def test_a_users_module_is_followed_by_its_attributes_if_they_are_true():
    found = geometry(Opaque(kernel_size=3, stride=(2, 2), padding=1), (1, 9, 9))["."]
    assert (found.stride, found.receptive_field, found.start) == ((2, 2), (3, 3), (0, 0))
    wrong = geometry(Opaque(kernel_size=3, stride=(2, 2)), (1, 9, 9))["."]
    assert wrong.reason == "it gives (1, 5, 5), and its windows would leave sides of (4, 4)"
    assert not geometry(Opaque(), (1, 9, 9))["."].known


# torch warns, once per process, that it has to copy the input.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_padding_of_an_even_kernel_lies_at_the_end():
    net = chain(a=nn.Conv1d(1, 1, 4, padding="same"))
    [layer] = trace(net, (1, 9))
    window = layer.steps[0][0].windows[0]
    assert (window.before, window.after) == (1, 2)
    assert seen_by(positive(net), (1, 9), "a", (4,)) == [(3, 6)]


@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_may_leave_a_remainder_or_cover_it(ceil):
    found = geometry(chain(pool=nn.MaxPool2d(2, ceil_mode=ceil)), (1, 7, 8))["pool"]
    assert found.shape == ((1, 4, 4) if ceil else (1, 3, 4))
    rows, columns = found.interior((0, 0))
    assert (rows, columns) == (slice(0, 3), slice(0, 4))  # a window over the border is no interior


def test_a_module_called_twice_has_two_sites_as_the_recorder_names_them():
    act = nn.Tanh()
    net = nn.Sequential(act, nn.Conv1d(1, 2, 3), act)
    x = normal(1, 1, 8).float()
    assert list(geometry(net, (1, 8))) == list(activations(net, x, sites="*"))
    assert list(geometry(net, (1, 8))) == ["0#0", "1", "0#1"]
    assert geometry(net, (1, 8))["0#1"].receptive_field == (3,)


def test_looking_leaves_no_trace():
    net = chain(a=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), drop=nn.Dropout())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        geometry(net, (1, 6, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(RuntimeError):
        geometry(net, (3, 6, 6))
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_an_example_of_one_axis_is_no_map():
    found = geometry(nn.Sequential(nn.Linear(3, 2)), (3,))["0"]
    assert isinstance(found, Geometry) and "one axis" in found.reason
