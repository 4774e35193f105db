"""Notebook 17.3's numbers come out of the calculation, by their names in the claims."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from udl_lab.calculations.importance_sampling import COUNTS, ImportanceSampling
from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.execute import execute


def numbers(result):
    return {f"{r.metric}/{r.site}@{r.element}": r.estimate for r in result.rows}


@pytest.fixture(scope="module")
def result():
    return ImportanceSampling(n=100_000, repeats=200)(0)


def f_rare(y):
    return 20.446 * math.exp(-((y - 3) ** 4))


def moment(integrand):
    return integrate.quad(integrand, -8, 8, epsabs=1e-12)[0]


def test_exact_means_and_variances_are_those_of_the_integrals(result):
    found = numbers(result)
    mean = moment(lambda y: f_rare(y) * stats.norm.pdf(y))
    by_p = moment(lambda y: f_rare(y) ** 2 * stats.norm.pdf(y)) - mean**2
    by_q = moment(lambda y: (f_rare(y) * stats.norm.pdf(y)) ** 2 / stats.norm.pdf(y, 3))
    assert found["mean_exact/rare@p"] == pytest.approx(mean, abs=1e-10)
    assert found["mean_exact/rare@q"] == pytest.approx(mean, abs=1e-10)
    assert found["variance_exact/rare@p"] == pytest.approx(by_p, rel=1e-8)
    assert found["variance_exact/rare@q"] == pytest.approx(by_q - mean**2, rel=1e-8)
    ratio = by_p / (by_q - mean**2)
    assert found["variance_ratio_exact/rare@p_over_q"] == pytest.approx(ratio, rel=1e-8)
    assert ratio == pytest.approx(18.42, abs=0.01)


def test_the_weights_alone_have_an_effective_share_of_e_to_the_minus_nine(result):
    """E[w²] under N(m, 1) is e^{m²}; a share is 1 / E[w²], as E[w] = 1."""
    assert numbers(result)["effective_share/weights@q"] == pytest.approx(math.exp(-9), rel=1e-10)
    other = numbers(ImportanceSampling(q_mean=1.0, n=1000, repeats=100)(0))
    assert other["effective_share/weights@q"] == pytest.approx(math.exp(-1), rel=1e-10)


def test_every_estimate_is_within_four_standard_errors_and_the_two_means_are_two(result):
    found = numbers(result)
    for where in ("common@p", "common@q", "rare@p", "rare@q"):
        assert abs(found[f"z/{where}"]) < 4
    assert found["mean_exact/common@p"] == pytest.approx(0.4315874, abs=5e-8)
    assert found["mean_exact/rare@p"] == pytest.approx(0.4316417, abs=5e-8)


def test_drawing_from_p_by_way_of_q_is_plain_monte_carlo():
    """With q = p every weight is 1: the exact moments are the same, and a draw is worth a draw."""
    found = numbers(ImportanceSampling(q_mean=0.0, n=1000, repeats=100)(0))
    for f in ("common", "rare"):
        assert found[f"variance_exact/{f}@q"] == pytest.approx(found[f"variance_exact/{f}@p"])
        assert found[f"variance_ratio_exact/{f}@p_over_q"] == pytest.approx(1)


def test_a_q_from_which_estimates_have_no_variance_is_refused():
    with pytest.raises(ValueError, match=r"q_std=0\.02.*take a wider q"):
        ImportanceSampling(q_std=0.02)


def test_the_spread_is_drawn_for_the_notebook_s_29_counts(result):
    assert len(COUNTS) == 29 and COUNTS[-1] == 500
    figure = result.figures["spread_by_draws"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [list(container.lines[0].get_xdata()) for container in axes.containers] == [COUNTS] * 4
    names = [text.get_text().partition("\n")[0] for text in figure.legends[0].get_texts()]
    assert names == [f"{f} f, draws of {d}" for f in ("common", "rare") for d in "pq"]


def test_the_measured_spread_is_the_exact_one_within_its_interval_stretched_to_four_errors(result):
    (axes,) = result.figures["spread_by_draws"].axes
    laws = [line for line in axes.lines if line.get_linestyle() == "-"]
    for law, container in zip(laws, axes.containers, strict=True):
        sd = container.lines[0].get_ydata().astype(float)
        low = np.array([segment[0, 1] for segment in container.lines[2][0].get_segments()])
        off = np.abs(sd - law.get_ydata()) / (sd - low)
        # The last few by n: of one or two draws of q the fourth moment is too large to be normal.
        assert off[10:].max() < 4 / 1.96


def test_another_seed_draws_other_numbers():
    few = ImportanceSampling(n=1000, repeats=100)
    assert numbers(few(0)) == numbers(few(0))
    assert numbers(few(0))["mean/rare@q"] != numbers(few(1))["mean/rare@q"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n": 333}, r"n=333: .*N\(3, 1²\) are worth 9\.99 for the common f.*take n=337 or a q"),
        ({"q_std": 0.2, "n": 100}, r"n=100: .*N\(3, 0\.2²\).*common f.*take n=2\.91e\+75"),
        ({"q_std": 1000.0, "n": 1000}, r"n=1000: .*N\(3, 1000²\)"),
        ({"q_mean": 20.0}, r"n=10000000: .*N\(20, 1²\)"),
        ({"q_mean": 1.0, "n": 300}, r"n=300: .*N\(0, 1²\) are worth 9\.43 for the rare f"),
    ],
)
def test_draws_too_few_for_their_q_are_refused_before_any_is_made(settings, words):
    """The share is by hand E[w]² / E[w²]; the most extreme would all round to 0."""
    with pytest.raises(ValueError, match=words):
        ImportanceSampling(**settings)


def test_the_least_number_of_draws_that_is_told_is_enough():
    rows = ImportanceSampling(n=337, repeats=100)(0).rows
    assert all(math.isfinite(v) for r in rows for v in (r.estimate, r.low, r.high))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["experiment=udl17_latent/book", "calculation.point=[6.0,6.0]", "calculation.ks=[10]"],
            r"calculation: point=\[6\.0, 6\.0\]",
        ),
        (
            ["experiment=udl17_estimators/importance", "calculation.q_std=0.2"],
            r"calculation: n=1000: .*take n=",
        ),
    ],
)
def test_what_is_refused_leaves_no_folder(settings, words, tmp_path):
    root = ["calculation.n=1000", "logger=csv", f"runs_root={tmp_path}"]
    with pytest.raises(UsageError, match=words):
        execute(compose([*settings, *root]), quiet=True)
    assert not list(tmp_path.iterdir())
