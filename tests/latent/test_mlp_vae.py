"""IWAE's networks have the published sizes and first values; mistakes are refused by name."""

import inspect
import math

import pytest
import torch
from torch import nn

from udl_lab.latent import bounds
from udl_lab.latent.mlp_vae import MLPVAE, LinearVAE, TwoLayerVAE
from udl_lab.randomness import generator, seeded


def pixels(*shape):
    """Zeros and ones, with a probability of its own for each pixel."""
    g = generator(0, "pixels")
    return (torch.rand(shape, generator=g) < torch.rand(shape[1:], generator=g)).float()


def build(cls, *args, **kwargs):
    with seeded(0, "net"):
        return cls(*args, **kwargs)


def sizes(net):
    return [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]


def test_one_layer_has_iwaes_widths():
    model = build(MLPVAE, [1, 28, 28], 50)
    assert sizes(model.encoder) == [(784, 200), (200, 200), (200, 100)]
    assert sizes(model.decoder) == [(50, 200), (200, 200), (200, 784)]


def test_two_layers_have_iwaes_widths():
    model = build(TwoLayerVAE, [1, 28, 28])
    assert sizes(model.encoder) == [(784, 200), (200, 200), (200, 200)]
    assert sizes(model.upper_encoder) == [(100, 100), (100, 100), (100, 100)]
    assert sizes(model.upper_decoder) == [(50, 100), (100, 100), (100, 200)]
    assert sizes(model.decoder) == [(100, 200), (200, 200), (200, 784)]
    assert model.n_noise == 150


def test_weights_are_glorot_uniform_and_mean_and_log_std_count_as_two_layers():
    model = build(MLPVAE, [784], 50)
    for weight, limit in [
        (model.encoder.hidden[0][0].weight, math.sqrt(6 / 984)),
        (model.encoder.output.weight[:50], math.sqrt(6 / 250)),
        (model.encoder.output.weight[50:], math.sqrt(6 / 250)),
        (model.decoder.output.weight, math.sqrt(6 / 984)),
    ]:
        # The largest of n uniform numbers falls short of the limit by about limit/n; n ≥ 10,000.
        assert limit * (1 - 1e-3) < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
    assert all((p == 0).all() for n, p in model.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize("cls", [MLPVAE, TwoLayerVAE])
def test_the_output_starts_at_the_mean_pixel(cls):
    x = pixels(200, 2, 3)
    model = build(cls, [2, 3], *([4] if cls is MLPVAE else [(4, 2)]), widths=(5,))
    model.start_at(x)
    mean = x.mean(0).flatten().clamp(0.001, 0.999)
    torch.testing.assert_close(model.decoder.output.bias.sigmoid(), mean)


def test_pseudo_inputs_start_at_the_first_examples_and_need_enough_of_them():
    x = pixels(9, 2, 3)
    model = build(MLPVAE, [2, 3], 2, (5,), prior="vamp", n_pseudo=4)
    model.start_at(x)
    assert torch.equal(model.prior.pseudo_inputs, x[:4])
    with pytest.raises(ValueError, match="3 examples for n_pseudo=4"):
        model.start_at(x[:3])


@pytest.mark.parametrize("prior", ["standard", "vamp"])
@pytest.mark.parametrize("head", ["bernoulli", "gaussian", "logistic"])
def test_every_head_and_prior_gives_a_finite_bound_that_moves_every_parameter(head, prior):
    model = build(MLPVAE, [2, 3], 2, (5,), head, prior=prior, n_pseudo=4)
    eps = torch.randn(3, 8, 2, generator=generator(0, "eps"))
    value = bounds.iwae(model.terms(pixels(8, 2, 3), eps).log_weights)
    value.sum().backward()
    assert value.isfinite().all()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


def test_the_linear_model_is_linear_with_one_spread_for_all_examples():
    model = build(LinearVAE, [2, 3], 2).double()
    g = generator(0, "x")
    x = torch.randn(4, 2, 3, generator=g, dtype=torch.float64)
    y = torch.randn(4, 2, 3, generator=g, dtype=torch.float64)
    middle = model.posterior((x + y) / 2)
    ends = model.posterior(x), model.posterior(y)
    torch.testing.assert_close(middle.mean, (ends[0].mean + ends[1].mean) / 2)
    assert torch.equal(middle.log_std, ends[0].log_std)
    # 6 × 2 + 2 means, 2 spreads, 2 × 6 + 6 outputs, 1 standard deviation
    assert sum(p.numel() for p in model.parameters()) == 14 + 2 + 18 + 1


@pytest.mark.parametrize("cls", [MLPVAE, LinearVAE])
def test_no_latents_is_an_error(cls):
    with pytest.raises(ValueError, match=r"latent=0.*use 1 or more"):
        cls([4], 0)


def test_two_layers_need_two_numbers_of_latents():
    with pytest.raises(ValueError, match=r"latents=\[4\]"):
        TwoLayerVAE([4], [4])
    with pytest.raises(ValueError, match="latent=0"):
        TwoLayerVAE([4], [4, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "vampp"}, "no prior 'vampp'; did you mean 'vamp'"),
        ({"head": "logistic", "soft_targets": True}, "soft_targets=True is of the Bernoulli head"),
    ],
)
def test_an_option_that_is_none_is_an_error_that_names_it(options, message):
    unchecked = inspect.unwrap(MLPVAE.__init__)  # as users call it, without the type checker
    with pytest.raises(ValueError, match=message):
        unchecked(MLPVAE.__new__(MLPVAE), [4], 2, (3,), **options)
