"""Distances to the book's law of walks with a network that knows it."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.schedule import constant, cosine
from udl_lab.diffusion.walks import DDIM, DDPM
from udl_lab.probes.line_samples import Cdf, LineSamples, quantiles
from udl_lab.probes.subject import Subject
from udl_lab.sample_quality.line import midpoints

BOOK = constant(100, 0.01511)
# Some levels of it alone, for budgets: these walk all levels, cut into parts.
FIFTHS = constant(20, 1 - (1 - 0.01511) ** 5)
QUARTERS = constant(4, 1 - (1 - 0.01511) ** 25)
TIMES = 10  # the error budget cuts levels into so many
WEIGHTS, MEANS, DEVIATIONS = (
    [0.2, 0.3, 0.35, 0.15],
    [1.5, -0.216, 0.45, -1.875],
    [0.3, 0.15, 0.525, 0.075],
)


class Exact(nn.Module):
    """A law's own answer ε̂ as a network of examples and shares of T, off by `bias`."""

    def __init__(self, law, bias=0.0):
        super().__init__()
        self.law = law
        self.bias = bias

    def forward(self, x, share):
        # The nearest of the levels and their parts: shares are rounded to single precision.
        level = (share.double() * self.law.schedule.n_steps * TIMES).round() / TIMES
        return self.law(x, level).eps + self.bias


def learned(bias=0.0, law="book", schedule=BOOK):
    return Learned(Exact(make_law(law, schedule), bias), schedule, "eps")


def measured(denoiser=None, unaveraged=None, **settings):
    denoiser = learned() if denoiser is None else denoiser
    settings = {"law": "book", "samplers": [DDIM(10)], "n": 100, **settings}
    examples = Examples(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    subject = Subject(
        denoiser.net, denoiser.net, examples, 0.0, denoiser=denoiser, unaveraged=unaveraged
    )
    return {r.key.removeprefix("/"): r for r in LineSamples(**settings)(subject)}


def by_scipy(x, alpha_bar=1.0):
    """The book's distribution function at a level."""
    return sum(
        w * norm(alpha_bar**0.5 * m, (alpha_bar * s**2 + 1 - alpha_bar) ** 0.5).cdf(x)
        for w, m, s in zip(WEIGHTS, MEANS, DEVIATIONS, strict=True)
    )


@pytest.fixture(scope="module")
def exact():
    return measured(n=4000)


def test_ten_steps_end_where_the_notes_say(exact):
    """/work/shared/notes/generative.md, section 2d: .1035 from noise, .0836 from the true start."""
    assert exact["w1_exact@ddim10_eta0"].estimate == pytest.approx(0.1035, abs=5e-4)
    assert exact["w1_true_start@ddim10_eta0"].estimate == pytest.approx(0.0836, abs=5e-4)


def test_a_network_that_knows_the_law_is_as_far_as_the_exact_score(exact):
    network, law = exact["w1@ddim10_eta0"], exact["w1_exact@ddim10_eta0"]
    assert network.estimate == pytest.approx(law.estimate, abs=1e-5)  # single precision
    assert network.low == network.estimate == network.high and network.n == 4000


def test_a_network_that_errs_is_further_and_the_exact_score_is_not():
    right, wrong = measured(), measured(learned(bias=0.3))
    assert wrong["w1@ddim10_eta0"].estimate > right["w1@ddim10_eta0"].estimate + 0.1
    assert wrong["ks@ddim10_eta0"].estimate > right["ks@ddim10_eta0"].estimate + 0.05
    for name in ("w1_exact@ddim10_eta0", "w1_true_start@ddim10_eta0", "w1_of_draws"):
        assert wrong[name] == right[name]


def test_many_fine_steps_from_pure_noise_end_at_the_law():
    """The cosine schedule's start is right, so both distances to three modes go to 0."""
    denoiser = learned(law="three_modes", schedule=cosine(100))
    found = measured(denoiser, law="three_modes", samplers=[DDIM(5), DDIM(50)], n=50)
    few, many = found["w1@ddim5_eta0"].estimate, found["w1@ddim50_eta0"].estimate
    # Of first order: a tenth, and on top the grid of 50 quantiles, .01.
    assert many < 0.1 * few + 0.02 < 0.05
    start, noise = found["w1_true_start@ddim50_eta0"], found["w1_exact@ddim50_eta0"]
    assert start.estimate == pytest.approx(noise.estimate, abs=1e-3)


def test_there_are_rows_for_each_sampler_in_their_units():
    found = measured(samplers=[DDIM(5), DDPM(10, "large")])
    names = ["w1", "ks", "w1_exact", "w1_true_start"]
    labels = ["ddim5_eta0", "ddpm10_large"]
    assert list(found) == ["w1_of_draws", *(f"{n}@{label}" for label in labels for n in names)]
    for row in found.values():
        assert row.note == ("" if row.metric == "ks" else "in the data's unit")
        assert row.n == 100


def test_a_random_sampler_gives_the_same_numbers_twice():
    torch.manual_seed(1)
    first = measured(samplers=[DDPM(5), DDIM(5, eta=1.0)])
    torch.manual_seed(2)
    assert first == measured(samplers=[DDPM(5), DDIM(5, eta=1.0)])
    # Both are the same walk by other names, so their noise differs.
    assert first["w1@ddpm5_small"].estimate != first["w1@ddim5_eta1"].estimate


def test_the_last_weights_have_rows_of_their_own():
    right, wrong = learned(schedule=QUARTERS), learned(bias=0.3, schedule=QUARTERS)
    settings = {"samplers": [DDIM(4)], "budget": DDIM(2), "n": 50}
    alone, found = measured(right, **settings), measured(wrong, right, **settings)
    for key, row in alone.items():
        name, _, element = key.partition("@")
        if name != "w1_of_draws":
            assert found[f"{name}/last_weights@{element}"].estimate == row.estimate
    assert found["w1@ddim4_eta0"].estimate > alone["w1@ddim4_eta0"].estimate
    assert len(found) == 2 * len(alone) - 1


def test_the_budget_of_a_network_that_knows_the_law_is_start_and_steps(exact):
    found = measured(learned(schedule=FIFTHS), budget=DDIM(10), n=500)
    shares = ["total", "prior_gap", "discretisation", "score_error", "float_error", "perfect"]
    wanted = [f"budget_{name}@ddim10_eta0" for name in shares]
    assert [key for key in found if key.startswith("budget")] == wanted
    total, gap, steps, score, rounding, perfect = (found[key].estimate for key in wanted)
    assert total == pytest.approx(found["w1@ddim10_eta0"].estimate, abs=1e-6)
    assert gap == pytest.approx(total - found["w1_true_start@ddim10_eta0"].estimate, abs=1e-5)
    assert score == pytest.approx(0, abs=1e-5) and rounding == pytest.approx(0, abs=1e-5)
    # By the notes 100 steps leave .0612 from noise, of which .0435 is the start's, and .0177 from
    # the true start. The 200 here leave less of what is due to steps.
    assert total - 0.0612 < steps < total - 0.0435
    assert 0 < perfect < 0.0177 / 2


def test_what_a_network_errs_is_its_share_of_the_budget():
    wrong = learned(bias=0.3, schedule=QUARTERS)
    found = measured(wrong, samplers=[DDIM(4)], budget=DDIM(4), n=50)
    share = found["w1@ddim4_eta0"].estimate - found["w1_exact@ddim4_eta0"].estimate
    assert share > 0.1
    assert found["budget_score_error@ddim4_eta0"].estimate == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("n", [100, 1600])
def test_the_distance_of_fresh_draws_falls_with_the_root_of_their_number(n):
    """E|F_n − F| is that of a normal of variance F(1 − F)/n, which is √(2/π) of its deviation."""
    x = np.linspace(-4, 4, 2001)
    deviation = np.trapezoid(np.sqrt(by_scipy(x) * (1 - by_scipy(x))), x)
    found = measured(samplers=[], n=n)["w1_of_draws"].estimate
    # One such distance scatters by about 40 %, the mean of five by 18 %.
    assert found == pytest.approx(math.sqrt(2 / (math.pi * n)) * deviation, rel=0.5)


@pytest.mark.parametrize("t", [0, 1, 37, 100])
def test_the_distribution_function_is_scipys_at_every_level(t):
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    found = Cdf(make_law("book", BOOK), t)(x).numpy()
    expected = by_scipy(x.numpy(), float(BOOK.alpha_bar[t]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    square = Cdf(make_law("book", BOOK), t)(x[:100].reshape(4, 25)).numpy()
    np.testing.assert_array_equal(square.ravel(), found[:100])


@pytest.mark.parametrize("t", [0, 1, 37, 100])
@pytest.mark.parametrize("law", ["book", "three_modes"])
def test_quantiles_invert_the_distribution_function(law, t):
    mixture, u = make_law(law, BOOK), midpoints(200)
    found = quantiles(mixture, u, t)
    # A step of 1e-12 times a density of at most 4.
    torch.testing.assert_close(Cdf(mixture, t)(found), u, rtol=0, atol=1e-11)
    assert (found.diff() > 0).all()


def test_quantiles_of_noise_are_the_normal_ones():
    """At the last level of the cosine schedule next to nothing of the data is left."""
    u = torch.tensor([1e-9, 0.025, 0.5, 0.975], dtype=torch.float64)
    found = quantiles(make_law("book", cosine(1000)), u, 1000)
    torch.testing.assert_close(found, torch.special.ndtri(u), rtol=0, atol=1e-3)


def test_a_law_in_the_plane_is_refused():
    with pytest.raises(ValueError, match="law='ring' is not on a line; take book or three_modes"):
        measured(law="ring")


def test_a_network_that_is_no_denoiser_is_refused():
    net = nn.Linear(1, 1)
    examples = Examples(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="Linear is no denoiser; measure a run with model=diff"):
        LineSamples("book")(Subject(net, net, examples, 0.0))


class Learning(Exact):
    """A network that says a variance as well, half-way on a logarithmic scale."""

    def forward(self, x, share):
        eps = super().forward(x, share)
        return torch.stack([eps, torch.zeros_like(eps)], 1)


def test_a_learned_variance_is_measured_without_an_oracles_rows():
    net = Learned(Learning(make_law("book", QUARTERS)), QUARTERS, "eps")
    found = measured(net, samplers=[DDPM(4, variance="learned")], n=200)
    assert "w1@ddpm4_learned" in found
    assert not any(key.startswith(("w1_exact", "w1_true_start")) for key in found)
