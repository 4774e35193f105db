"""The gaps where they are known: normal posteriors, and the divergence itself on a grid."""

import math

import pytest
import torch

from udl_lab.latent.linear import PPCA
from udl_lab.latent.mlp_vae import MLPVAE
from udl_lab.latent.normal import Normal
from udl_lab.latent.posterior_gap import best_normal, elbo, elbo_on_grid, gaps
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of, posterior_grid
from udl_lab.randomness import generator, seeded


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "gap", stream), dtype=torch.float64)


def linear(latent=2, d=4):
    directions = torch.linalg.qr(normal(d, latent, stream="weight")).Q
    return PPCA(normal(d, stream="mean"), directions * 1.3, 0.4)


def log_joint(model, x):
    def function(z):
        decoder = torch.distributions.Normal(
            model.mean + z @ model.weight.T, math.sqrt(model.variance)
        )
        prior = torch.distributions.Normal(torch.zeros(()).double(), 1.0)
        return decoder.log_prob(x).sum(-1) + prior.log_prob(z).sum(-1)

    return function


def correlated(correlation):
    """A joint whose posterior is a correlated normal of unit variances, with p(x) = 1."""
    covariance = torch.tensor([[1, correlation], [correlation, 1]], dtype=torch.float64)
    return torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance).log_prob


def small_vae(latent=2):
    with seeded(0, "net"):
        model = MLPVAE((6,), latent, widths=(9,)).double()
    for parameter in model.parameters():
        parameter.data *= 2
    x = (normal(5, 6, stream="pixels") > 0).double()
    return model, x, lambda z: model.log_joint(x, z)


def divergence_on_a_grid(q, grid):
    """KL(q || posterior), by a sum over points."""
    n = len(q.mean)
    log_q = q.log_prob(grid.points[:, None].expand(-1, n, -1))
    log_posterior = grid.density.clamp(min=1e-300).log()
    return (log_q.exp() * (log_q - log_posterior) * grid.cell[:, None]).sum(0)


def test_the_bound_by_nodes_is_the_analytic_bound():
    model = linear()
    x = model.sample(3, generator(0, "x"))
    q = Normal(normal(3, 2, stream="q"), normal(3, 2, stream="s"))
    for n in (2, 20):  # log p(x, z) is a polynomial of degree 2
        found = elbo(log_joint(model, x), q, n)
        torch.testing.assert_close(found, model.elbo(x, q), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(elbo(log_joint(model, x), q, 1), model.elbo(x, q), atol=0.1)


def test_an_exact_posterior_has_no_gaps():
    model = linear()
    x = model.sample(3, generator(0, "x"))
    found = gaps(log_joint(model, x), model.log_prob(x), model.posterior(x))
    for gap in (found.approximation, found.amortisation, found.unconverged):
        torch.testing.assert_close(gap, torch.zeros(3).double(), rtol=0, atol=1e-12)


def test_a_wrong_normal_has_an_amortisation_gap_only():
    model = linear()
    x = model.sample(4, generator(0, "x"))
    exact = model.posterior(x)
    wrong = Normal(exact.mean + 0.5 * normal(4, 2, stream="m"), exact.log_std + 1)
    found = gaps(log_joint(model, x), model.log_prob(x), wrong)
    torch.testing.assert_close(found.approximation, torch.zeros(4).double(), rtol=0, atol=1e-10)
    short = model.log_prob(x) - model.elbo(x, wrong)
    torch.testing.assert_close(found.amortisation, short, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.best.mean, exact.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.best.log_std, exact.log_std, rtol=0, atol=1e-5)


@pytest.mark.parametrize("correlation", [0.3, -0.9])
def test_the_approximation_gap_of_a_correlated_posterior_is_known(correlation):
    """The best diagonal normal has the conditional variances 1 - r^2; KL = -log(1 - r^2) / 2."""
    q = Normal(torch.tensor([[1.0, 0.5]]).double(), torch.tensor([[0.2, -1.0]]).double())
    found = gaps(correlated(correlation), torch.zeros(1).double(), q)
    left = 1 - correlation**2
    assert float(found.approximation) == pytest.approx(-0.5 * math.log(left), abs=1e-10)
    assert float(found.best.log_std[0, 0]) == pytest.approx(0.5 * math.log(left), abs=1e-5)


@pytest.mark.parametrize("latent", [1, 2])
def test_the_gaps_of_a_bernoulli_decoder_sum_to_the_divergence_from_the_posterior(latent):
    model, x, joint = small_vae(latent)
    likelihood = log_likelihood_of(model, x)
    evidence = log_evidence(likelihood, latent, 161).log_prob
    # Narrow enough to vanish within the grid, which an untrained encoder need not be.
    q = Normal(0.5 * normal(5, latent, stream="q"), -0.5 + 0.2 * normal(5, latent, stream="s"))
    found = gaps(joint, evidence, q)
    grid = posterior_grid(likelihood, latent, 321)
    divergence = divergence_on_a_grid(q, grid)
    total = found.approximation + found.amortisation
    assert total.min() > 0.01
    assert found.error.max() < 1e-3
    assert ((total - divergence).abs() <= found.error + 1e-7).all()
    best_divergence = divergence_on_a_grid(found.best, grid)
    torch.testing.assert_close(found.approximation, best_divergence, rtol=0, atol=2e-5)
    assert (found.approximation > 0).all() and (found.amortisation > 0).all()
    assert found.unconverged.max() < 1e-9


def test_no_neighbour_of_the_best_normal_is_better():
    _, _, joint = small_vae()
    start = Normal(torch.zeros(5, 2).double(), torch.zeros(5, 2).double())
    best, _ = best_normal(joint, [start])
    with torch.no_grad():
        top = elbo(joint, best)
        for i in range(10):
            moved = Normal(
                best.mean + 0.05 * normal(5, 2, stream=f"a{i}"),
                best.log_std + 0.05 * normal(5, 2, stream=f"b{i}"),
            )
            assert (elbo(joint, moved) < top).all()


def test_of_two_modes_the_better_is_kept_for_each_example():
    """Weights .8 and .2 at +-5: a normal on the mode of weight w has the bound log w."""
    weights = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).double()
    modes = torch.tensor([-5.0, 5.0]).double()

    def joint(z):
        each = torch.distributions.Normal(modes, 1.0).log_prob(z)
        return (each + weights.log()).logsumexp(-1)

    def start(mean):
        return Normal(torch.full((2, 1), mean).double(), torch.zeros(2, 1).double())

    best, _ = best_normal(joint, [start(-4.0), start(4.0)])
    torch.testing.assert_close(best.mean[:, 0], modes, rtol=0, atol=1e-3)
    bound = elbo(joint, best)
    torch.testing.assert_close(bound, torch.full((2,), math.log(0.8)).double(), rtol=0, atol=1e-4)


def test_what_is_left_to_be_won_is_known_near_the_best_normal():
    """Posterior N(0, .01^2), q a tenth of a deviation off and e^.05 too wide: not searched at all.

    KL = (.1^2 + e^.1 - 1 - .1) / 2, to second order .005 + .0025; a log deviation has curvature 2,
    and so counts double.
    """

    def joint(z):
        return -0.5 * (z / 0.01).square().sum(-1)

    mean = torch.tensor([[0.001]], dtype=torch.float64)
    log_std = torch.tensor([[0.01]], dtype=torch.float64).log()
    _, left = best_normal(joint, [Normal(mean, log_std)], steps=0)
    assert float(left) == pytest.approx(0.005, rel=1e-9)
    _, left = best_normal(joint, [Normal(mean, log_std + 0.05)], steps=0)
    assert 0.0075 < float(left) < 0.0075 + 0.005


def test_the_search_leaves_no_gradient_on_the_model():
    model, _, joint = small_vae()
    start = Normal(torch.zeros(5, 2).double(), torch.zeros(5, 2).double())
    best, left = best_normal(joint, [start], steps=3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not (best.mean.requires_grad or left.requires_grad)


def test_three_latents_and_no_start_are_refused():
    q = Normal(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="latent=3"):
        elbo(lambda z: z.sum(-1), q)
    with pytest.raises(ValueError, match="one or more"):
        best_normal(lambda z: z.sum(-1), [])


def bump(width):
    """100 exp(-|z|^2 / 2 w^2), whose mean under N(0, s^2 I) of a plane is 100 w^2 / (w^2 + s^2)."""
    return lambda z: 100 * (-0.5 * (z / width).square().sum(-1)).exp()


def entropy(q):
    return q.log_std.sum(1) + 0.5 * q.mean.shape[1] * math.log(math.tau * math.e)


def test_the_bound_on_a_grid_is_the_analytic_bound_for_one_and_two_latents():
    for latent in (1, 2):
        model = linear(latent)
        x = model.sample(3, generator(0, "x"))
        q = Normal(normal(3, latent, stream="q"), normal(3, latent, stream="s"))
        found, error = elbo_on_grid(log_joint(model, x), q)
        torch.testing.assert_close(found, model.elbo(x, q), rtol=1e-12, atol=1e-12)
        assert error.max() < 1e-9


def test_a_normal_far_wider_than_the_joint_has_the_right_bound_where_few_nodes_miss_it():
    """A fifth of q's deviation wide: fourteen nodes are half a nat off, the grid is right."""
    q = Normal(torch.zeros(2, 2).double(), torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double())

    def joint(z):
        return bump(0.2)(z * (-q.log_std).exp())

    truth = 100 * 0.04 / 1.04 + entropy(q)
    assert ((elbo(joint, q, 14) - truth).abs() > 0.5).all()
    found, error = elbo_on_grid(joint, q)
    assert error.max() < 1e-3
    assert ((found - truth).abs() <= error).all()
    gap = gaps(joint, truth, q, n=14)
    torch.testing.assert_close(gap.elbo, truth, rtol=0, atol=1e-6)


def test_a_grid_that_is_too_coarse_says_so_and_a_finer_one_is_taken_if_allowed():
    q = Normal(torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
    truth = float(100 * 0.01 / 1.01 + entropy(q))
    found, error = elbo_on_grid(bump(0.1), q, finest=0.4)
    assert abs(float(found) - truth) < float(error) and error > 0.05
    found, error = elbo_on_grid(bump(0.1), q)
    assert abs(float(found) - truth) < 1e-8 and error < 1e-3
    loose, _ = elbo_on_grid(bump(0.1), q, tolerance=3.0)
    assert abs(float(loose) - truth) > 1e-3  # it stopped earlier


def test_the_error_tells_that_the_search_s_nodes_were_too_few():
    """One node sees the middle of the bump only, and makes q as wide as it can."""
    q = Normal(torch.zeros(1, 1).double(), torch.zeros(1, 1).double())
    found = gaps(bump(1.0), torch.zeros(1).double(), q, n=1, steps=2)
    off = elbo(bump(1.0), found.best, 1) - elbo_on_grid(bump(1.0), found.best)[0]
    assert float(off) > 1
    assert found.error >= off


def test_many_examples_and_points_are_asked_for_a_few_at_a_time():
    asked = []

    def joint(z):
        asked.append(z.shape[0] * z.shape[1])
        return -0.5 * z.square().sum(-1)

    q = Normal(torch.zeros(300, 2).double(), torch.zeros(300, 2).double())
    found, _ = elbo_on_grid(joint, q, tolerance=0.0, finest=0.4)
    torch.testing.assert_close(found, entropy(q) - 1, rtol=0, atol=1e-10)
    assert max(asked) <= 10_000 and len(asked) > 10
