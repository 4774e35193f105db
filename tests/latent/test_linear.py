"""Probabilistic PCA against scipy, scikit-learn, and its own derivative."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from udl_lab.latent.linear import PPCA, fit, max_log_likelihood
from udl_lab.latent.normal import Normal
from udl_lab.randomness import generator


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "linear", stream), dtype=torch.float64)


def data(n=60, d=6):
    """Correlated examples away from the origin."""
    return normal(n, d, stream="z") @ normal(d, d, stream="mix") + normal(d, stream="mean")


def log_likelihood(x, mean, weight, log_variance):
    """By the full covariance, for any weight: no identity and no orthogonality used."""
    covariance = weight @ weight.T + log_variance.exp() * torch.eye(len(mean)).double()
    law = torch.distributions.MultivariateNormal(mean, covariance)
    return law.log_prob(x).mean()


def test_the_density_is_the_normal_of_the_full_covariance():
    x = data()
    model = fit(x, 2)
    covariance = model.weight @ model.weight.T + model.variance * torch.eye(6).double()
    law = multivariate_normal(model.mean.numpy(), covariance.numpy())
    np.testing.assert_allclose(model.log_prob(x).numpy(), law.logpdf(x.numpy()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_the_bound_of_the_exact_posterior_is_the_log_likelihood_of_every_example(latent):
    train, test = data(), 3 * normal(20, 6, stream="test")
    model = fit(train, latent)
    torch.testing.assert_close(model.elbo(test), model.log_prob(test), rtol=0, atol=1e-10)


def test_log_joint_less_log_posterior_is_the_log_likelihood_for_any_z():
    """Bayes' rule with every constant, which the analytic bound does not show one by one."""
    x = data()
    model = fit(x, 2)
    z = 2 * normal(60, 2, stream="any")
    mean = model.mean + z @ model.weight.T
    decoder = torch.distributions.Normal(mean, math.sqrt(model.variance)).log_prob(x).sum(1)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    evidence = decoder + prior - model.posterior(x).log_prob(z)
    torch.testing.assert_close(evidence, model.log_prob(x), rtol=0, atol=1e-10)


def test_another_q_falls_short_by_its_divergence_from_the_posterior():
    x = data()
    model = fit(x, 2)
    exact = model.posterior(x)
    q = Normal(exact.mean + 0.3, exact.log_std - 0.2)
    # KL of diagonal normals: means .3 apart, deviations in the ratio exp(-.2).
    scaled = (0.3 / exact.log_std.exp()).square()
    kl = 0.5 * (math.exp(-0.4) + scaled - 1 + 0.4).sum(1)
    torch.testing.assert_close(model.log_prob(x) - model.elbo(x, q), kl, rtol=0, atol=1e-10)


def test_scikit_learn_gives_the_same_score_but_for_its_divisor():
    """It divides the covariance by n - 1, which scales everything by n / (n - 1)."""
    x = data()
    n = len(x)
    model = fit(x, 3)
    ratio = n / (n - 1)
    theirs = PPCA(model.mean, model.weight * math.sqrt(ratio), model.variance * ratio)
    peer = PCA(3).fit(x.numpy())
    assert peer.noise_variance_ == pytest.approx(theirs.variance, rel=1e-12)
    np.testing.assert_allclose(
        theirs.log_prob(x).numpy(), peer.score_samples(x.numpy()), rtol=0, atol=1e-10
    )


def test_the_fitted_point_is_stationary_and_better_than_its_neighbours():
    x = data()
    model = fit(x, 2)
    parameters = [
        p.clone().requires_grad_()
        for p in (model.mean, model.weight, torch.tensor(model.variance, dtype=torch.float64).log())
    ]
    best = log_likelihood(x, *parameters)
    for slope in torch.autograd.grad(best, parameters):
        assert slope.abs().max() < 1e-12
    for i in range(20):
        moved = [
            p.detach() + 0.05 * normal(*p.shape, stream=f"{i} {j}")
            for j, p in enumerate(parameters)
        ]
        assert log_likelihood(x, *moved) < best


def test_the_maximum_is_known_from_the_eigenvalues():
    x = data()
    for latent in (1, 3, 5):
        reached = float(fit(x, latent).log_prob(x).mean())
        assert max_log_likelihood(x, latent) == pytest.approx(reached, abs=1e-11)
    # One dimension left over loses nothing: the same as the normal of the full covariance.
    covariance = np.cov(x.numpy().T, bias=True)
    full = multivariate_normal(x.mean(0).numpy(), covariance).logpdf(x.numpy()).mean()
    assert max_log_likelihood(x, 5) == pytest.approx(full, abs=1e-11)


def test_fewer_examples_than_dimensions_still_give_a_maximum():
    x = data(n=5, d=8)
    model = fit(x, 3)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))
    assert model.variance == pytest.approx(eigenvalues[:5].mean(), rel=1e-10)
    assert float(model.log_prob(x).mean()) == pytest.approx(max_log_likelihood(x, 3), abs=1e-10)


def test_samples_have_the_mean_and_covariance_of_the_model():
    model = fit(data(), 2)
    n = 40_000
    x = model.sample(n, generator(0, "samples"))
    assert torch.equal(x, model.sample(n, generator(0, "samples")))
    covariance = model.weight @ model.weight.T + model.variance * torch.eye(6).double()
    error = (covariance.diag() / n).sqrt()
    assert ((x.mean(0) - model.mean).abs() < 5 * error).all()
    # Var of a sample covariance of normals: (c_ii c_jj + c_ij^2) / n.
    error = ((torch.outer(covariance.diag(), covariance.diag()) + covariance**2) / n).sqrt()
    assert ((torch.cov(x.T) - covariance).abs() < 5 * error).all()


@pytest.mark.parametrize(
    ("n", "latent", "words"),
    [(60, 0, "latent=0: choose 1 to 5"), (60, 6, "latent=6"), (3, 2, "give 4 or more")],
)
def test_what_cannot_be_fitted_is_refused(n, latent, words):
    with pytest.raises(ValueError, match=words):
        fit(data(n), latent)
    with pytest.raises(ValueError, match=words):
        max_log_likelihood(data(n), latent)


def test_data_in_a_plane_has_no_maximum():
    plane = normal(60, 2, stream="plane") @ normal(2, 6, stream="axes")
    with pytest.raises(ValueError, match="no variance outside 2 directions"):
        fit(plane, 2)


def test_columns_that_are_not_orthogonal_are_refused():
    with pytest.raises(ValueError, match="orthogonal"):
        PPCA(torch.zeros(3).double(), torch.ones(3, 2).double(), 1.0)
