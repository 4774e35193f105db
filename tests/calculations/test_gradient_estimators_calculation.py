"""Notebook 17.2's numbers come out of the calculation, by their names in the claims."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from udl_lab.calculations.gradient_estimators import PHIS, GradientEstimators

DERIVATIVES = ("reparameterised", "score_function", "with_baseline")


def numbers(result):
    return {f"{r.metric}/{r.site}@{r.element}": r.estimate for r in result.rows}


@pytest.fixture(scope="module")
def result():
    return GradientEstimators(n=100_000, n_curve=100)(0)


def test_the_exact_numbers_are_those_of_the_issue_and_of_the_integral(result):
    found = numbers(result)
    assert found["mean_exact/expectation@phi0.5"] == pytest.approx(2.7659334442, abs=1e-10)
    assert found["mean_exact/score_function@phi0.5"] == pytest.approx(5.72816410791, abs=1e-10)
    assert found["variance_ratio_exact/score_function@phi0.3"] == pytest.approx(9.588, abs=5e-4)

    def integrand(x):
        return (x**2 + math.sin(x)) * stats.norm.pdf(x, 0.3**3, math.exp(0.3))

    integral, _ = integrate.quad(integrand, -15, 15)
    assert found["mean_exact/expectation@phi0.3"] == pytest.approx(integral, abs=1e-7)


def test_every_estimator_finds_its_mean_and_the_three_derivatives_agree(result):
    found = numbers(result)
    for phi in ("phi0.3", "phi0.5"):
        exact = {found[f"mean_exact/{name}@{phi}"] for name in DERIVATIVES}
        assert max(exact) - min(exact) < 1e-10
        for name in ("expectation", *DERIVATIVES):
            assert abs(found[f"z/{name}@{phi}"]) < 4


def test_the_measured_ratio_is_the_exact_one_within_its_interval_stretched_to_four_errors(result):
    rows = {(r.metric, r.site, r.element): r for r in result.rows}
    for name in DERIVATIVES[1:]:
        measured = rows["variance_ratio", name, "phi0.3"]
        exact = rows["variance_ratio_exact", name, "phi0.3"].estimate
        reach = 4 / 1.96 * math.log(measured.high / measured.estimate)
        assert abs(math.log(measured.estimate / exact)) < reach


def test_no_two_estimators_points_or_seeds_share_their_draws():
    """Shared draws correlate the errors by .7 and more; chance does by 4/√60 = .52 at the most."""
    few = GradientEstimators(phis=PHIS, n=1000, n_curve=100)
    errors = [[r.estimate for r in few(seed).rows if r.metric == "z"] for seed in (0, 1)]
    first, second = np.reshape(errors, (2, len(PHIS), 4)).transpose(0, 2, 1)
    pairs = [(first[i], first[j]) for i in range(4) for j in range(i)]
    pairs += [(one[1:], one[:-1]) for one in first]
    pairs += list(zip(first, second, strict=True))
    for one, other in pairs:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.52


def test_the_same_seed_draws_the_same_numbers():
    few = GradientEstimators(phis=[0.0], n=100, n_curve=100)
    assert numbers(few(0)) == numbers(few(0))


def test_the_curve_is_the_notebook_s_and_is_drawn(result):
    assert len(PHIS) == 60 and PHIS[0] == -1.5 and PHIS[-1] == 1.45
    figure = result.figures["derivative_by_phi"]
    figure.draw_without_rendering()
    left, middle, right = figure.axes
    assert left.get_ylabel() == "E[f(x)]"
    assert [t.get_text() for t in middle.get_legend().get_texts()][:2] == [
        "exact",
        "reparameterised",
    ]
    assert right.get_yscale() == "log"
