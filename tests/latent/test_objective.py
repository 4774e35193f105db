"""What is minimised, written out by torch's own distributions."""

import inspect

import pytest
import torch
from torch import distributions as D

from udl_lab.latent.conv_vae import ConvVAE
from udl_lab.latent.mlp_vae import MLPVAE, TwoLayerVAE
from udl_lab.latent.objective import has_closed_kl, objective
from udl_lab.randomness import generator, seeded


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "objective", stream), dtype=torch.float64)


X = (draw(7, 6, stream="x") > 0).double()


def net(**options):
    with seeded(0, "net"):
        return MLPVAE([6], 3, (5,), **options).double()


def by_hand(model, eps):
    """The logarithms of p(x|z), p(z) and q(z|x), and the distribution q."""
    mean, log_std = model.encoder(X).chunk(2, 1)
    q = D.Normal(mean, log_std.exp())
    z = mean + log_std.exp() * eps
    logits = model.decoder(z.reshape(-1, 3)).reshape(*eps.shape[:2], 6)
    log_likelihood = D.Bernoulli(logits=logits).log_prob(X.expand_as(logits)).sum(2)
    return log_likelihood, D.Normal(0.0, 1.0).log_prob(z).sum(2), q.log_prob(z).sum(2), q


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_elbo_has_its_kl_in_closed_form(k, beta):
    model, eps = net(), draw(k, 7, 3, stream="eps")
    found = objective(model, X, eps, beta=beta)
    log_likelihood, _, _, q = by_hand(model, eps)
    kl = D.kl_divergence(q, D.Normal(torch.zeros(()).double(), 1.0)).sum(1)
    torch.testing.assert_close(found.log_likelihood, log_likelihood.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.kl, kl, rtol=1e-12, atol=1e-12)
    expected = (beta * kl - log_likelihood.mean(0)).mean()
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("estimator", ["iwae", "dreg", "stl"])
def test_the_others_are_the_bound_of_k_samples(estimator):
    model, eps = net(), draw(5, 7, 3, stream="eps")
    found = objective(model, X, eps, estimator)
    log_likelihood, log_prior, log_posterior, _ = by_hand(model, eps)
    weights = (log_likelihood + log_prior - log_posterior).exp()
    torch.testing.assert_close(found.loss, -weights.mean(0).log().mean(), rtol=1e-12, atol=0)
    sampled = (log_posterior - log_prior).mean(0)
    torch.testing.assert_close(found.kl, sampled, rtol=1e-12, atol=1e-12)


def test_free_bits_cost_as_much_as_a_latent_that_has_them():
    model, eps = net(), draw(1, 7, 3, stream="eps")
    log_likelihood, _, _, q = by_hand(model, eps)
    by_unit = D.kl_divergence(q, D.Normal(torch.zeros(()).double(), 1.0)).mean(0)
    floor = float(by_unit.detach().sort().values[1])  # one is below it, one at it
    cost = by_unit.clamp(min=floor).sum()
    found = objective(model, X, eps, free_bits=floor)
    torch.testing.assert_close(found.loss, cost - log_likelihood.mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("two_layers", [True, False])
def test_without_a_closed_form_the_kl_is_sampled(two_layers):
    with seeded(0, "net"):
        model = (
            TwoLayerVAE([6], (4, 2), (5,), (3,)) if two_layers else net(prior="vamp", n_pseudo=4)
        )
    model = model.double()
    assert not has_closed_kl(model)
    eps = draw(3, 7, model.n_noise, stream="eps")
    found = objective(model, X, eps, beta=0.5)
    terms = model.terms(X, eps)
    kl = (terms.log_posterior - terms.log_prior).mean(0)
    expected = (0.5 * kl - terms.log_likelihood.mean(0)).mean()
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match=r"free_bits=0\.1.*free_bits=0"):
        objective(model, X, eps, free_bits=0.1)


@pytest.mark.parametrize("shape", [(0, 7, 3), (1, 1, 3), (1, 7, 1), (1, 7, 4), (2, 3, 7)])
def test_noise_that_is_not_k_samples_for_each_example_is_refused_and_not_spread(shape):
    """As users call it: the shape checker of the tests would speak first."""
    unchecked = inspect.unwrap(objective)
    with pytest.raises(ValueError, match=r"must be \(k, 7, 3\)" if shape[0] else "k=0"):
        unchecked(net(), X, draw(*shape, stream="eps"))


def test_the_parts_are_those_of_an_elbo_that_bounds_the_bound():
    """By Jensen's inequality, for the same samples; with every estimator."""
    model, eps = net(), draw(5, 7, 3, stream="eps")
    for estimator in ("iwae", "dreg", "stl"):
        found = objective(model, X, eps, estimator)
        assert (found.log_likelihood - found.kl).mean() < -found.loss


def test_a_reconstruction_has_the_shape_of_its_examples_and_no_noise():
    with seeded(0, "net"):
        nets = [MLPVAE([1, 8, 8], 3, (5,)), TwoLayerVAE([1, 8, 8], (4, 2)), ConvVAE([1, 8, 8])]
    x = torch.rand(3, 1, 8, 8, generator=generator(0, "x"))
    for model in nets:
        seen = model(x)
        assert torch.equal(seen, model(x))
        mean = model.posterior(x).mean
        expected = torch.sigmoid(model.decoder(mean)).reshape(x.shape)
        torch.testing.assert_close(seen, expected, rtol=1e-6, atol=0)
