"""Quadrature against closed forms, scipy's integrals, and where it must say that it failed."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from udl_lab.latent.linear import PPCA
from udl_lab.latent.memory import peak_bytes
from udl_lab.latent.mlp_vae import MLPVAE
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of, posterior_grid
from udl_lab.randomness import generator, seeded


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "quadrature", stream), dtype=torch.float64)


def linear(latent, d=4):
    directions = torch.linalg.qr(normal(d, latent, stream="weight")).Q
    lengths = torch.linspace(1.5, 0.7, latent, dtype=torch.float64)
    return PPCA(normal(d, stream="mean"), directions * lengths, 0.3)


def likelihood_of(model, x):
    """The log of p(x | z) of a linear decoder."""
    decoder = torch.distributions.Normal
    scale = math.sqrt(model.variance)
    return lambda z: decoder((model.mean + z @ model.weight.T)[:, None], scale).log_prob(x).sum(2)


def bernoulli(latent, d=3):
    """A decoder with one hidden layer, as plain arrays for scipy and as a function for the lab."""
    first, second = normal(latent, 5, stream="first"), 2 * normal(5, d, stream="second")
    x = (normal(4, d, stream="pixels") > 0).double()

    def likelihood(z):
        logits = ((z @ first + 0.3).tanh() @ second)[:, None]
        return torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(2)

    def density(i, *z):
        # Not scipy.stats, whose calls would take most of the time.
        p = 1 / (1 + np.exp(-np.tanh(np.array(z) @ first.numpy() + 0.3) @ second.numpy()))
        return (
            np.prod(np.where(x[i].numpy() == 1, p, 1 - p))
            * np.exp(-0.5 * np.square(z).sum())
            / math.tau ** (latent / 2)
        )

    return likelihood, density, len(x)


@pytest.mark.parametrize("latent", [1, 2])
def test_the_evidence_of_a_linear_decoder_is_its_closed_form(latent):
    model = linear(latent)
    x = model.sample(5, generator(0, "x"))
    found = log_evidence(likelihood_of(model, x), latent, 201)
    torch.testing.assert_close(found.log_prob, model.log_prob(x), rtol=0, atol=1e-12)
    assert found.error.max() < 1e-9


def test_the_evidence_of_a_bernoulli_decoder_is_scipys_integral():
    likelihood, density, n = bernoulli(1)
    found = log_evidence(likelihood, 1)
    for i in range(n):
        value, _ = integrate.quad(lambda z, i=i: density(i, z), -8, 8, epsabs=1e-13)
        assert float(found.log_prob[i]) == pytest.approx(math.log(value), abs=1e-11)


def test_the_evidence_over_a_plane_is_scipys_double_integral():
    likelihood, density, _ = bernoulli(2)
    found = log_evidence(likelihood, 2, 161)
    value, _ = integrate.dblquad(
        lambda b, a: density(0, a, b), -7, 7, -7, 7, epsabs=1e-7, epsrel=1e-7
    )
    # The square to 7 leaves out 5e-12 of the prior.
    assert float(found.log_prob[0]) == pytest.approx(math.log(value), abs=1e-6)


def test_chunks_change_nothing():
    likelihood, _, _ = bernoulli(2)
    whole, parts = log_evidence(likelihood, 2, 41), log_evidence(likelihood, 2, 41, chunk=100)
    torch.testing.assert_close(whole.log_prob, parts.log_prob, rtol=0, atol=1e-13)
    torch.testing.assert_close(whole.error, parts.error, rtol=0, atol=1e-13)


def test_the_error_covers_the_truth_from_a_hundredth_of_a_nat_on_and_is_larger_before():
    """Posteriors of deviations 0.34 and 0.6: the rule converges as the spacing passes them."""
    model = linear(2)
    x = model.sample(20, generator(0, "x"))
    for n in (5, 9, 17, 25, 33, 41, 49, 65):
        found = log_evidence(likelihood_of(model, x), 2, n)
        off = (found.log_prob - model.log_prob(x)).abs()
        assert ((off <= found.error + 1e-12) | (found.error > 0.01)).all()
        assert bool((found.error > 0.01).any()) == (n < 65)


def test_the_error_is_large_where_the_posterior_leaves_the_grid():
    model = PPCA(torch.zeros(2).double(), torch.tensor([[1.0], [0.0]]).double(), 0.01)
    far = torch.tensor([[9.0, 0.0]]).double()  # the posterior's mean is 8.9
    found = log_evidence(likelihood_of(model, far), 1)
    truth = model.log_prob(far)
    assert abs(float(found.log_prob - truth)) > 1
    assert found.error > 0.1


def test_another_prior_may_be_given():
    """N(1, 1/4) before N(z, 1): the sum is N(1, 5/4)."""
    prior = torch.distributions.Normal(torch.tensor(1.0).double(), 0.5)
    x = torch.tensor([0.2, 3.0]).double()
    found = log_evidence(
        lambda z: torch.distributions.Normal(z, 1.0).log_prob(x),
        1,
        log_prior=lambda z: prior.log_prob(z).sum(1),
    )
    exact = torch.distributions.Normal(torch.tensor(1.0).double(), math.sqrt(1.25)).log_prob(x)
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=1e-12)


def test_a_uniform_prior_integrates_to_one_up_to_its_edges():
    """The trapezoid rule is exact for it, and only with the ends counted half."""
    x = torch.zeros(3).double()
    for latent in (1, 2):
        log_volume = latent * math.log(6)
        found = log_evidence(
            lambda z: 0 * z[:, :1] + x,
            latent,
            11,
            log_prior=lambda z, v=log_volume: torch.full((len(z),), -v, dtype=torch.float64),
            reach=3.0,
        )
        torch.testing.assert_close(found.log_prob, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("latent", [1, 2])
def test_the_posterior_is_a_density_and_has_its_closed_form(latent):
    model = linear(latent)
    x = model.sample(3, generator(0, "x"))
    found = posterior_grid(likelihood_of(model, x), latent, 161)
    exact = model.posterior(x)
    values = exact.log_prob(found.points[:, None].expand(-1, 3, -1)).exp()
    torch.testing.assert_close(found.density, values, rtol=0, atol=1e-12)
    mass = (found.density * found.cell[:, None]).sum(0)
    torch.testing.assert_close(mass, torch.ones(3).double(), rtol=0, atol=1e-12)
    # By another rule than the one it was normalised with: Simpson's, along each axis.
    table = found.density.reshape(*[161] * latent, 3).numpy()
    for _ in range(latent):
        table = integrate.simpson(table, x=found.axis.numpy(), axis=0)
    np.testing.assert_allclose(table, 1, atol=1e-8)
    moments = found.moments()
    torch.testing.assert_close(moments.mean, exact.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(moments.log_std, exact.log_std, rtol=0, atol=1e-11)


@pytest.mark.parametrize("head", ["bernoulli", "gaussian"])
def test_a_models_likelihood_at_shared_points_is_that_of_its_terms(head):
    with seeded(0, "net"):
        model = MLPVAE((5,), 2, widths=(7,), head=head).double()
    x = (normal(3, 5, stream="x") > 0).double()
    z = normal(4, 2, stream="z")
    shared = log_likelihood_of(model, x)(z)
    each = torch.stack(
        [model.head.log_prob(x, model.decode(point.expand(1, 3, 2)))[0] for point in z]
    )
    torch.testing.assert_close(shared, each.detach(), rtol=0, atol=1e-12)
    assert not shared.requires_grad


def test_grey_pixels_are_refused_at_shared_points_too():
    model = MLPVAE((5,), 2, widths=(7,)).double()
    with pytest.raises(ValueError, match="soft_targets"):
        log_evidence(log_likelihood_of(model, torch.full((3, 5), 0.5).double()), 2, 5)


def test_what_no_grid_can_hold_is_refused():
    likelihood, _, _ = bernoulli(1)
    for latent in (0, 3):
        with pytest.raises(ValueError, match=f"latent={latent}: quadrature is for 1 or 2"):
            log_evidence(likelihood, latent)
    with pytest.raises(ValueError, match=r"n=100 points.*say 101"):
        log_evidence(likelihood, 1, 100)
    with pytest.raises(ValueError, match=r"n=3 points.*say 5"):
        posterior_grid(likelihood, 1, 3)


def test_the_error_counts_what_lies_beyond_the_grid():
    """A prior of deviation 10 on +-8: both resolutions agree on the .576 that is inside."""
    prior = torch.distributions.Normal(torch.tensor(0.0).double(), 10.0)
    found = log_evidence(
        lambda z: 0 * z[:, :1], 1, log_prior=lambda z: prior.log_prob(z).sum(1), reach=8.0
    )
    assert float(found.log_prob) == pytest.approx(math.log(math.erf(0.8 / math.sqrt(2))), abs=1e-4)
    assert found.error > 0.1


@pytest.mark.parametrize(("head", "arrays"), [("gaussian", 4), ("logistic", 11)])
def test_the_memory_of_a_likelihood_is_bounded_whatever_the_head(head, arrays):
    """So many arrays of 2^20 pairs of point, example and pixel, whose 5 million are asked for."""
    with seeded(0, "net"):
        model = MLPVAE((784,), 2, widths=(5,), head=head)
    x = (normal(50, 784, stream="x") > 0).float()
    z = normal(130, 2, stream="z")
    outputs = 130 * 784 * model.head.n_outputs * 4
    peak = peak_bytes(lambda: log_likelihood_of(model, x)(z))
    assert peak < arrays * 4 * 2**20 + 3 * outputs
    found = log_likelihood_of(model, x)(z[[0, 70, 129]])
    torch.testing.assert_close(log_likelihood_of(model, x)(z)[[0, 70, 129]], found)


def test_a_chunk_bounds_the_memory_of_the_evidence():
    z = torch.zeros(100).double()
    peaks = [
        peak_bytes(lambda c=chunk: log_evidence(lambda p: p[:, :1] * z, 2, 401, chunk=c))
        for chunk in (2_000, 20_000)
    ]
    grid = 401**2 * 8 * 10  # the points and their masks
    assert peaks[0] < 12 * 8 * 2_000 * 100 + grid
    assert peaks[1] < 12 * 8 * 20_000 * 100 + grid
