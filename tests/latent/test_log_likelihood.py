"""Importance sampling where log p(x) is known, and its warnings where they are due."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from udl_lab.latent.linear import PPCA
from udl_lab.latent.log_likelihood import (
    RunningEstimate,
    _bytes_kept,
    bytes_per_sample,
    estimate,
    importance_log_likelihood,
    ladder,
    weigh,
)
from udl_lab.latent.memory import peak_bytes
from udl_lab.latent.mlp_vae import MLPVAE, LinearVAE, TwoLayerVAE
from udl_lab.latent.pareto import pareto_shape, tail_length
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of
from udl_lab.randomness import generator, seeded

RUNGS = [1, 10, 100, 1000, 5000]


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "likelihood", stream), dtype=torch.float64)


def linear():
    """Probabilistic PCA, and the same as a linear VAE whose posterior is exact."""
    weight = torch.linalg.qr(normal(5, 2, stream="weight")).Q * 1.4
    law = PPCA(normal(5, stream="mean"), weight, 0.5)
    with seeded(0, "net"):
        model = LinearVAE((5,), 2).double()
    total = weight.square().sum(0) + 0.5
    inverse = weight.T / total[:, None]
    with torch.no_grad():
        model.decoder.weight.copy_(weight)
        model.decoder.bias.copy_(law.mean)
        model.encoder.mean.weight.copy_(inverse)
        model.encoder.mean.bias.copy_(-inverse @ law.mean)
        model.encoder.log_std.copy_(0.5 * (0.5 / total).log())
        model.head.log_std.fill_(0.5 * math.log(0.5))
    return law, model, law.sample(6, generator(0, "x"))


def log_weights_of_a_wrong_posterior(n, k):
    """Weights of the same x: the law is N(0, 1), the proposal N(.5, 1.3^2), so p(x) = 1."""
    z = 0.5 + 1.3 * normal(k, n, stream="wrong")
    target, proposal = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.5, 1.3)
    return target.log_prob(z) - proposal.log_prob(z)


def pareto_weights(shape, k=5000, n=200):
    uniform = torch.rand(k, n, generator=generator(0, "pareto"), dtype=torch.float64)
    return -shape * uniform.log()  # log of a Pareto number whose tail has this shape


def test_an_exact_posterior_needs_one_sample():
    law, model, x = linear()
    for k in (1, 50):
        found = importance_log_likelihood(model, x, k, None, generator(0, "eps"))
        torch.testing.assert_close(found.log_likelihood, law.log_prob(x), rtol=0, atol=1e-10)
        torch.testing.assert_close(found.ess, torch.full((6,), k).double(), rtol=1e-9, atol=0)
    assert found.standard_error.max() < 1e-8
    assert found.pareto_k.isnan().all()  # no tail to judge


def test_a_bernoulli_decoder_agrees_with_quadrature_within_its_standard_error():
    with seeded(0, "net"):
        model = MLPVAE((6,), 2, widths=(9,)).double()
    model.encoder.output.weight.data *= 0.3  # q is then near the prior, and its weights even
    x = (normal(40, 6, stream="pixels") > 0).double()
    exact = log_evidence(log_likelihood_of(model, x), 2, 161).log_prob
    found = importance_log_likelihood(model, x, 2000, 500, generator(0, "eps"))
    scores = (found.log_likelihood - exact) / found.standard_error
    assert scores.abs().max() < 4.5
    assert 0.7 < scores.std() < 1.3  # 40 scores: their deviation is 1 +- .11
    assert found.pareto_k.max() < 0.7


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    logs = log_weights_of_a_wrong_posterior(4000, 200)
    found = estimate(logs)
    spread = found.log_likelihood.std()
    # The deviation of 4000 numbers is known to 1.1 %; the delta method errs by order 1 / k.
    assert float(found.standard_error.square().mean().sqrt() / spread) == pytest.approx(1, abs=0.05)
    ess = logs.exp().sum(0).square() / logs.exp().square().sum(0)
    torch.testing.assert_close(found.ess, ess)
    error = logs.exp().std(0) / logs.exp().mean(0) / math.sqrt(200)
    torch.testing.assert_close(found.standard_error, error)


def test_weights_that_underflow_are_handled_in_logs():
    logs = log_weights_of_a_wrong_posterior(3, 200)
    low, high = estimate(logs), estimate(logs - 5000)
    torch.testing.assert_close(high.log_likelihood, low.log_likelihood - 5000, rtol=0, atol=1e-9)
    torch.testing.assert_close(high.standard_error, low.standard_error, rtol=1e-8, atol=0)
    torch.testing.assert_close(high.pareto_k, low.pareto_k, rtol=0, atol=1e-8)


def test_one_sample_has_no_standard_error():
    found = estimate(normal(1, 3, stream="one"))
    assert found.standard_error.isnan().all()
    assert found.ess.tolist() == pytest.approx([1, 1, 1])


def test_chunks_of_weights_give_what_all_weights_give():
    logs = log_weights_of_a_wrong_posterior(5, 1000)
    running = RunningEstimate(1000)
    for part in logs.split(30):
        running.add(part)
    whole, parts = estimate(logs), running.estimate()
    for name in ("log_likelihood", "standard_error", "ess", "pareto_k"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=0)
    with pytest.raises(ValueError, match="1000 weights were added of the 1001"):
        running.k = 1001
        running.estimate()


@pytest.mark.parametrize("kind", ["one layer", "two layers"])
def test_the_chunk_changes_nothing(kind):
    with seeded(0, "net"):
        model = (
            MLPVAE((6,), 3, widths=(9,))
            if kind == "one layer"
            else TwoLayerVAE((6,), (4, 3), (9,), (7,))
        ).double()
    x = (normal(4, 6, stream="pixels") > 0).double()
    found = [
        importance_log_likelihood(model, x, 50, chunk, generator(0, "eps")).log_likelihood
        for chunk in (1, 7, 50, None)
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-12)


def test_an_example_is_encoded_once():
    with seeded(0, "net"):
        model = MLPVAE((6,), 3, widths=(9,))
    x = (torch.arange(24).reshape(4, 6) % 2).float()
    calls = []
    weights = weigh(model, x, 20, 5, generator(0, "eps"))
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    assert torch.cat(list(weights)).shape == (20, 4)
    assert not calls


def test_the_ladder_rises_for_every_example_and_ends_at_the_estimate():
    logs = log_weights_of_a_wrong_posterior(50, 5000)
    rungs = ladder(logs, RUNGS)
    assert (rungs.diff(dim=0) >= 0).all()
    torch.testing.assert_close(rungs[0], logs.mean(0))
    torch.testing.assert_close(rungs[-1], estimate(logs).log_likelihood)
    torch.testing.assert_close(
        rungs[1, 0], logs[:, 0].reshape(500, 10).logsumexp(1).mean() - math.log(10)
    )


def test_a_wrong_posterior_climbs_to_the_truth_and_not_above():
    """L_1 < L_5 < L_50 < log p = 0: each bound's mean over 40000 repeats, with its error."""
    logs = log_weights_of_a_wrong_posterior(40_000, 50)
    rungs = ladder(logs, [1, 5, 50])
    mean, error = rungs.mean(1), rungs.std(1) / math.sqrt(40_000)
    # L_1 = -KL(q || p) of two normals.
    assert float(mean[0]) == pytest.approx(
        -(0.25 + 1.69 - 1) / 2 + math.log(1.3), abs=5 * float(error[0])
    )
    assert (mean.diff() > 5 * error[1:]).all()
    assert mean[-1] < -3 * error[-1]


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0, 2.0])
def test_the_shape_of_a_pareto_tail_is_found(shape):
    found = estimate(pareto_weights(shape)).pareto_k
    # 213 weights in the tail; the prior pulls by 10 / 223 towards one half.
    expected = (213 * shape + 5) / 223
    assert float(found.mean()) == pytest.approx(expected, abs=0.04)
    # The deviation of the maximum-likelihood estimate from m Pareto numbers: (1 + k) / sqrt m.
    assert float(found.std()) == pytest.approx((1 + shape) / math.sqrt(213), rel=0.3)


def test_the_shape_agrees_with_maximum_likelihood():
    logs = pareto_weights(0.7, n=3)
    found = pareto_shape(logs.sort(0, descending=True).values, 5000)
    for i in range(3):
        weights = np.sort(logs[:, i].exp().numpy())
        excess = weights[-213:] - weights[-214]
        peer = stats.genpareto.fit(excess, floc=0)[0]
        assert float(found[i]) == pytest.approx((213 * peer + 5) / 223, abs=0.02)


def test_a_narrow_proposal_is_found_out():
    """Deviations .5 against 1: the weights' tail has the shape 1 - .25 = .75."""
    z = 0.5 * normal(5000, 40, stream="narrow")
    target, proposal = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 0.5)
    narrow = estimate(target.log_prob(z) - proposal.log_prob(z)).pareto_k
    wide = estimate(log_weights_of_a_wrong_posterior(40, 5000)).pareto_k
    assert float(narrow.mean()) > 0.6 > 0.3 > float(wide.mean())


def test_the_tail_is_a_fifth_of_few_and_a_root_of_many():
    assert [tail_length(k) for k in (10, 100, 225, 5000)] == [2, 20, 45, 213]
    assert estimate(normal(20, 2, stream="few")).pareto_k.isnan().all()  # 4 in the tail
    assert estimate(normal(25, 2, stream="few")).pareto_k.isfinite().all()


def test_the_stated_bytes_are_what_a_chunk_takes():
    for model in (MLPVAE((64,), 5, widths=(90,)), TwoLayerVAE((64,), (9, 5), (90,), (30,))):
        x = (torch.arange(640).reshape(10, 64) % 3 == 0).float()
        stated = 16 * bytes_per_sample(model, x)
        taken = peak_bytes(
            lambda m=model, x=x: importance_log_likelihood(m, x, 48, 16, generator(0))
        )
        assert 0.85 * stated < taken <= stated
        assert taken > 16 * 10 * 64 * 4  # at the least the decoder's outputs


@pytest.mark.parametrize("k", [50, 600])
def test_no_more_than_the_stated_memory_is_taken(k):
    """Of small models too, whose noise and weights are much beside their networks' numbers."""
    models = [
        LinearVAE((6,), 3),
        MLPVAE((6,), 40, widths=(3,)),
        MLPVAE((64,), 5, widths=(90,)),
        TwoLayerVAE((6,), (4, 3), (9,), (7,)),
    ]
    for model in models:
        d = 64 if model.n_noise == 5 else 6
        x = (torch.arange(10 * d).reshape(10, d) % 3 == 0).float()
        for most in (120_000, 400_000):
            taken = peak_bytes(
                lambda m=model, x=x, b=most: importance_log_likelihood(
                    m, x, k, None, generator(0), max_bytes=b
                )
            )
            assert taken <= most


def test_the_sums_of_the_weights_are_counted_where_they_are_most_of_the_memory():
    """Of a model with next to no network, in single precision, beside its densities alone."""
    model, x = LinearVAE((1,), 1), torch.zeros(50, 1)
    with torch.no_grad():
        densities = peak_bytes(lambda: model.terms(x, torch.zeros(2, 50, 1))) / 2
    # Besides them two doubles per weight: the weight, and it behind the largest of before.
    assert bytes_per_sample(model, x) > densities + 2 * 8 * 50


def test_memory_is_counted_until_the_last_view_is_gone():
    def work():
        a = torch.zeros(1000, dtype=torch.float64)
        view = a[:10]
        del a
        b = torch.ones(500, dtype=torch.float64)
        del view
        torch.ones(400, dtype=torch.float64)
        return b

    assert peak_bytes(work) == 8 * 1500
    before = torch.zeros(10)
    assert peak_bytes(lambda: before.add_(1)) == 0


def test_what_cannot_be_computed_is_refused():
    model = MLPVAE((6,), 3, widths=(9,))
    x = (torch.arange(24).reshape(4, 6) % 2).float()
    one = bytes_per_sample(model, x)
    with pytest.raises(ValueError, match="k=0"):
        importance_log_likelihood(model, x, 0, None, generator(0))
    with pytest.raises(ValueError, match="k=0"):
        estimate(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="chunk=0: take 1 to"):
        importance_log_likelihood(model, x, 5, 0, generator(0))
    kept = _bytes_kept(100, 4)
    with pytest.raises(ValueError, match=rf"chunk=30 takes {30 * one} bytes.*chunk 12 fits"):
        importance_log_likelihood(model, x, 100, 30, generator(0), max_bytes=12 * one + kept + 3)
    with pytest.raises(ValueError, match="fewer examples"):
        importance_log_likelihood(model, x, 100, None, generator(0), max_bytes=one - 1)
    with pytest.raises(ValueError, match="k=11: a group is of 1 to 10"):
        ladder(torch.zeros(10, 2), [1, 11])
