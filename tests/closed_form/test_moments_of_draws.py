"""Streamed moments against those of all draws at once; moments of means against a closed form."""

import math
from functools import partial

import pytest
import torch

from udl_lab.closed_form.moments import Moments, Running, means, stream
from udl_lab.randomness import generator

NORMAL = Moments(0.0, 1.0, 3.0)


def noise(n, name="x"):
    return torch.randn(n, dtype=torch.float64, generator=generator(0, name))


def test_chunks_together_have_the_moments_of_all_draws_at_once():
    # Far from 0, where a sum of squares less n mean² would lose ten of sixteen digits.
    x = 1e5 + noise(1000)
    total = Running.of(x[:1])
    for chunk in x[1:].split(77):
        total = total.plus(Running.of(chunk))
    assert total.count == 1000
    assert total.mean == pytest.approx(float(x.mean()), rel=1e-14)
    # Each deviation is rounded by 1e5 * 1e-16, against 1.
    assert total.variance == pytest.approx(float(x.var()), rel=1e-9)
    assert total.standard_error == pytest.approx(float(x.std()) / math.sqrt(1000), rel=1e-9)


def test_a_stream_never_asks_for_more_than_a_chunk_and_gives_every_draw_once():
    sizes = []

    def draws(eps):
        sizes.append(eps.numel())
        return eps + 3

    total = stream(draws, 1000, generator(0, "s"), chunk=300)
    assert sizes == [300, 300, 300, 100]
    assert total.count == 1000
    again = generator(0, "s")
    parts = [torch.randn(n, 1, generator=again, dtype=torch.float64) for n in sizes]
    assert total.mean == pytest.approx(float(torch.cat(parts).mean()) + 3, rel=1e-12)


@pytest.mark.parametrize("n", [7, 30])
def test_means_are_of_n_draws_each_whether_they_fit_into_a_chunk_or_not(n):
    sizes = []

    def draws(eps):
        sizes.append(eps.numel())
        return eps

    found = means(draws, n, 400, generator(0, "m"), chunk=20)
    assert max(sizes) <= 20
    assert sum(sizes) == 400 * n
    assert found.shape == (400,)
    law = NORMAL.of_mean(n)
    measured = Running.of(found)
    assert abs(measured.mean) < 4 * math.sqrt(law.variance / 400)
    assert abs(measured.variance - law.variance) < 4 * law.variance_error(400)


def test_the_effective_share_of_a_law_is_its_squared_mean_over_its_mean_square():
    """Of a coin that is 1 with probability p: p² / p, the share of draws that are not 0."""
    p = 0.3
    assert Moments(p, p * (1 - p), 1.0).effective_share == pytest.approx(p, rel=1e-15)
    assert Moments(5.0, 0.0, 0.0).effective_share == 1
    assert Moments(5.0, math.inf, math.inf).effective_share == 0


def test_moments_of_a_mean_are_those_of_the_binomial_law():
    # One draw is 1 with probability .3; a mean of n is a binomial number over n, in closed form.
    p, n = 0.3, 9
    one = Moments(p, p * (1 - p), p * (1 - p) * ((1 - p) ** 3 + p**3))
    chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    away = [k / n - p for k in range(n + 1)]
    found = one.of_mean(n)
    assert found.variance == pytest.approx(
        sum(c * a**2 for c, a in zip(chance, away, strict=True)), rel=1e-12
    )
    assert found.fourth == pytest.approx(
        sum(c * a**4 for c, a in zip(chance, away, strict=True)), rel=1e-12
    )
    assert one.of_mean(1) == one


def test_the_error_of_a_sample_variance_is_that_of_chi_squared_for_normal_draws():
    for n in (2, 3, 50):
        assert NORMAL.variance_error(n) == pytest.approx(math.sqrt(2 / (n - 1)), rel=1e-12)


def test_infinite_moments_stay_infinite_and_a_single_draw_has_no_variance():
    heavy = Moments(1.0, 2.0, math.inf)
    assert heavy.of_mean(10).fourth == math.inf
    assert heavy.of_mean(10).variance == 0.2
    assert heavy.variance_error(10) == math.inf
    assert Moments(1.0, math.inf, math.inf).of_mean(1).fourth == math.inf
    assert math.isnan(stream(lambda eps: eps, 1, generator(0, "one")).variance)


def test_empty_samples_are_refused():
    same = partial(torch.mul, 1)
    with pytest.raises(ValueError, match=r"n = 0; give at least 1"):
        stream(same, 0, generator(0, "x"))
    with pytest.raises(ValueError, match=r"chunk = 0; give at least 1"):
        stream(same, 5, generator(0, "x"), chunk=0)
    with pytest.raises(ValueError, match=r"repeats = 0"):
        means(same, 5, 0, generator(0, "x"))
    with pytest.raises(ValueError, match=r"mean of 0 draws"):
        NORMAL.of_mean(0)
    with pytest.raises(ValueError, match=r"1 draws have no sample variance"):
        NORMAL.variance_error(1)
