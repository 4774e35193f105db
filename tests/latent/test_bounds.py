"""The bounds against the exact log p(x) of a linear-Gaussian model."""

import math

import pytest
import torch
from torch import distributions as D

from udl_lab.latent import bounds
from udl_lab.latent.mlp_vae import LinearVAE
from udl_lab.latent.objective import objective
from udl_lab.randomness import generator

N, K = 4000, 50


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "bounds", stream), dtype=torch.float64)


@pytest.fixture(scope="module")
def wrong():
    """Log-weights of a deliberately wrong posterior, and the ELBO's parts, beside exact log p(x).

    One x, N rows of K draws: every statement about an expectation has N independent trials.
    """
    model = LinearVAE([4], 2).double()
    g = generator(0, "wrong")
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.7 * torch.randn(p.shape, generator=g, dtype=torch.float64))
        weight, b, s = model.decoder.weight, model.decoder.bias, model.head.log_std.exp()
        precision = torch.eye(2).double() + weight.T @ weight / s**2
        covariance = torch.linalg.inv(precision)
        # The true posterior's mean, moved; its standard deviations, 1.4 times as wide.
        model.encoder.mean.weight.copy_(covariance @ weight.T / s**2)
        model.encoder.mean.bias.copy_(
            -covariance @ weight.T @ b / s**2 + 0.8 * covariance.diag().sqrt()
        )
        model.encoder.log_std.copy_((1.4 * covariance.diag().sqrt()).log())
        x = draw(1, 4, stream="x").expand(N, 4)
        eps = draw(K, N, 2, stream="eps")
        terms = model.terms(x, eps)
        law = D.MultivariateNormal(b, weight @ weight.T + s**2 * torch.eye(4).double())
        return terms, objective(model, x, eps), law.log_prob(x[0]).item()


def mean_and_error(values):
    return values.mean().item(), values.std().item() / len(values) ** 0.5


def test_iwae_is_the_log_of_the_mean_weight():
    weights = torch.tensor([[0.5, 3.0], [0.25, 1.0], [2.25, 5.0]], dtype=torch.float64)
    torch.testing.assert_close(bounds.iwae(weights.log()).exp(), weights.mean(0))


def test_a_groups_bound_is_that_of_its_weights_in_their_order_without_those_left_over():
    weights = torch.arange(1.0, 15).reshape(7, 2).double()
    found = bounds.iwae_of_groups(weights.log(), 3).exp()
    expected = torch.stack([weights[:3].mean(0), weights[3:6].mean(0)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        bounds.iwae_of_groups(weights.log(), 7), bounds.iwae(weights.log())[None]
    )
    torch.testing.assert_close(bounds.iwae_of_groups(weights.log(), 1), weights.log())
    for k in (0, 8):
        with pytest.raises(ValueError, match=f"k={k}: a group is of 1 to 7 weights"):
            bounds.iwae_of_groups(weights.log(), k)


def test_iwae_neither_overflows_nor_underflows():
    log_weights = torch.tensor([[-5000.0], [-5001.0]], dtype=torch.float64)
    expected = -5000 + math.log((1 + math.exp(-1)) / 2)
    assert bounds.iwae(log_weights).item() == pytest.approx(expected, rel=1e-15)


def test_with_one_sample_the_bound_is_its_log_weight():
    log_weights = draw(1, 5, stream="w")
    torch.testing.assert_close(bounds.iwae(log_weights), log_weights[0])


def test_the_order_of_the_samples_changes_nothing():
    log_weights = draw(7, 5, stream="w")
    other = log_weights[torch.randperm(7, generator=generator(0, "order"))]
    torch.testing.assert_close(bounds.iwae(other), bounds.iwae(log_weights), rtol=1e-13, atol=1e-13)


def test_under_a_wrong_posterior_more_samples_come_closer_from_below(wrong):
    """L_1 < L_5 < L_50 < log p, each step by more than 4 standard errors of 4,000 trials."""
    terms, _, log_p = wrong
    l_1 = terms.log_weights.mean(0)
    l_5 = torch.stack([bounds.iwae(w) for w in terms.log_weights.split(5)]).mean(0)
    l_50 = bounds.iwae(terms.log_weights)
    for step in (l_5 - l_1, l_50 - l_5, log_p - l_50):
        mean, error = mean_and_error(step)
        assert mean > 4 * error


def test_the_mean_weight_is_p_itself(wrong):
    """E[w] = p(x) for any posterior: what makes log-mean-exp a bound by Jensen's inequality."""
    terms, _, log_p = wrong
    ratio, error = mean_and_error((terms.log_weights - log_p).exp().mean(0))
    assert abs(ratio - 1) < 4 * error


def test_the_weighted_mean_of_log_weights_is_above_log_p_where_ours_is_not(wrong):
    """The value that pythae 0.1.2 logs as IWAE's bound; its gradient is right, its value is not."""
    terms, _, log_p = wrong
    weights = terms.log_weights.softmax(0)
    mean, error = mean_and_error((weights * terms.log_weights).sum(0) - log_p)
    assert mean > 4 * error
    assert bounds.iwae(terms.log_weights).mean() < log_p


def test_the_analytic_elbo_is_the_sampled_one_in_expectation(wrong):
    terms, parts, _ = wrong
    sampled = terms.log_weights.mean(0)
    analytic = parts.log_likelihood - parts.kl
    mean, error = mean_and_error(sampled - analytic)
    assert 0 < error < 0.01
    assert abs(mean) < 4 * error
    assert float(parts.loss) == pytest.approx(-float(analytic.mean()), rel=1e-12)


def test_free_bits_hold_each_latents_mean_kl_at_the_floor():
    kl = torch.tensor([[0.1, 2.0], [0.3, 0.0]], dtype=torch.float64).requires_grad_()
    total = bounds.free_bits(kl, 0.5)
    torch.testing.assert_close(total.item(), 0.5 + 1.0)  # the means are .2 and 1
    total.backward()
    assert kl.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]
    torch.testing.assert_close(bounds.free_bits(kl, 0.0), kl.sum(-1).mean())


def test_free_bits_of_shares_are_not_those_of_the_batch():
    """Which is why they are refused on several processes: half of .5 and 1 is not .5."""
    kl = torch.tensor([[0.0], [1.0]])
    assert bounds.free_bits(kl, 0.5) == 0.5
    assert [float(bounds.free_bits(share, 0.5)) for share in kl.split(1)] == [0.5, 1.0]


def test_the_warm_up_is_a_line_from_nought_to_one():
    assert [bounds.warm_up(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert bounds.warm_up(0, 0) == 1


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="k=0"):
        bounds.iwae(torch.zeros(0, 3))
