"""The denoiser for vectors is dense layers on the example, its level and its label."""

import pytest
import torch

from udl_lab.nets.embedding import fourier_features
from udl_lab.nets.time_mlp import TimeMLP
from udl_lab.randomness import generator, seeded

T = torch.tensor([0.01, 0.3, 0.5, 0.8, 1.0])


def build(*args, **kwargs):
    with seeded(0, "net"):
        return TimeMLP(*args, **kwargs)


def batch(*shape):
    return torch.randn(5, *shape, generator=generator(0, "batch"))


def test_the_output_is_matrix_products_on_example_and_features_and_label():
    net = build([2], width=6, depth=2, n_features=4, n_classes=3).double()
    x, t, y = batch(2).double(), T.double(), torch.tensor([0, 1, 2, 3, 0])
    label, *layers = net.parameters()
    h = torch.cat([x, fourier_features(t, 4), label[y]], dim=1)
    for weight, bias in zip(layers[0:-2:2], layers[1:-2:2], strict=True):
        h = h @ weight.T + bias
        h = h / (1 + (-h).exp())  # SiLU
    expected = h @ layers[-2].T + layers[-1]
    torch.testing.assert_close(net(x, t, y), expected, rtol=1e-12, atol=1e-12)


def test_its_size_is_that_of_the_recorded_runs():
    n_parameters = sum(p.numel() for p in build([1]).parameters())
    # One number and 16 features to 128 units, two layers of 128 to 128, and 128 to one number.
    assert n_parameters == (17 + 1) * 128 + 2 * (128 + 1) * 128 + (128 + 1) == 35_457


@pytest.mark.parametrize("in_shape", [(1,), (2,), (1, 40)])
def test_the_output_has_the_shape_of_the_input_or_several_of_it(in_shape):
    x = batch(*in_shape)
    assert build(in_shape)(x, T).shape == (5, *in_shape)
    assert build(in_shape, n_outputs=2)(x, T).shape == (5, 2, *in_shape)


def test_the_output_depends_on_the_level():
    net, x = build([2]), batch(2)
    changed = (net(x, T) != net(x, T.roll(1))).any(1)
    assert changed.all()


def test_the_output_depends_on_the_label_and_none_is_no_label():
    net, x = build([2], n_classes=3), batch(2)
    outputs = [net(x, T, torch.full((5,), label)) for label in range(4)]
    for i in range(4):
        for j in range(i):
            assert (outputs[i] != outputs[j]).any(1).all()
    assert torch.equal(net(x, T), outputs[3])


def test_levels_of_double_precision_leave_the_output_in_that_of_the_input():
    net, x = build([2], n_classes=3), batch(2)
    y = net(x, T.double())
    assert y.dtype == x.dtype
    # The angles in single precision round by at most 500 · 2^-23 = 6e-5.
    torch.testing.assert_close(y, net(x, T), rtol=0, atol=1e-4)


def test_an_odd_number_of_features_is_refused_when_it_is_built():
    with pytest.raises(ValueError, match="n_features 7 is odd; use 8"):
        build([1], n_features=7)


def test_labels_are_refused_by_a_network_without_them():
    with pytest.raises(ValueError, match="without labels"):
        build([2])(batch(2), T, torch.zeros(5, dtype=torch.long))


def test_the_sites_have_the_names_that_the_recorder_is_told():
    names = dict(build([1]).named_modules())
    for site in ("mlp.hidden.0.linear", "mlp.hidden.2.activation", "mlp.output"):
        assert site in names
