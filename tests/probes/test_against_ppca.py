"""A linear VAE at its optimum has no gap, and one beside it has the gap that it should have."""

import math

import pytest
import torch
from torch import nn

from udl_lab.data.factors import factors
from udl_lab.data.source import Examples
from udl_lab.latent.linear import fit
from udl_lab.latent.mlp_vae import LinearVAE
from udl_lab.probes.against_ppca import AgainstPPCA
from udl_lab.probes.subject import Subject

TRAIN, TEST = factors("", d=8, latent=2, n_train=500, n_test=200)


def optimal():
    """The linear VAE that probabilistic PCA's closed form describes."""
    net = LinearVAE((8,), 2).double()
    ppca = fit(TRAIN.x.double(), 2)
    posterior = ppca.posterior(torch.cat([torch.zeros(1, 8), torch.eye(8)]).double())
    with torch.no_grad():
        net.decoder.weight.copy_(ppca.weight)
        net.decoder.bias.copy_(ppca.mean)
        net.encoder.mean.bias.copy_(posterior.mean[0])
        net.encoder.mean.weight.copy_((posterior.mean[1:] - posterior.mean[0]).T)
        net.encoder.log_std.copy_(posterior.log_std[0])
        net.head.log_std.fill_(0.5 * math.log(ppca.variance))
    return net


def measured(net):
    rows = AgainstPPCA()(Subject(net, net, TEST, 0.0, TRAIN))
    return {r.key.removeprefix("/"): r.estimate for r in rows}


def test_the_optimum_has_no_gap():
    found = measured(optimal())
    for key in ("gap", "gap/test", "posterior_gap", "posterior_gap/test"):
        assert found[key] == pytest.approx(0, abs=1e-6)  # the head's log_std is single at first
    assert found["noise_variance"] == pytest.approx(found["noise_variance_optimal"], rel=1e-6)
    assert found["subspace_angle"] == pytest.approx(0, abs=1e-5)


def test_a_posterior_that_is_off_costs_its_divergence():
    """KL of two normals with one variance: half the squared distance over it."""
    net = optimal()
    with torch.no_grad():
        net.encoder.mean.bias += torch.tensor([0.1, 0.0])
    found = measured(net)
    cost = 0.5 * 0.1**2 / float((2 * net.encoder.log_std[0].detach()).exp())
    assert found["posterior_gap"] == pytest.approx(cost, rel=1e-4)
    assert found["gap"] == pytest.approx(cost, rel=1e-4)


def test_a_decoder_that_is_off_is_further_from_the_optimum_than_from_itself():
    net = optimal()
    with torch.no_grad():
        net.decoder.bias += 0.3
    found = measured(net)
    assert found["gap"] > 0.1
    assert found["gap"] > found["posterior_gap"] > 0


def test_a_turned_column_is_an_angle():
    net = optimal()
    with torch.no_grad():
        basis = torch.linalg.qr(net.decoder.weight, mode="complete").Q
        length = net.decoder.weight[:, 0].norm()
        turned = math.cos(0.2) * net.decoder.weight[:, 0] + math.sin(0.2) * length * basis[:, 5]
        net.decoder.weight[:, 0] = turned
    assert measured(net)["subspace_angle"] == pytest.approx(math.degrees(0.2), rel=1e-6)


def test_the_bound_is_that_of_many_samples():
    net = LinearVAE((8,), 2).double()
    x = TRAIN.x[:50].double()
    eps = torch.randn(
        20_000, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        draws = net.terms(x, eps).log_weights.mean(1)
    alone = AgainstPPCA()(Subject(net, net, TEST, 0.0, Examples(TRAIN.x[:50], TRAIN.y[:50])))
    error = float(draws.std()) / 20_000**0.5
    assert alone[0].estimate == pytest.approx(float(draws.mean()), abs=4 * error)


def test_another_network_is_refused():
    net = nn.Linear(8, 2)
    with pytest.raises(ValueError, match="no linear VAE"):
        AgainstPPCA()(Subject(net, net, TEST, 0.0, TRAIN))


def test_without_training_examples_there_is_no_optimum():
    net = optimal()
    with pytest.raises(ValueError, match=r"no training examples.*train="):
        AgainstPPCA()(Subject(net, net, TEST, 0.0))
