"""Diagnostics of encoders whose answers are known."""

import math

import pytest
import torch

from udl_lab.latent.diagnostics import (
    log_aggregate_posterior,
    mutual_information,
    unit_activity,
)
from udl_lab.latent.normal import Normal
from udl_lab.randomness import generator


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "diagnostics", stream), dtype=torch.float64)


def encoder(n=30, latent=3):
    return Normal(2 * normal(n, latent, stream="mean"), -1 + 0.3 * normal(n, latent, stream="std"))


def test_the_activity_of_a_unit_is_the_variance_of_its_mean_over_examples():
    means = torch.tensor(
        [[1.0, 0.05, 5.0], [-1.0, -0.05, 5.0], [1.0, 0.05, 5.3], [-1.0, -0.05, 5.3]]
    )
    assert unit_activity(means).tolist() == pytest.approx([1, 0.0025, 0.0225], rel=1e-5)


def test_the_aggregate_posterior_is_the_mixture_of_all_examples():
    q, z = encoder(), 3 * normal(17, 3, stream="z")
    components = torch.distributions.Independent(
        torch.distributions.Normal(q.mean, q.log_std.exp()), 1
    )
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(30).double()), components
    )
    for chunk in (5, 1000):
        found = log_aggregate_posterior(q, z, chunk)
        torch.testing.assert_close(found, mixture.log_prob(z), rtol=0, atol=1e-11)


def test_narrow_posteriors_far_from_the_origin_lose_no_digits():
    """Means near 100 and deviations of .001: squares of 1e10 must not eat the log-density."""
    q = Normal(100 + 0.01 * normal(8, 2, stream="m"), torch.full((8, 2), math.log(1e-3)).double())
    z = q.sample(normal(8, 2, stream="e"))
    each = torch.stack(
        [Normal(m, s).log_prob(z) for m, s in zip(q.mean, q.log_std, strict=True)], 1
    )
    exact = each.logsumexp(1) - math.log(8)
    torch.testing.assert_close(log_aggregate_posterior(q, z), exact, rtol=0, atol=1e-8)


def test_the_aggregate_posterior_integrates_to_one_on_a_grid():
    q = encoder(latent=2)
    axis = torch.arange(-10, 10, 0.1, dtype=torch.float64)
    total = log_aggregate_posterior(q, torch.cartesian_prod(axis, axis)).exp().sum() * 0.01
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_an_encoder_that_ignores_x_tells_nothing():
    q = Normal(torch.full((50, 2), 0.3).double(), torch.full((50, 2), -0.5).double())
    found = mutual_information(q, normal(4, 50, 2, stream="eps"))
    assert found.mutual_information == pytest.approx(0, abs=1e-12)


def test_an_encoder_that_tells_all_apart_reaches_the_limit():
    q = Normal(100 * torch.arange(64.0)[:, None].double(), torch.zeros(64, 1).double())
    found = mutual_information(q, normal(3, 64, 1, stream="eps"))
    assert found.mutual_information == pytest.approx(math.log(64), abs=1e-10)
    assert found.limit == math.log(64)


def test_the_information_of_a_normal_channel_is_known():
    """Means N(0, s^2), noise N(0, t^2): log(1 + s^2 / t^2) / 2, from many examples."""
    n, ratio = 4000, 3.0
    mean = ratio * 0.5 * normal(n, 1, stream="channel")
    q = Normal(mean, torch.full((n, 1), math.log(0.5)).double())
    found = mutual_information(q, normal(1, n, 1, stream="eps"))
    exact = 0.5 * math.log(1 + ratio**2)
    # The mixture of n examples in place of the population: lower by about 1 / n per independent
    # cell of z, of which there are some ten: .003.
    assert abs(found.mutual_information - exact) < 4 * found.standard_error + 0.005
    assert found.standard_error < 0.02


def test_rate_less_information_is_the_marginal_divergence():
    """Hoffman & Johnson's split, with KL(q(z) || p(z)) by a sum over a grid."""
    q = Normal(normal(12, 1, stream="m"), -1 + 0.2 * normal(12, 1, stream="s"))
    found = mutual_information(q, normal(20_000, 12, 1, stream="eps"), chunk=60_000)
    axis = torch.arange(-9, 9, 0.01, dtype=torch.float64)[:, None]
    log_q = log_aggregate_posterior(q, axis)
    log_p = -0.5 * (axis[:, 0].square() + math.log(2 * math.pi))
    marginal = float((log_q.exp() * (log_q - log_p)).sum() * 0.01)
    rate = float(q.kl().sum(1).mean())
    # 240,000 draws of a number whose deviation is under one.
    assert rate - found.mutual_information == pytest.approx(marginal, abs=5 / math.sqrt(240_000))


def test_a_part_of_the_examples_gives_less_on_average():
    q = encoder(n=60, latent=1)
    eps = normal(200, 60, 1, stream="eps")
    whole = mutual_information(q, eps).mutual_information
    parts = [
        mutual_information(Normal(q.mean[i::6], q.log_std[i::6]), eps[:, i::6]).mutual_information
        for i in range(6)
    ]
    assert sum(parts) / 6 < whole
