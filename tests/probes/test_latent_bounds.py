"""Bounds of models whose log p(x) and latents are known exactly."""

import math

import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.latent.diagnostics import mutual_information
from udl_lab.latent.heads import Gaussian
from udl_lab.latent.log_likelihood import estimate, weigh
from udl_lab.latent.mlp_vae import MLPVAE, LinearEncoder, LinearVAE, TwoLayerVAE
from udl_lab.latent.model import HierarchicalModel
from udl_lab.latent.priors import StandardNormal
from udl_lab.nets.fcn import FCN
from udl_lab.probes.latent_bounds import LatentBounds, look
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded

RUNGS = [1, 10, 100]


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "latent", stream))


def linear():
    """Probabilistic PCA with its exact posterior, and examples of it with their log p(x).

    Column j of the decoder has length l_j; a third latent does nothing.
    """
    lengths, s = torch.tensor([2.0, 0.5, 0.0]), 0.7
    weight = torch.linalg.qr(draw(5, 3, stream="W")).Q * lengths
    total = lengths.square() + s**2
    net = LinearVAE([5], 3)
    with torch.no_grad():
        net.decoder.weight.copy_(weight)
        net.decoder.bias.zero_()
        net.head.log_std.fill_(math.log(s))
        net.encoder.mean.weight.copy_((weight / total).T)
        net.encoder.mean.bias.zero_()
        net.encoder.log_std.copy_((s / total.sqrt()).log())
    x = draw(4000, 3, stream="z") @ weight.T + s * draw(4000, 5, stream="noise")
    law = torch.distributions.MultivariateNormal(
        torch.zeros(5).double(), (weight @ weight.T + s**2 * torch.eye(5)).double()
    )
    return net, x, law.log_prob(x.double()), lengths.square() / total


def binary(two_layers=False):
    with seeded(0, "net"):
        net = TwoLayerVAE([6], (4, 2), (5,), (3,)) if two_layers else MLPVAE([6], 3, (5,))
    return net, (draw(50, 6, stream="bits") > 0).float()


def measured(net, x, **settings):
    usual = {"rungs": RUNGS, "n_ladder": 40, "n_information": 30}
    subject = Subject(net, net, Examples(x, torch.zeros(len(x), dtype=torch.int64)), 0.0)
    return {r.key.removeprefix("/"): r for r in LatentBounds(**(usual | settings))(subject)}


def test_with_the_exact_posterior_every_bound_is_the_log_likelihood():
    net, x, log_p, _ = linear()
    found = measured(net, x, ladder_of="first")
    for rung in RUNGS:
        # Single precision: terms of some ten nats, to 2^-24 each.
        expected = float(log_p[:40].mean())
        assert found[f"bound@k{rung}"].estimate == pytest.approx(expected, abs=1e-5)
        assert found[f"bound@k{rung}"].n == 40
    assert found["ess"].estimate == pytest.approx(100, rel=1e-4)
    assert found["standard_error"].estimate < 1e-5
    elbo = found["elbo"]
    assert elbo.n == 4000
    # One sample each: twice the half-width of a 95 % interval is four standard errors.
    assert abs(elbo.estimate - float(log_p.mean())) < 2 * (elbo.high - elbo.low) / 2


def test_the_interval_is_student_s_over_examples():
    net, x, log_p, _ = linear()
    bound = measured(net, x, ladder_of="first")["bound@k1"]
    half = 2.0226909 * float(log_p[:40].std()) / math.sqrt(40)  # t(.975, 39)
    assert bound.high - bound.estimate == pytest.approx(half, rel=1e-5)
    assert bound.estimate - bound.low == pytest.approx(half, rel=1e-5)


def test_rate_distortion_and_elbo_belong_together():
    for net, x in (binary(), binary(two_layers=True), linear()[:2]):
        found = measured(net, x)
        total = found["rate"].estimate + found["distortion"].estimate
        assert total == pytest.approx(-found["elbo"].estimate, rel=1e-12)


def test_active_latents_and_their_share_of_the_rate_are_those_of_the_model():
    net, x, _, share = linear()
    found = measured(net, x)
    assert found["active_units"].estimate == 2
    for j in range(3):
        # Var_x(E[z|x]) = l² / (l² + s²), from 4,000 draws: five standard errors of a variance.
        activity = found[f"activity@unit0{j}"].estimate
        assert activity == pytest.approx(float(share[j]), abs=5 * float(share[j]) * 0.0224)
    kls = [found[f"kl@unit0{j}"].estimate for j in range(3)]
    assert sum(kls) == pytest.approx(found["rate"].estimate, rel=1e-6)
    assert kls[2] == pytest.approx(0, abs=1e-6)


def test_the_information_is_at_most_the_rate_and_the_logarithm_of_the_number():
    """For an exact posterior it is the mutual information ½ Σ log(1 + l²/s²), but for sampling."""
    net, x, _, share = linear()
    found = measured(net, x, n_information=1500)["mutual_information"]
    exact = -0.5 * float((1 - share).log().sum())
    assert found.n == 1500 and "7.31" in found.note  # log 1500
    # A mixture of 1,500 is a little too good at its own points: by 1/1500 of the density ratio.
    assert found.estimate == pytest.approx(exact, abs=2 * (found.high - found.low) / 2 + 0.02)
    assert measured(net, x)["mutual_information"].estimate < math.log(30)


def test_the_upper_layers_activity_is_that_of_its_mean_over_the_lower():
    """With h1|x ~ N(w x, s²) and E[h2|h1] = a h1 it is a² w² Var(x), whatever s is."""
    net = HierarchicalModel(
        LinearEncoder(1, 1),
        LinearEncoder(1, 1),
        nn.Linear(1, 1),
        LinearEncoder(1, 1),
        1,
        StandardNormal(1),
        Gaussian(),
    )
    with torch.no_grad():
        net.encoder.mean.weight.fill_(0.5)
        net.encoder.log_std.fill_(math.log(3.0))
        net.upper_encoder.mean.weight.fill_(0.4)
    x = draw(20_000, 1, stream="x")
    with torch.no_grad():
        seen = look(net, x, generator(0, "look"))
    variance = float(x.double().var(correction=0))
    assert float(seen.activity["h1"]) == pytest.approx(0.25 * variance, rel=1e-5)
    # Its noise: a² s² / 10 = .144 in either half, a deviation of .144 / √20000 in their product;
    # uncorrected it would be .184 and not .04.
    noise = 5 * (0.144 + 2 * 0.04) / math.sqrt(20_000)
    assert float(seen.activity["h2"]) == pytest.approx(0.04 * variance, abs=noise)
    assert seen.kl_per_unit is None


def test_the_bounds_rise_with_their_samples():
    for net, x in (binary(), binary(two_layers=True)):
        found = measured(net, x, rungs=[1, 5, 100])
        levels = [found[f"bound@k{k}"].estimate for k in (1, 5, 100)]
        assert levels == sorted(levels)
        assert 1 <= found["ess"].estimate <= 100
        assert 0 <= found["heavy_tails"].estimate <= 1
        again = measured(net, x, rungs=[1, 5, 100])
        assert {k: r.estimate for k, r in found.items()} == {
            k: r.estimate for k, r in again.items()
        }


def test_one_layer_has_plain_rows_and_two_have_rows_of_each():
    one, two = measured(*binary()), measured(*binary(two_layers=True))
    assert "active_units" in one and "active_units/h1" not in one
    assert {"active_units/h1", "active_units/h2", "activity/h1@unit03"} <= set(two)
    assert "kl@unit00" in one and not [key for key in two if key.startswith("kl")]


def test_every_number_of_drawn_pixels_names_their_seed():
    net, x = binary()
    found = measured(net, x)
    for key in ("elbo", "rate", "distortion", "bound@k1", "bound@k100"):
        assert "pixels drawn with seed 0" in found[key].note
    assert "random 40 of the test split" in found["bound@k1"].note
    assert "pixels" not in measured(*linear()[:2])["elbo"].note


def test_a_handful_of_weights_has_no_tail_and_one_no_error():
    found = measured(*binary(), rungs=[1, 4])
    assert "heavy_tails" not in found and "standard_error" in found
    found = measured(*binary(), rungs=[1])
    assert "standard_error" not in found and found["ess"].estimate == 1


def test_mistakes_are_named():
    net, x = binary()
    with pytest.raises(ValueError, match=r"rungs=\[1, 10, 25\]: each must divide"):
        LatentBounds([1, 10, 25])
    with pytest.raises(ValueError, match=r"rungs=\[\]: give one or more"):
        LatentBounds([])
    with pytest.raises(ValueError, match=r"rungs=\[10, 10\]"):
        LatentBounds([10, 10])
    with pytest.raises(ValueError, match=r"x = 0\.5; binarise"):
        measured(net, x / 2)
    with pytest.raises(ValueError, match=r"FCN is no latent model.*model=vae"):
        measured(FCN([6], 2), x)


def test_errors_and_heavy_tails_are_those_of_the_weights():
    """An encoder with too narrow a posterior: some tails are heavy, some are not."""
    net, x = binary()
    with torch.no_grad():
        for p in net.decoder.parameters():
            p *= 2
        net.encoder.output.bias[3:] -= 0.3
    found = measured(net, x, ladder_of="first")
    stream = generator(0, "latent bounds", "ladder")
    with torch.no_grad():
        logs = torch.cat(list(weigh(net, x[:40], 100, None, stream))).double()
    weights = logs.exp()
    errors = weights.std(0) / weights.mean(0) / 10  # of the mean of 100, over the mean
    assert found["standard_error"].estimate == pytest.approx(float(errors.mean()), rel=1e-6)
    heavy = int((estimate(logs).pareto_k > 0.7).sum())
    assert 0 < heavy < 20
    assert found["heavy_tails"].estimate == heavy / 40
    assert found["heavy_tails"].n == 40 and "finite" not in found["heavy_tails"].note


def test_the_informations_interval_is_1_96_standard_errors():
    net, x, *_ = linear()
    row = measured(net, x[:30], n_information=30)["mutual_information"]
    with torch.no_grad():
        q = net.posterior(x[:30])
    eps = torch.randn(1, 30, 3, generator=generator(0, "latent bounds", "information"))
    error = mutual_information(q, eps).standard_error
    assert row.high - row.estimate == pytest.approx(1.95996 * error, rel=1e-4)
    assert row.estimate - row.low == pytest.approx(1.95996 * error, rel=1e-4)


def test_tails_are_counted_over_the_examples_that_have_one():
    """An encoder that is right at x = 0 only: there all weights are equal, and have no tail."""
    net, x, *_ = linear()
    net, x = net.double(), x[:40].double().clone()
    x[:15] = 0
    with torch.no_grad():
        net.encoder.mean.weight *= 0.5
        # At once exact in double precision, which the float32 columns of the decoder are not.
        total = net.decoder.weight.square().sum(0) + (2 * net.head.log_std).exp()
        net.decoder.weight.copy_(torch.eye(5, 3).double() * net.decoder.weight.norm(dim=0))
        net.encoder.log_std.copy_(net.head.log_std - 0.5 * total.log())
    found = measured(net, x, ladder_of="first")
    tails = found["heavy_tails"]
    assert tails.n == 25 and tails.note.endswith("; 25 of 40 are finite")
    assert found["standard_error"].n == 40 and "finite" not in found["standard_error"].note
