"""Notebook 17.2: closed forms by quadrature and autograd, estimators by their exact moments."""

import math
from functools import partial

import pytest
import torch
from scipy import integrate, optimize, stats

from udl_lab.closed_form.gradient_estimators import (
    LARGEST_PHI,
    best_baseline,
    derivative,
    exact,
    expectation,
    f,
    reparameterised,
    score,
    score_function,
    values,
    variance_ratio,
)
from udl_lab.closed_form.moments import Running, means, stream
from udl_lab.randomness import generator

PHIS = (-1.5, -0.8, -0.1, 0.0, 0.3, 0.5, 1.0, 1.5)
ESTIMATORS = {
    "values": values,
    "reparameterised": reparameterised,
    "score": score_function,
    "baseline": partial(score_function, baseline=7.0),
}


def by_quadrature(function, phi, *others):
    """The mean of function(x) over x itself, adaptively: no eps and no Gauss-Hermite nodes."""
    law = stats.norm(phi**3, math.exp(phi))
    ends = law.mean() - 12 * law.std(), law.mean() + 12 * law.std()
    found, _ = integrate.quad(
        lambda x: function(x) * law.pdf(x), *ends, epsabs=1e-11, epsrel=1e-12, limit=200
    )
    return found


def noise(n, *name):
    return torch.randn(n, dtype=torch.float64, generator=generator(0, *name))


def test_the_expectation_is_the_integral():
    for phi in PHIS:
        integral = by_quadrature(lambda x: x**2 + math.sin(x), phi)
        assert float(expectation(phi)) == pytest.approx(integral, abs=1e-10)


def test_the_derivative_is_that_of_the_expectation_and_the_integral_of_the_moved_density():
    phi = torch.tensor(PHIS, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(expectation(phi).sum(), phi)
    torch.testing.assert_close(derivative(phi.detach()), slopes, rtol=1e-14, atol=1e-13)
    for p in PHIS:

        def moved(x, p=p):
            eps = (x - p**3) * math.exp(-p)
            return (x**2 + math.sin(x)) * (eps**2 - 1 + 3 * p**2 * math.exp(-p) * eps)

        # At most 85.7 large: 1e-10 is some 1e-12 of it.
        assert float(derivative(p)) == pytest.approx(by_quadrature(moved, p), abs=1e-10)


def test_the_known_values_are_met():
    assert float(expectation(0.5)) == pytest.approx(2.7659334442, abs=5e-11)
    assert float(derivative(0.5)) == pytest.approx(5.72816410791, abs=5e-12)
    lowest = optimize.brentq(lambda p: float(derivative(p)), -1, -0.5, xtol=1e-12)
    assert lowest == pytest.approx(-0.8037805, abs=5e-8)
    assert float(expectation(lowest)) == pytest.approx(0.0210848, abs=5e-8)


@pytest.mark.parametrize("phi", PHIS)
def test_every_reparameterised_draw_is_autograds_with_eps_held(phi):
    eps = noise(200, "eps")
    p = torch.full_like(eps, phi, requires_grad=True)
    (slopes,) = torch.autograd.grad(f(p**3 + p.exp() * eps).sum(), p)
    torch.testing.assert_close(reparameterised(phi, eps), slopes, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("phi", PHIS)
def test_every_score_draw_is_autograds_with_x_held(phi):
    eps = noise(200, "eps")
    p = torch.full_like(eps, phi, requires_grad=True)
    x = phi**3 + math.exp(phi) * eps
    log_prob = torch.distributions.Normal(p**3, p.exp()).log_prob(x)
    (slopes,) = torch.autograd.grad(log_prob.sum(), p)
    # eps found back from x carries x's rounding, over a std of e^-1.5, times a factor of up to 30.
    torch.testing.assert_close(score(phi, eps), slopes, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(score_function(phi, eps, 7.0), (f(x) - 7) * slopes)


@pytest.mark.parametrize("phi", PHIS)
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_the_exact_moments_are_integrals_and_the_mean_is_the_truth(name, phi):
    found = exact(ESTIMATORS[name], phi)
    truth = float((expectation if name == "values" else derivative)(phi))
    # Rounding of the mean is that of single draws: some 1e-15 of their spread.
    assert found.mean == pytest.approx(truth, abs=1e-13 * (1 + found.std))

    def draw(x):
        eps = torch.tensor((x - phi**3) * math.exp(-phi), dtype=torch.float64)
        return float(ESTIMATORS[name](phi, eps))

    for power, moment in ((2, found.variance), (4, found.fourth)):
        integral = by_quadrature(lambda x, k=power: (draw(x) - truth) ** k, phi)
        assert moment == pytest.approx(integral, rel=1e-10)


def test_the_variance_ratio_is_a_law():
    assert variance_ratio(0.3) == pytest.approx(9.588, rel=1e-3)
    # Means of n draws keep it, whatever n; only the magnitudes shrink.
    by_score, by_path = exact(score_function, 0.3), exact(reparameterised, 0.3)
    for n in (1, 1000, 10**6):
        ratio = by_score.of_mean(n).variance / by_path.of_mean(n).variance
        assert ratio == pytest.approx(variance_ratio(0.3), rel=1e-14)


def test_variances_of_means_of_1000_are_not_those_of_means_of_1e6():
    """The notebook's comparison asks for 1000 draws and takes `n_samples`, a million."""
    n, repeats = 1000, 400
    for name in ("reparameterised", "score"):
        law = exact(ESTIMATORS[name], 0.3).of_mean(n)
        found = Running.of(means(partial(ESTIMATORS[name], 0.3), n, repeats, generator(0, name)))
        assert abs(found.variance - law.variance) < 4 * law.variance_error(repeats)
        wrong = exact(ESTIMATORS[name], 0.3).of_mean(10**6)
        assert found.variance / wrong.variance == pytest.approx(1000, rel=0.3)


@pytest.mark.parametrize("phi", [-1.0, 0.3, 0.5])
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_draws_have_the_exact_mean_and_variance(name, phi):
    n = 200_000
    law = exact(ESTIMATORS[name], phi)
    found = stream(partial(ESTIMATORS[name], phi), n, generator(3, name, str(phi)))
    assert abs(found.mean - law.mean) < 4 * math.sqrt(law.variance / n)
    assert abs(found.variance - law.variance) < 3 * law.variance_error(n)


@pytest.mark.parametrize(
    "printed, estimator, phi, n",
    [
        (2.7650801613563116, values, 0.5, 10**7),
        (0.8176793102849222, values, -0.1, 10**7),
        (5.726338035051403, reparameterised, 0.5, 10**7),
        (5.724609927313369, score_function, 0.5, 10**8),
    ],
)
def test_the_notebooks_true_values_are_estimates(printed, estimator, phi, n):
    """Plausible ones: some standard errors away, and far further than rounding."""
    law = exact(estimator, phi)
    away = abs(printed - law.mean) / math.sqrt(law.variance / n)
    assert 0.05 < away < 2


def test_the_best_baseline_has_the_smallest_variance():
    for phi in (-1.0, 0.3, 1.0):
        best = best_baseline(phi)
        lowest = exact(partial(score_function, baseline=best), phi).variance
        # The variance is a parabola in the baseline, with the curvature E[score²] in closed form.
        curvature = 2 + 9 * phi**4 * math.exp(-2 * phi)
        for away in (-0.5, 0.5, -best):
            other = exact(partial(score_function, baseline=best + away), phi).variance
            assert other - lowest == pytest.approx(curvature * away**2, rel=1e-9)
    assert variance_ratio(0.3, best_baseline(0.3)) < variance_ratio(0.3)


def test_phi_beyond_the_quadrature_is_refused():
    assert math.isfinite(variance_ratio(LARGEST_PHI))
    for phi in (1.6, math.nan):
        with pytest.raises(ValueError, match=r"phi = .* exact up to 1.5; .* `stream`"):
            exact(values, phi)
