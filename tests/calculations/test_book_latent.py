"""Notebook 17.1's numbers come out of the calculation, by their names in the claims."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from udl_lab.calculations.book_latent import BookLatent


def numbers(result):
    return {f"{r.metric}/{r.site}@{r.element}": r.estimate for r in result.rows}


@pytest.fixture(scope="module")
def result():
    return BookLatent(n=20_000, ks=(10, 100, 1000))(0)


def curve(z):
    return 0.5 * np.exp(np.sin(2 + 3.675 * z)), np.cos(2 + 2.85 * z)


def joint(z, power=1):
    """A power of p(x|z) at (.9, −.9), times p(z)."""
    m1, m2 = curve(z)
    likelihood = stats.norm.pdf(0.9, m1, 0.2) * stats.norm.pdf(-0.9, m2, 0.2)
    return likelihood**power * stats.norm.pdf(z)


def integral(f):
    return integrate.quad(f, -8, 8, limit=400, epsabs=1e-12)[0]


def test_density_and_posterior_are_those_of_the_issue_and_of_the_integral(result):
    found = numbers(result)
    p = integral(joint)
    assert found["density/point@"] == pytest.approx(0.2962078, abs=1e-6)
    assert found["density/point@"] == pytest.approx(p, abs=1e-10)
    assert found["log_density/point@"] == pytest.approx(math.log(p), abs=1e-9)
    mean = integral(lambda z: z * joint(z)) / p
    assert found["mean/posterior@"] == pytest.approx(mean, abs=1e-9)
    variance = integral(lambda z: z**2 * joint(z)) / p - mean**2
    assert found["std/posterior@"] == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert found["peak/posterior@"] == pytest.approx(joint(found["mode/posterior@"]) / p, abs=1e-8)
    # A peak at least .05 wide has a curvature of at most 4.2 / .05²; half a spacing is .0005.
    peak = optimize.minimize_scalar(lambda z: -joint(z), bounds=(0.1, 0.25), method="bounded")
    assert -peak.fun / p == pytest.approx(4.21217, abs=1e-5)
    assert found["peak/posterior@"] == pytest.approx(-peak.fun / p, abs=2.1e-4)
    assert found["mass/posterior@"] == pytest.approx(1, abs=1e-9)
    assert found["mass/marginal@"] == pytest.approx(1, abs=1e-10)


def test_the_moments_of_the_curve_and_of_the_likelihood_are_those_of_the_integrals(result):
    found = numbers(result)
    for i, site in enumerate(("x1", "x2")):
        mean = integral(lambda z, i=i: curve(z)[i] * stats.norm.pdf(z))
        square = integral(lambda z, i=i: curve(z)[i] ** 2 * stats.norm.pdf(z))
        assert found[f"mean_exact/{site}@samples"] == pytest.approx(mean, abs=1e-9)
        expected = square - mean**2 + 0.04
        assert found[f"variance_exact/{site}@samples"] == pytest.approx(expected, abs=1e-9)
    # E cos(a + b z) = cos(a) exp(-b² / 2)
    closed = math.cos(2) * math.exp(-(2.85**2) / 2)
    assert found["mean_exact/x2@samples"] == pytest.approx(closed, abs=1e-12)
    assert closed == pytest.approx(-0.00717, abs=5e-6)
    assert found["mean_exact/x2@text"] == pytest.approx(0.01566, abs=5e-6)
    p, square = integral(joint), integral(lambda z: joint(z, 2))
    where = "density@prior_draws"
    assert found[f"mean_exact/{where}"] == pytest.approx(p, abs=1e-9)
    assert found[f"variance_exact/{where}"] == pytest.approx(square - p**2, abs=1e-9)
    assert found["effective_share/prior_draws@"] == pytest.approx(p**2 / square, abs=1e-9)


def test_intervals_of_the_variance_come_from_the_exact_fourth_moment(result):
    """Of x2: the mean over z by a sum, over the noise by Gauss-Hermite quadrature."""
    z = np.linspace(-8, 8, 3201)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    noise = weights / weights.sum()
    values = curve(z)[1][:, None] + 0.2 * nodes
    mass = stats.norm.pdf(z)[:, None] * 0.005 * noise
    mean = (mass * values).sum()
    second, fourth = ((mass * (values - mean) ** r).sum() for r in (2, 4))
    n = 20_000
    (found,) = [r for r in result.rows if (r.metric, r.site) == ("variance", "x2")]
    error = math.sqrt((fourth - second**2 * (n - 3) / (n - 1)) / n)
    assert (found.high - found.estimate) / 1.959964 == pytest.approx(error, rel=1e-6)


def test_the_notebook_s_sums_come_out_as_it_has_them(result):
    found = numbers(result)
    assert found["mass/marginal@notebook"] == pytest.approx(math.erf(3 / math.sqrt(2)), abs=1e-6)
    # Left ends of cells, −3 to 2.99: half of a cell of .01 too much at −3, and too little at 3.
    # The next term of Euler and Maclaurin's, .01² / 12 times the slopes at the ends, is 2e-7.
    inside = integrate.quad(joint, -3, 3, limit=400)[0]
    expected = inside + 0.005 * (joint(-3) - joint(3))
    assert found["density/point@notebook"] == pytest.approx(expected, abs=1e-6)
    assert found["density/point@text"] == pytest.approx(1e4 * found["density/point@notebook"])
    assert found["peak/posterior@notebook"] == pytest.approx(0.0421, abs=5e-5)


def test_samples_and_draws_are_within_four_standard_errors(result):
    found = numbers(result)
    for where in ("x1@samples", "x2@samples", "log_density@samples", "density@prior_draws"):
        assert abs(found[f"z/{where}"]) < 4
    # .02283 apart, in units of the standard error of 20,000 samples.
    expected = -0.02283 / math.sqrt(found["variance_exact/x2@samples"] / 20_000)
    assert found["z/x2@text"] == pytest.approx(expected, abs=4)


def test_the_exact_entropy_is_that_of_a_sum_over_the_plane(result):
    """By numpy alone: the integral over z is a product of matrices."""
    x1, x2 = np.meshgrid(np.arange(-1, 2.7, 0.1), np.arange(-2.2, 2.2, 0.1), indexing="ij")
    z = np.linspace(-6, 6, 1201)
    m1, m2 = curve(z)
    first = stats.norm.pdf(x1[:, :1], m1, 0.2) * stats.norm.pdf(z) * 0.01
    density = first @ stats.norm.pdf(x2[:1].T, m2, 0.2).T
    entropy = (density * np.log(density)).sum() * 0.01
    assert numbers(result)["mean_exact/log_density@samples"] == pytest.approx(entropy, abs=1e-6)


def test_bounds_rise_with_k_and_are_means_of_groups(result):
    rows = {r.element: r for r in result.rows if r.metric == "bound"}
    assert [rows[f"k{k}"].n for k in (10, 100, 1000)] == [2000, 200, 20]
    assert rows["k10"].estimate < rows["k100"].estimate < rows["k1000"].estimate
    assert all(r.low < r.estimate < r.high for r in rows.values())
    truth = numbers(result)["log_density/point@"]
    assert rows["k10"].high < truth
    # The shortfall, half the relative variance of a mean of k, and four standard errors.
    share = numbers(result)["effective_share/prior_draws@"]
    spread = (1 / share - 1) / 1000
    assert abs(rows["k1000"].estimate - truth + spread / 2) < 4 * math.sqrt(spread / 20)


def test_figures_are_of_the_point_and_the_bounds(result):
    figures = result.figures
    assert set(figures) == {"curve_over_density", "posterior", "bound_by_k"}
    for figure in figures.values():
        figure.draw_without_rendering()
    (axes,) = figures["posterior"].axes
    assert "(0.9, −0.9)" in axes.get_title()
    assert max(axes.lines[0].get_ydata()) == pytest.approx(4.208, abs=5e-4)
    left = figures["curve_over_density"].axes[0]
    assert left.get_legend().get_texts()[0].get_text() == "x = (0.9, −0.9)"
    (axes,) = figures["bound_by_k"].axes
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert line.get_ydata()[0] == pytest.approx(math.log(0.2962078), abs=1e-6)


def test_the_same_seed_draws_the_same_and_another_draws_others(result):
    few = BookLatent(n=100, ks=(10,))
    assert numbers(few(0)) == numbers(few(0))
    one, other = numbers(few(0)), numbers(few(1))
    for name in ("mean/x2@samples", "bound/prior_draws@k10"):
        assert one[name] != other[name]
    assert one["density/point@"] == other["density/point@"]


def test_a_point_off_the_plane_and_a_k_over_n_are_refused():
    for point in ([0.9], [0.9, math.nan], [math.inf, 0.0]):
        with pytest.raises(ValueError, match=r"point=\[.*\]: give two finite numbers"):
            BookLatent(point=point)
    with pytest.raises(ValueError, match=r"ks=\[10, 200\].*n=100; choose k up to 100"):
        BookLatent(n=100, ks=[10, 200])


def test_a_point_whose_likelihoods_round_to_nought_is_refused_and_the_last_before_it_is_not():
    """Of (6, 6) the nearest x of the curve is 6.8 away: e^-578 at most, and 0 to the power of 4."""
    with pytest.raises(
        ValueError, match=r"point=\[6\.0, 6\.0\]: p\(x\) = e\^\(-58.*within 3 of the curve"
    ):
        BookLatent(point=[6.0, 6.0], n=1000, ks=[10])
    far = BookLatent(point=[0.8, 4.0], n=100, ks=[10])(0)  # three from (.8, 1), which is above it
    assert all(math.isfinite(r.estimate) for r in far.rows)
    assert numbers(far)["density/point@"] < 1e-40
