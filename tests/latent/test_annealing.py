"""The bracket around log p(x) where log p(x) is known."""

import math

import pytest
import torch

from udl_lab.latent.annealing import (
    Path,
    backward,
    bracket,
    forward,
    sigmoid_betas,
    tuned_steps,
)
from udl_lab.latent.linear import PPCA
from udl_lab.latent.mlp_vae import MLPVAE
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of
from udl_lab.randomness import generator, seeded

REPEATS = 400  # simulated examples, each with a chain or a few of its own


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "annealing", stream), dtype=torch.float64)


def setting(n=6, d=4, latent=2):
    """A linear decoder, data drawn from it with the z that made them, and a path from the prior."""
    weight = torch.linalg.qr(normal(d, latent, stream="weight")).Q * 1.5
    model = PPCA(torch.zeros(d).double(), weight, 0.1)
    z = normal(REPEATS, latent, stream="z")
    x = z @ weight.T + math.sqrt(0.1) * normal(REPEATS, d, stream="noise")
    prior = torch.distributions.Normal(torch.zeros(()).double(), 1.0)

    def log_prior(z):
        return prior.log_prob(z).sum(-1)

    def log_joint(z):
        decoder = torch.distributions.Normal(z @ weight.T, math.sqrt(0.1))
        return decoder.log_prob(x).sum(-1) + log_prior(z)

    steps = torch.full((n, REPEATS), 0.2).double()
    return model, x, z, Path(log_prior, log_joint, sigmoid_betas(n), steps, 5)


def prior_samples(chains, stream="start"):
    return normal(chains, REPEATS, 2, stream=stream)


def mean_and_error(values):
    return float(values.mean()), float(values.std()) / math.sqrt(REPEATS)


def both_sides(n, chains=1):
    model, x, z, path = setting(n)
    forwards = forward(path, prior_samples(chains), generator(0, "forward"))
    exact = z.expand(chains, -1, -1)
    found = bracket(forwards, backward(path, exact, generator(0, "backward")))
    return found.lower - model.log_prob(x), found.upper - model.log_prob(x)


def test_the_truth_lies_inside_and_more_temperatures_tighten_the_bracket():
    widths = []
    for n in (3, 12, 48):
        (low, low_error), (high, high_error) = map(mean_and_error, both_sides(n))
        assert low < -3 * low_error
        assert high > 3 * high_error
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_one_temperature_is_importance_sampling_from_the_start():
    _, _, _, path = setting(1)
    start = prior_samples(2)
    found = forward(path, start, generator(0))
    weights = path.log_joint(start) - path.log_start(start)
    torch.testing.assert_close(found.log_weights, weights, rtol=0, atol=1e-12)


def test_the_weights_are_unbiased_forwards_and_backwards():
    """E[w] = p(x) and E[1 / w] = 1 / p(x), for few temperatures and moves that are often refused.

    x = z + noise, both N(0, 1), at x = 1: p(x) = N(1; 0, 2), and the posterior is N(1/2, 1/2).
    """
    unit = torch.distributions.Normal(torch.zeros(()).double(), 1.0)
    chains = 40_000
    path = Path(
        lambda z: unit.log_prob(z).sum(-1),
        lambda z: (unit.log_prob(z) + unit.log_prob(1 - z)).sum(-1),
        torch.tensor([0.0, 0.1, 0.5, 1.0]).double(),
        torch.full((3, 1), 1.1).double(),
        2,
    )
    log_p = -0.25 - 0.5 * math.log(4 * math.pi)
    start = normal(chains, 1, 1, stream="unbiased")
    found = forward(path, start, generator(0, "many"))
    assert 0.2 < found.acceptance.mean() < 0.95
    ratios = (found.log_weights - log_p).exp()
    assert abs(float(ratios.mean()) - 1) < 4.5 * float(ratios.std()) / math.sqrt(chains)
    found = backward(path, 0.5 + math.sqrt(0.5) * start, generator(0, "back"))
    ratios = (found.log_weights + log_p).exp()
    assert abs(float(ratios.mean()) - 1) < 4.5 * float(ratios.std()) / math.sqrt(chains)
    assert float(ratios.std()) > 0.1  # else this would prove little


def test_more_chains_tighten_both_sides():
    one, many = both_sides(6), both_sides(6, chains=20)
    assert float(one[0].mean()) < float(many[0].mean()) < 0
    assert float(one[1].mean()) > float(many[1].mean())


def test_chains_that_start_at_the_posterior_have_constant_weights():
    model, x, _, path = setting(5)
    q = model.posterior(x)
    start = q.sample(prior_samples(2))
    exact = Path(q.log_prob, path.log_joint, path.betas, path.steps, path.n_leapfrog)
    found = forward(exact, start, generator(0))
    expected = model.log_prob(x).expand(2, -1)
    torch.testing.assert_close(found.log_weights, expected, rtol=0, atol=1e-10)
    found = backward(exact, start, generator(0))
    torch.testing.assert_close(found.log_weights, -expected, rtol=0, atol=1e-10)


def test_the_chains_end_near_the_posterior():
    model, x, _, path = setting(48)
    found = forward(path, prior_samples(1), generator(0, "end"))
    q = model.posterior(x)
    scores = (found.z[0] - q.mean) / q.log_std.exp()
    assert (scores.mean(0).abs() < 5 / math.sqrt(REPEATS)).all()
    assert ((scores.var(0) - 1).abs() < 0.35).all()
    assert (found.acceptance > 0).all() and found.acceptance.shape == (48, REPEATS)


def test_tuned_steps_give_the_acceptance_that_was_asked_for():
    _, _, _, path = setting(40)
    long = Path(path.log_start, path.log_joint, path.betas, path.steps * 10, path.n_leapfrog)
    steps = tuned_steps(long, prior_samples(5), generator(0, "pilot"))
    tuned = Path(path.log_start, path.log_joint, path.betas, steps, path.n_leapfrog)
    found = forward(tuned, prior_samples(5, "other"), generator(0, "walk"))
    assert steps.shape == path.steps.shape
    assert steps[-1].mean() < steps[0].mean() / 2  # the posterior is narrower than the prior
    assert 0.45 < float(found.acceptance[20:].mean()) < 0.85


def test_the_temperatures_are_dense_at_both_ends():
    betas = sigmoid_betas(10)
    assert betas[0] == 0 and betas[-1] == 1 and len(betas) == 11
    gaps = betas.diff()
    torch.testing.assert_close(gaps, gaps.flip(0))
    assert gaps.argmax() in (4, 5) and float(gaps.max() / gaps.min()) > 5
    # sigmoid(u) at u = -4, 0, 4, by hand.
    assert float(sigmoid_betas(2)[1]) == pytest.approx(0.5, abs=1e-15)


def test_the_bracket_holds_for_a_decoder_network_in_single_precision():
    with seeded(0, "net"):
        model = MLPVAE((8,), 2, widths=(9,))
    for parameter in model.parameters():
        parameter.data *= 3
    rng = generator(0, "simulate")
    with torch.no_grad():
        z = model.sample_prior(200, rng)
        x = model.head.sample(model.decode(z), rng)
    exact = log_evidence(log_likelihood_of(model, x), 2, 161)
    assert exact.error.max() < 1e-4
    path = Path(
        model.prior.log_prob,
        lambda z: model.log_joint(x, z),
        sigmoid_betas(40),
        torch.full((40, 200), 0.3),
        5,
    )
    start = model.prior.sample(200, rng)[None]
    found = bracket(forward(path, start, rng), backward(path, z[None], rng))
    low, high = found.lower - exact.log_prob, found.upper - exact.log_prob
    assert float(low.mean()) < 2 * float(low.std()) / math.sqrt(200)
    assert float(high.mean()) > -2 * float(high.std()) / math.sqrt(200)
    assert float(high.mean() - low.mean()) < 0.5
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_path_that_does_not_lead_from_0_to_1_is_refused():
    _, _, _, path = setting(2)
    for betas in ([0.0, 1.0, 0.5], [0.1, 0.5, 1.0], [0.0, 0.5, 0.9], [1.0]):
        with pytest.raises(ValueError, match="rise from 0 to 1"):
            Path(path.log_start, path.log_joint, torch.tensor(betas).double(), path.steps)
    with pytest.raises(ValueError, match="2 step lengths for 5 moves"):
        Path(path.log_start, path.log_joint, sigmoid_betas(5), path.steps)
