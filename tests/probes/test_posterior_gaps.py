"""The gaps of a model whose posterior is known, and the order of the bounds of one that is not."""

import math

import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.latent.mlp_vae import MLPVAE, LinearVAE
from udl_lab.probes.posterior_gaps import PosteriorGaps
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded


def measured(net, x, **settings):
    subject = Subject(net, net, Examples(x, torch.zeros(len(x), dtype=torch.int64)), 0.0)
    settings = {"n": 4, "n_grid": 161, "n_nodes": 10, "ks": [1, 10], **settings}
    return {r.key.removeprefix("/"): r.estimate for r in PosteriorGaps(**settings)(subject)}


def exact_linear():
    """X = W z + noise of variance 1 with orthogonal columns, and the encoder that knows it."""
    net = LinearVAE((3,), 2)
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    total = weight.square().sum(0) + 1
    with torch.no_grad():
        net.decoder.weight.copy_(weight)
        net.decoder.bias.zero_()
        net.head.log_std.zero_()
        net.encoder.mean.weight.copy_((weight / total).T)
        net.encoder.mean.bias.zero_()
        net.encoder.log_std.copy_(-0.5 * total.log())
    return net, weight @ weight.T + torch.eye(3)


X = torch.randn(4, 3, generator=generator(0, "x"))


def test_an_exact_posterior_leaves_no_gap():
    net, covariance = exact_linear()
    found = measured(net, X)
    law = torch.distributions.MultivariateNormal(torch.zeros(3), covariance)
    assert found["log_prob"] == pytest.approx(float(law.log_prob(X).mean()), abs=1e-5)
    for name in ("gap", "approximation_gap", "amortisation_gap", "shortfall@k1", "shortfall@k10"):
        assert found[name] == pytest.approx(0, abs=2e-5)  # single precision


def test_a_shifted_encoder_pays_its_divergence_and_the_family_nothing():
    net, _ = exact_linear()
    with torch.no_grad():
        net.encoder.mean.bias += torch.tensor([0.3, 0.0])
    found = measured(net, X)
    cost = 0.5 * 0.3**2 / math.exp(2 * float(net.encoder.log_std.detach()[0]))
    assert found["amortisation_gap"] == pytest.approx(cost, abs=1e-4)
    assert found["approximation_gap"] == pytest.approx(0, abs=1e-4)
    assert found["share_amortised"] == pytest.approx(1, abs=1e-3)


def nonlinear():
    """A small network with a decoder steep enough to bend the posterior, and six images."""
    with seeded(0, "net"):
        net = MLPVAE((1, 4, 4), 2, (8,))
    with torch.no_grad():
        for p in net.decoder.parameters():
            p *= 1.5
    return net, (torch.rand(6, 1, 4, 4, generator=generator(0, "pixels")) < 0.5).float()


def test_the_gaps_of_a_nonlinear_model_add_up():
    found = measured(*nonlinear(), n=6, n_nodes=24, n_grid=401)
    assert found["gap"] == pytest.approx(
        found["approximation_gap"] + found["amortisation_gap"], abs=1e-4
    )
    assert found["log_prob"] > found["best_elbo"] > found["elbo"]


def test_the_error_that_is_given_covers_what_a_finer_rule_changes():
    net, x = nonlinear()
    coarse = measured(net, x, n=6, n_nodes=24, n_grid=201)
    fine = measured(net, x, n=6, n_nodes=60, n_grid=801)
    for name in ("log_prob", "elbo", "gap"):
        assert abs(coarse[name] - fine[name]) <= coarse["quadrature_error"]
    assert fine["quadrature_error"] <= coarse["quadrature_error"] < 0.05


def test_a_network_without_latents_is_refused():
    with pytest.raises(ValueError, match="no single layer of latents"):
        measured(nn.Linear(3, 2), X)


def test_the_share_is_the_shifts_part_where_the_columns_are_not_orthogonal():
    """The posterior's precision is P = I + W'W; the best diagonal normal has that of P's diagonal.

    Its KL is (sum log P_ii - log det P) / 2; a mean that is off by d costs sum P_ii d_i^2 / 2 more.
    """
    net, _ = exact_linear()
    weight = torch.tensor([[1.0, 0.6], [0.0, 0.5], [0.0, 0.0]])
    precision = torch.eye(2) + weight.T @ weight
    with torch.no_grad():
        net.decoder.weight.copy_(weight)
        net.encoder.mean.weight.copy_(torch.linalg.solve(precision, weight.T))
        net.encoder.log_std.copy_(-0.5 * precision.diagonal().log())
        net.encoder.mean.bias += torch.tensor([0.0, 0.3])
    family = 0.5 * float(precision.diagonal().log().sum() - precision.logdet())
    shift = 0.5 * float(precision[1, 1]) * 0.3**2
    found = measured(net, X)
    assert found["approximation_gap"] == pytest.approx(family, abs=1e-4)
    assert found["amortisation_gap"] == pytest.approx(shift, abs=1e-4)
    assert found["share_amortised"] == pytest.approx(shift / (shift + family), abs=1e-3)
    assert 0.3 < shift / (shift + family) < 0.7


def test_the_shortfall_is_the_exact_log_p_less_the_log_of_the_first_k_weights_mean():
    net, x = nonlinear()
    found = measured(net, x, n=6, n_grid=401, ks=[1, 5, 20])
    eps = torch.randn(20, 6, 2, generator=generator(0, "posterior gaps"))
    with torch.no_grad():
        q = net.posterior(x)
        z = q.mean + q.log_std.exp() * eps
        decoder = torch.distributions.Bernoulli(logits=net.decode(z))
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(2)
        own = torch.distributions.Normal(q.mean, q.log_std.exp()).log_prob(z).sum(2)
        weights = (decoder.log_prob(x.flatten(1)).sum(2) + prior - own).double().exp()
    for k in (1, 5, 20):
        bound = float(weights[:k].mean(0).log().mean())
        assert found[f"shortfall@k{k}"] == pytest.approx(found["log_prob"] - bound, abs=1e-5)
    assert found["shortfall@k20"] < found["shortfall@k1"] > 0.05


def test_what_the_search_left_is_reported():
    """In single precision the slopes at the end of a search are 1e-7 of bounds of ten nats."""
    found = measured(*nonlinear(), n=6)
    assert 0 < found["unconverged"] < 1e-3


def test_a_wide_encoder_s_bound_does_not_depend_on_the_search_s_nodes():
    net, x = nonlinear()
    with torch.no_grad():
        for p in net.decoder.parameters():
            p *= 3
        net.encoder.output.bias[2:] = 0.9
    few, many = (measured(net, x, n=6, n_nodes=n, n_grid=401) for n in (6, 24))
    assert few["elbo"] == pytest.approx(many["elbo"], abs=1e-4)
    with torch.no_grad():
        q = net.posterior(x)
        draws = q.mean + q.log_std.exp() * torch.randn(40_000, 6, 2, generator=generator(0, "q"))
        values = net.log_joint(x, draws).mean(1).double()
    entropy = float(q.log_std.sum(1).mean()) + math.log(math.tau * math.e)
    error = 4 * float(values.std()) / 200
    assert few["elbo"] == pytest.approx(float(values.mean()) + entropy, abs=error)


def test_settings_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match="n_grid=100: take an odd number, 9 or more, say 101"):
        PosteriorGaps(n_grid=100)
    with pytest.raises(ValueError, match=r"n_grid=7: .* say 9"):
        PosteriorGaps(n_grid=7)
    with pytest.raises(ValueError, match=r"ks=\[\]: give one or more"):
        PosteriorGaps(ks=[])
    assert measured(*nonlinear(), n=2, n_grid=9)["log_prob"] < 0
