"""The estimators of the bound's gradient, against autograd by hand and against each other."""

import pytest
import torch

from udl_lab.latent import bounds
from udl_lab.latent.gradients import ESTIMATORS, dreg, iwae, stl
from udl_lab.latent.heads import Gaussian
from udl_lab.latent.mlp_vae import LinearEncoder, LinearVAE, TwoLayerVAE
from udl_lab.latent.model import HierarchicalModel
from udl_lab.latent.priors import StandardNormal
from udl_lab.randomness import generator, seeded


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "gradients", stream), dtype=torch.float64)


def randomised(model):
    g = generator(0, "parameters")
    for p in model.parameters():
        p.data.copy_(0.5 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def one_layer():
    return randomised(LinearVAE([3], 2).double())


def two_layers():
    """A linear chain h2 - h1 - x with a wrong posterior."""
    return randomised(
        HierarchicalModel(
            LinearEncoder(3, 2),
            LinearEncoder(2, 1),
            torch.nn.Linear(2, 3),
            LinearEncoder(1, 2),
            2,
            StandardNormal(1),
            Gaussian(),
        ).double()
    )


def encoder_of(model):
    return {n: p for n, p in model.named_parameters() if "encoder" in n}


def gradient(model, value, names=None):
    parameters = dict(model.named_parameters())
    names = names or list(parameters)
    found = torch.autograd.grad(value, [parameters[n] for n in names], retain_graph=True)
    return dict(zip(names, found, strict=True))


def blocks(model, estimator, k, n_blocks=100, rows=100):
    """The encoder's gradient for one x, averaged over 100 draws, 100 times: 1e4 draws in all."""
    names = list(encoder_of(model))
    x = draw(1, 3, stream="x").expand(rows, 3)
    found = []
    for i in range(n_blocks):
        eps = draw(k, rows, model.n_noise, stream=f"eps {i}")
        each = gradient(model, estimator(model, x, eps).value.mean(), names)
        found.append(torch.cat([g.flatten() for g in each.values()]))
    return torch.stack(found)


def in_standard_errors(differences):
    """How far each mean is from 0, in its standard errors; constants at 0 are 0 of them."""
    error = differences.std(0) / len(differences) ** 0.5
    return (differences.mean(0).abs() / error.clamp(min=1e-300)).max().item()


models = pytest.mark.parametrize("build", [one_layer, two_layers])


@models
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_value_of_every_estimator_is_the_bound(build, name):
    model = build()
    x, eps = draw(4, 3, stream="x"), draw(5, 4, model.n_noise, stream="eps")
    bound = ESTIMATORS[name](model, x, eps)
    expected = bounds.iwae(model.terms(x, eps).log_weights)
    torch.testing.assert_close(bound.value, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(bounds.iwae(bound.terms.log_weights), bound.value)


@models
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_samples_gradient_counts_by_its_weight(build, name):
    """Σ_i w̃_i ∇ log w_i, sample by sample; inverted weights would give the worst one the most.

    For the decoder's parameters it is the very number for all three estimators.
    """
    model = build()
    x, eps = draw(1, 3, stream="x"), draw(4, 1, model.n_noise, stream="eps")
    names = [n for n in dict(model.named_parameters()) if "encoder" not in n]
    log_weights = model.terms(x, eps).log_weights[:, 0]
    share = (log_weights.exp() / log_weights.exp().sum()).tolist()
    assert max(share) > 2 * min(share)
    each = [gradient(model, w, names) for w in log_weights]
    found = gradient(model, ESTIMATORS[name](model, x, eps).value.sum(), names)
    for n in names:
        expected = sum(s * g[n] for s, g in zip(share, each, strict=True))
        torch.testing.assert_close(found[n], expected, rtol=1e-11, atol=1e-12)


@models
def test_the_plain_gradient_is_the_derivative_of_the_bound(build):
    """By central differences of step 1e-6, whose error is about 1e-10."""
    model = build()
    x, eps = draw(2, 3, stream="x"), draw(3, 2, model.n_noise, stream="eps")
    found = gradient(model, iwae(model, x, eps).value.sum())
    for name, p in model.named_parameters():
        flat = p.data.view(-1)
        for i in range(len(flat)):
            kept = flat[i].item()
            ends = []
            for step in (1e-6, -1e-6):
                flat[i] = kept + step
                ends.append(bounds.iwae(model.terms(x, eps).log_weights).sum().item())
            flat[i] = kept
            expected = (ends[0] - ends[1]) / 2e-6
            assert found[name].view(-1)[i].item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_dreg_is_its_formula_term_by_term():
    """Tucker et al. 2019, eq. 8: Σ w̃_i² ∂log w_i/∂z_i ∂z_i/∂φ, with z = μ + σ ε by hand."""
    model = one_layer()
    x, eps = draw(1, 3, stream="x"), draw(4, 1, 2, stream="eps")
    q = model.posterior(x)
    z = q.sample(eps).detach().requires_grad_()
    log_weights = model.log_joint(x, z) - q.detach().log_prob(z)
    (by_z,) = torch.autograd.grad(log_weights.sum(), z)
    share = log_weights.detach().softmax(0).unsqueeze(-1)
    for power, estimator in [(2, dreg), (1, stl)]:
        by_mean = (share**power * by_z).sum((0, 1))
        by_log_std = (share**power * by_z * eps * q.log_std.exp()).sum((0, 1))
        found = gradient(model, estimator(model, x, eps).value.sum(), list(encoder_of(model)))
        torch.testing.assert_close(found["encoder.mean.bias"], by_mean)
        torch.testing.assert_close(found["encoder.log_std"], by_log_std)
        torch.testing.assert_close(found["encoder.mean.weight"], by_mean[:, None] * x)


def test_dreg_of_two_layers_is_its_formula_for_both_layers_at_once():
    """With z = (h1, h2) as one vector, and ∂z/∂φ by autograd through the sampling alone."""
    model = two_layers()
    x, eps = draw(1, 3, stream="x"), draw(4, 1, 3, stream="eps")
    q1 = model.posterior(x)
    h1 = q1.sample(eps[..., :2])
    q2 = model.upper_posterior(h1)
    z = torch.cat([h1, q2.sample(eps[..., 2:])], -1)
    at = z.detach().requires_grad_()
    fixed = {n: p.detach() for n, p in model.upper_encoder.named_parameters()}
    mean2 = at[..., :2] @ fixed["mean.weight"].T + fixed["mean.bias"]
    std2 = fixed["log_std"].exp()
    log_q2 = torch.distributions.Normal(mean2, std2).log_prob(at[..., 2:]).sum(-1)
    log_q = q1.detach().log_prob(at[..., :2]) + log_q2
    log_weights = model.log_joint(x, at) - log_q
    (by_z,) = torch.autograd.grad(log_weights.sum(), at)
    share = log_weights.detach().softmax(0).unsqueeze(-1)
    names = list(encoder_of(model))
    for power, estimator in [(2, dreg), (1, stl)]:
        expected = gradient(model, (z * (share**power * by_z)).sum(), names)
        found = gradient(model, estimator(model, x, eps).value.sum(), names)
        for name in names:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12)


@models
def test_dreg_has_the_expectation_of_the_plain_gradient(build):
    """Within 4 standard errors of the paired difference, 1e4 draws of k = 5."""
    model = build()
    difference = blocks(model, dreg, 5) - blocks(model, iwae, 5)
    assert in_standard_errors(difference) < 4


@models
def test_without_the_score_the_gradient_of_several_samples_is_biased(build):
    """And the same number of draws shows it: the test above could have failed."""
    model = build()
    difference = blocks(model, stl, 5) - blocks(model, iwae, 5)
    assert in_standard_errors(difference) > 8


@models
def test_with_one_sample_all_three_have_one_expectation(build):
    model = build()
    plain = blocks(model, iwae, 1)
    for estimator in (stl, dreg):
        assert in_standard_errors(blocks(model, estimator, 1) - plain) < 4


def test_dreg_varies_less_than_the_plain_gradient():
    model = one_layer()
    plain, doubly = blocks(model, iwae, 20, rows=10), blocks(model, dreg, 20, rows=10)
    assert (doubly.var(0) < plain.var(0)).all()


@pytest.mark.parametrize("k", [1, 5])
def test_at_the_exact_posterior_the_pathwise_gradient_is_nought_in_every_draw(k):
    """All weights are equal there, and log w does not depend on z (Roeder et al. 2017)."""
    model = one_layer()
    with torch.no_grad():
        weight = torch.linalg.qr(draw(3, 2, stream="W")).Q * torch.tensor([1.3, 0.6])
        s = model.head.log_std.exp()
        m = weight.square().sum(0) + s**2
        model.decoder.weight.copy_(weight)
        model.encoder.mean.weight.copy_((weight / m).T)
        model.encoder.mean.bias.copy_(-(model.decoder.bias @ weight) / m)
        model.encoder.log_std.copy_((s / m.sqrt()).log())
    x, eps = draw(1, 3, stream="x"), draw(k, 1, 2, stream="eps")
    names = list(encoder_of(model))
    for estimator in (stl, dreg):
        for g in gradient(model, estimator(model, x, eps).value.sum(), names).values():
            assert g.abs().max() < 1e-12
    plain = gradient(model, iwae(model, x, eps).value.sum(), names)
    assert max(g.abs().max() for g in plain.values()) > 0.01


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_gradient_reaches_every_parameter(name):
    with seeded(0, "net"):
        model = TwoLayerVAE([2, 3], (4, 3), (5,), (4,)).double()
    x = (draw(6, 2, 3, stream="x") > 0).double()
    value = ESTIMATORS[name](model, x, draw(3, 6, 7, stream="eps")).value.sum()
    for parameter, g in gradient(model, value).items():
        assert g.abs().max() > 0, parameter


def test_the_values_are_had_without_a_graph():
    model = one_layer()
    with torch.no_grad():
        bound = dreg(model, draw(4, 3, stream="x"), draw(5, 4, 2, stream="eps"))
    assert not bound.value.requires_grad
