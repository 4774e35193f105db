"""Notebook 17.3: moments by adaptive quadrature and closed forms; when a variance is infinite."""

import itertools
import math
from functools import partial

import pytest
import torch
from scipy import integrate, stats

from udl_lab.closed_form.importance_sampling import (
    COMMON,
    ONE,
    RARE,
    Best,
    Bump,
    Normal,
    P,
    effective_sample_size,
    effective_share,
    exact,
    importance_sampled,
    plain,
    smallest_std,
    weighted,
)
from udl_lab.closed_form.moments import Running, means, stream
from udl_lab.randomness import generator

BELL = Bump(2.0, 0.5, rate=0.7, power=2)  # with everything in closed form


def notebook_f(y):
    return math.exp(-((y - 1) ** 4))


def notebook_f2(y):
    return 20.446 * math.exp(-((y - 3) ** 4))


def by_quadrature(f, q_mean, q_std, mean, power):
    """The central moment of f p / q by scipy's adaptive rule, over pieces with one bump each."""
    p, q = stats.norm(), stats.norm(q_mean, q_std)

    def integrand(y):
        return (f(y) * p.pdf(y) / q.pdf(y) - mean) ** power * q.pdf(y)

    cuts = [-12, *range(-9, 13), 15]
    parts = [
        integrate.quad(integrand, a, b, epsabs=1e-14, epsrel=1e-12)[0]
        for a, b in itertools.pairwise(cuts)
    ]
    return math.fsum(parts)


def draws_of(f, q):
    return partial(plain, f) if q == P else partial(importance_sampled, f, q)


CASES = [(COMMON, notebook_f, P), (RARE, notebook_f2, P), (RARE, notebook_f2, Normal(3.0, 1.0))]
IDS = ["f", "f2", "f2 from N(3, 1)"]


@pytest.mark.parametrize("f, plainly, q", CASES, ids=IDS)
def test_moments_are_integrals(f, plainly, q):
    found = exact(f, q)
    integral, _ = integrate.quad(
        lambda y: plainly(y) * stats.norm.pdf(y), f.centre - 4, f.centre + 4, epsabs=1e-14
    )
    assert found.mean == pytest.approx(integral, abs=1e-10)
    for power, moment in ((2, found.variance), (4, found.fourth)):
        expected = by_quadrature(plainly, q.mean, q.std, integral, power)
        assert moment == pytest.approx(expected, rel=1e-10)


def test_a_bell_has_every_moment_in_closed_form():
    # Products of Gaussians: the integral of exp(-A y² + B y - C) is sqrt(pi / A) e^{B²/4A - C}.
    q, r, c, h = Normal(0.4, 0.9), BELL.rate, BELL.centre, BELL.height

    def raw(k):
        """The integral of (f p)^k / q^(k-1)."""
        a = k * (r + 0.5) - (k - 1) / (2 * q.std**2)
        b = k * 2 * r * c - (k - 1) * q.mean / q.std**2
        rest = k * r * c**2 - (k - 1) * q.mean**2 / (2 * q.std**2)
        scale = h**k * (2 * math.pi) ** (-1 / 2) * q.std ** (k - 1)
        return scale * math.sqrt(math.pi / a) * math.exp(b**2 / (4 * a) - rest)

    m = raw(1)
    found = exact(BELL, q)
    assert found.mean == pytest.approx(m, rel=1e-12)
    assert found.variance == pytest.approx(raw(2) - m**2, rel=1e-11)
    fourth = raw(4) - 4 * raw(3) * m + 6 * raw(2) * m**2 - 3 * m**4
    assert found.fourth == pytest.approx(fourth, rel=1e-10)


@pytest.mark.parametrize("f, _, q", CASES, ids=IDS)
def test_draws_have_the_exact_mean_and_variance(f, _, q):
    n = 400_000
    law = exact(f, q)
    found = stream(draws_of(f, q), n, generator(0, "draws", f.centre > 2, q.mean > 0))
    assert abs(found.mean - law.mean) < 4 * math.sqrt(law.variance / n)
    assert abs(found.variance - law.variance) < 3 * law.variance_error(n)


@pytest.mark.parametrize("f, _, q", CASES, ids=IDS)
def test_means_of_n_draws_have_a_variance_over_n(f, _, q):
    for n in (1, 10, 100):
        law = exact(f, q).of_mean(n)
        found = Running.of(means(draws_of(f, q), n, 4000, generator(0, "means", f.centre > 2, n)))
        assert abs(found.variance - law.variance) < 4 * law.variance_error(4000)


def test_every_draw_of_the_best_density_is_the_answer():
    y = torch.linspace(-4, 7, 40, dtype=torch.float64)
    for f in (COMMON, RARE, BELL):
        best = Best(f)
        drawn = weighted(f, best, y)
        torch.testing.assert_close(drawn, torch.full_like(y, exact(f).mean), rtol=1e-12, atol=0)
        found = exact(f, best)
        assert 0 <= found.variance < 1e-28
        assert effective_share(f, best) == pytest.approx(1, abs=1e-14)


def test_the_best_density_of_a_bell_is_its_matched_normal():
    # f p is a Gaussian: precision 1 + 2 rate, mean 2 rate centre / precision.
    precision = 1 + 2 * BELL.rate
    found = Best(BELL).matched_normal()
    assert found.mean == pytest.approx(2 * BELL.rate * BELL.centre / precision, rel=1e-12)
    assert found.std == pytest.approx(precision**-0.5, rel=1e-12)
    assert exact(BELL, found).variance < 1e-20


def test_a_matched_normal_beats_the_notebooks_choice_which_beats_plain_draws():
    matched = exact(RARE, Best(RARE).matched_normal()).variance
    chosen, untouched = (exact(RARE, q).variance for q in (Normal(3.0, 1.0), P))
    assert matched < chosen < untouched
    assert untouched / chosen == pytest.approx(18.42, abs=0.01)  # 5.7430 / .31170, by quadrature


def test_the_plain_estimator_is_importance_sampling_from_p():
    eps = torch.randn(50, dtype=torch.float64, generator=generator(0, "eps"))
    torch.testing.assert_close(plain(RARE, eps), importance_sampled(RARE, P, eps))


def test_weights_stay_finite_where_both_densities_round_to_0():
    far = torch.tensor([60.0], dtype=torch.float64)
    assert float(weighted(ONE, Normal(0.0, 1.0), far)) == 1.0
    # p/q = e^{-3 y + 9/2} for q = N(3, 1).
    ratio = float(weighted(ONE, Normal(3.0, 1.0), -far))
    assert ratio == pytest.approx(math.exp(184.5), rel=1e-10)


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.2])
@pytest.mark.parametrize("std", [0.75, 0.9, 1.0, 1.6])
def test_the_share_of_the_weights_is_in_closed_form(mean, std):
    # The integral of p²/q is std² / sqrt(2 std² - 1) e^{mean² / (2 std² - 1)}.
    gap = 2 * std**2 - 1
    expected = math.sqrt(gap) / std**2 * math.exp(-(mean**2) / gap)
    assert effective_share(ONE, Normal(mean, std)) == pytest.approx(expected, rel=1e-11)


def test_the_weights_alone_condemn_a_proposal_that_suits_the_rare_event():
    q = Normal(3.0, 1.0)
    assert effective_share(ONE, q) == pytest.approx(math.exp(-9), rel=1e-11)
    assert effective_share(RARE, q) > 10 * effective_share(RARE)


@pytest.mark.parametrize("f, limit", [(ONE, math.sqrt(1 / 2)), (BELL, math.sqrt(1 / 4.8))])
def test_the_variance_is_infinite_up_to_the_smallest_std_and_finite_above(f, limit):
    assert smallest_std(f) == pytest.approx(limit, rel=1e-14)
    for mean in (0.0, 0.3):
        assert exact(f, Normal(mean, limit * 0.999)).variance == math.inf
        assert exact(f, Normal(mean, smallest_std(f))).variance == math.inf
    assert effective_share(f, Normal(0.0, limit / 2)) == 0.0
    assert exact(f, Normal(0.0, limit * 1.01)).variance < math.inf
    # As the integral over [-R, R] says: it grows with R below the limit and stops above it.
    for std, grows in ((0.9 * limit, True), (1.1 * limit, False)):
        q = Normal(0.0, std)
        near, far = (second_moment_within(f, q, reach) for reach in (15.0, 25.0))
        assert (far > 10 * near) == grows
        assert (far == pytest.approx(near, rel=1e-6)) != grows


def second_moment_within(f, q, reach):
    y = torch.linspace(-reach, reach, 20_001, dtype=torch.float64)
    return float(torch.trapezoid((2 * f.log(y) + 2 * P.log_prob(y) - q.log_prob(y)).exp(), y))


def test_higher_moments_need_wider_proposals_and_a_quartic_needs_none():
    assert smallest_std(ONE, 4) == pytest.approx(math.sqrt(3 / 4), rel=1e-14)
    between = exact(ONE, Normal(0.0, 0.8))  # above sqrt(1/2), below sqrt(3/4)
    assert between.variance < math.inf
    assert between.fourth == math.inf
    assert smallest_std(COMMON) == smallest_std(RARE, 4) == 0.0
    # Finite, and a fifth of p's width is already far worse than no importance sampling at all.
    assert 1e8 < exact(RARE, Normal(3.0, 0.2)).variance < 1e9
    assert exact(RARE, Normal(3.0, 0.03)).variance == math.inf  # beyond float64, not infinite


@pytest.mark.parametrize(
    "printed, f, q",
    [
        (0.43160702267383166, COMMON, P),
        (0.43160428638892556, RARE, P),
        (0.43163734204459125, RARE, Normal(3.0, 1.0)),
    ],
)
def test_the_notebooks_true_values_are_estimates(printed, f, q):
    """Of 1e8 draws: some standard errors from the integral, and far further than rounding."""
    law = exact(f, q)
    away = abs(printed - law.mean) / math.sqrt(law.variance / 1e8)
    assert 0.05 < away < 2


def test_the_two_functions_have_nearly_the_same_mean():
    """20.446 was chosen for it; the three dashed lines of the notebook are two numbers."""
    assert exact(COMMON).mean == pytest.approx(0.4315874422, abs=1e-10)
    assert exact(RARE).mean == pytest.approx(0.4316417233, abs=1e-10)


def test_the_effective_sample_size_is_the_number_of_equal_weights():
    equal = torch.full((8,), 1e-200, dtype=torch.float64)  # their squares round to 0
    assert effective_sample_size(equal) == pytest.approx(8, rel=1e-14)
    one = torch.tensor([0.0, 0.0, 5.0])
    assert effective_sample_size(one) == 1.0
    # Over many draws it approaches the share mean² / E[w²]. The relative deviations of w and of
    # w² are 1.29 and 1.79, by quadrature: (2 * 1.29 + 1.79) / sqrt(n) = 1 %, and here twice.
    n = 200_000
    eps = torch.randn(n, dtype=torch.float64, generator=generator(0, "ess"))
    q = Normal(3.0, 1.0)
    found = effective_sample_size(importance_sampled(RARE, q, eps)) / n
    assert found == pytest.approx(effective_share(RARE, q), rel=0.02)


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"std=0.0\): give a finite mean and a std above 0"):
        Normal(1.0, 0.0)
    with pytest.raises(ValueError, match=r"height above 0"):
        Bump(-1.0, 0.0)
    with pytest.raises(ValueError, match=r"use Best\(f\)"):
        exact(COMMON, Best(RARE))
    with pytest.raises(ValueError, match=r"moment = 1; give 2"):
        smallest_std(ONE, 1)
    with pytest.raises(ValueError, match=r"more than \d+ points"):
        exact(RARE, Normal(3.0, 1e-8))
    with pytest.raises(ValueError, match=r"a weight is -1.0"):
        effective_sample_size(torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"all 2 weights are 0"):
        effective_sample_size(torch.zeros(2))
