import math

import pytest
import torch
from scipy.special import ndtri

from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.lookup import LookupTable, bin_of, fit_lookup
from udl_lab.diffusion.samplers import last
from udl_lab.diffusion.schedule import angle_uniform, constant
from udl_lab.diffusion.walks import DDIM, DDPM, walk
from udl_lab.probes.line_samples import Cdf
from udl_lab.randomness import generator
from udl_lab.sample_quality.line import midpoints, wasserstein_to_law

BOOK = constant(100, 0.01511)
FEW = constant(6, 0.2)


@pytest.fixture(scope="module")
def book():
    return fit(BOOK)


def fit(schedule, n=20_000):
    """The table of draws of the book's law."""
    data = make_law("book", schedule).sample(n, generator(0, "data"))
    return fit_lookup(schedule, data, generator(0, "fit"))


def draw(n, name="x"):
    return torch.randn(n, 1, dtype=torch.float64, generator=generator(0, name))


def noises(schedule, n):
    """The noise of `fit_lookup(…, generator(0, "fit"))`: one call for each level, from 1 up."""
    again = generator(0, "fit")
    return {
        t: torch.randn(n, 1, dtype=torch.float64, generator=again)
        for t in range(1, schedule.n_steps + 1)
    }


def expected_noise_of_bins(law, t, low, high):
    """E[ε | bin] and Var[ε | bin], by the midpoint rule on 40 points in each bin."""
    share = (torch.arange(40, dtype=torch.float64) + 0.5) / 40
    x = (low[:, None] + (high - low)[:, None] * share).reshape(-1, 1)
    said = law(x, t)
    alpha_bar = law.schedule.alpha_bar[t]
    # ε is linear in x_0 given x_t, so its variance is that of x_0 by the square of the slope.
    square = said.eps.square() + alpha_bar / (1 - alpha_bar) * said.x0_variance
    weight = law.log_prob(x, t).reshape(len(low), 40).softmax(1)
    mean = (weight * said.eps.reshape(len(low), 40)).sum(1)
    return mean, (weight * square.reshape(len(low), 40)).sum(1) - mean.square()


def surprise(law, table, t, row, n):
    """The mean of ((bin's value − E[ε | bin]) / standard error)², and how many bins it is of."""
    cdf = Cdf(law, t)
    count = n * cdf(table.edges).diff()
    kept = count[1:-1] > 40  # the outer bins are open
    low, high = (e[1:-1][kept] for e in (table.edges[:-1], table.edges[1:]))
    mean, variance = expected_noise_of_bins(law, t, low, high)
    z2 = (table.table[row, 1:-1][kept] - mean).square() * count[1:-1][kept] / variance
    return z2.mean().item(), int(kept.sum())


@pytest.mark.parametrize("t", [1, 2, 3, 10, 40, 99, 100])
def test_every_bin_is_the_mean_of_the_mixtures_noise_in_it_up_to_chance(book, t):
    """A standardised mean's square has mean 1 and variance 2, nearly, so that of m bins √(2/m).

    The number of pairs in a bin is taken as expected, which adds 1/40 at most.
    """
    found, bins = surprise(make_law("book", BOOK), book, t, t, 20_000)
    assert bins > 200
    assert abs(found - 1) < 5 * math.sqrt(2 / bins) + 1 / 40


def test_row_t_is_noise_level_t_and_a_neighbouring_level_does_not_explain_it():
    """Where levels differ most, beyond five deviations; for the others see the next test."""
    table = fit(FEW)
    for t, other in ((1, 2), (2, 1)):
        found, bins = surprise(make_law("book", FEW), table, t, other, 20_000)
        assert found > 1 + 5 * math.sqrt(2 / bins) + 1 / 40
    assert not table.table[0].any()


def test_of_one_point_the_noise_is_known_at_each_level_up_to_the_bins_width():
    """ε = (x_t − √ᾱ p)/√(1 − ᾱ), and x_t is no further from the bin's middle than half of it."""
    point = 1.2
    table = fit_lookup(
        FEW, torch.full((20_000, 1), point, dtype=torch.float64), generator(0, "fit")
    )
    middle = (table.edges[1:] + table.edges[:-1]) / 2
    near = middle.abs() < 1.5
    for t, noise in noises(FEW, 20_000).items():
        alpha_bar = FEW.alpha_bar[t]
        scale = (1 - alpha_bar).sqrt()
        filled = bin_of((alpha_bar.sqrt() * point + scale * noise)[:, 0], table.edges).unique()
        seen = torch.zeros_like(near)
        seen[filled] = True
        apart = (table.table[t] - (middle - alpha_bar.sqrt() * point) / scale).abs()
        assert (seen & near).sum() > 150
        assert apart[seen & near].max() <= 0.005 / scale + 1e-12
        for other in {t - 1, t + 1} & set(range(1, 7)):
            at = FEW.alpha_bar[other]
            wrong = (middle - at.sqrt() * point) / (1 - at).sqrt()
            assert (table.table[t] - wrong).abs()[seen & near].median() > 0.02


@pytest.mark.parametrize("n", [1, 2, 3, 400])
def test_a_bin_is_the_mean_of_its_pairs_or_has_the_value_of_the_nearest_bin_with_some(n):
    x0 = draw(n)
    table = fit_lookup(FEW, x0, generator(0, "fit"), low=-2.0, high=2.0, bin_width=0.25)
    for t, noise in noises(FEW, n).items():
        alpha_bar = FEW.alpha_bar[t].item()
        pairs = {}
        for x, eps in zip(x0[:, 0].tolist(), noise[:, 0].tolist(), strict=True):
            x_t = math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * eps
            pairs.setdefault(min(max(math.floor((x_t + 2) / 0.25), 0), 15), []).append(eps)
        for i in range(16):
            nearest = min(pairs, key=lambda j: (abs(i - j), j))
            expected = sum(pairs[nearest]) / len(pairs[nearest])
            assert table.table[t, i].item() == pytest.approx(expected, abs=1e-12)


def test_a_bin_with_a_single_pair_gives_its_noise_back_exactly():
    x0 = draw(1)
    table = fit_lookup(FEW, x0, generator(0, "fit"))
    for t, noise in noises(FEW, 1).items():
        assert (table.table[t] == noise).all()


@pytest.mark.parametrize("side", [-1, 1])
def test_pairs_beyond_an_edge_are_counted_in_the_bin_before_it(side):
    far = side * 100.0
    table = fit_lookup(FEW, torch.full((50, 1), far, dtype=torch.float64), generator(0, "fit"))
    for t, noise in noises(FEW, 50).items():
        torch.testing.assert_close(table.table[t], noise.mean().expand(600))


def test_beyond_either_edge_the_answer_is_that_of_the_outer_bin():
    table = LookupTable(FEW, draw(7 * 600).reshape(7, 600), torch.linspace(-3, 3, 601).double())
    x = torch.tensor([[-50.0], [-3.001], [-2.999], [2.999], [3.001], [50.0]]).double()
    for t in range(1, 7):
        first, final = table.table[t, 0], table.table[t, -1]
        expected = torch.stack([first, first, first, final, final, final])
        torch.testing.assert_close(table(x, t).eps[:, 0], expected)


def test_the_bins_are_those_of_a_count_from_the_first_edge():
    edges = torch.linspace(-3, 3, 601).double()
    x = draw(5000)[:, 0].clamp(-2.985, 2.985)  # not an edge, which is rounded
    assert torch.equal(bin_of(x, edges), ((x + 3) / 0.01).floor().long())
    assert (bin_of(edges, edges) - torch.tensor([*range(600), 599])).abs().max() <= 1
    near = torch.cat([edges - 1e-12, edges + 1e-12, torch.tensor([-9, 9, math.inf]).double()])
    assert torch.equal(bin_of(near, edges), torch.bucketize(near, edges[1:-1], right=True))
    assert bin_of(x, edges**3).tolist() == torch.bucketize(x, edges[1:-1] ** 3, right=True).tolist()
    assert bin_of(x.float(), edges).tolist() == bin_of(x.float().double(), edges).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_answer_makes_up_the_example_and_says_nothing_of_the_variance(dtype):
    table = fit_lookup(FEW, draw(500), generator(0, "fit"))
    x = draw(40, "y").to(dtype)
    for t in range(1, 7):
        said, alpha_bar = table(x, t), FEW.alpha_bar[t].item()
        again = math.sqrt(alpha_bar) * said.x0 + math.sqrt(1 - alpha_bar) * said.eps
        torch.testing.assert_close(again, x, atol=1e-6, rtol=0)
        assert said.x0.dtype == said.eps.dtype == dtype and said.x0_variance is None
    assert isinstance(table, Denoiser)


def test_each_example_may_have_its_own_level():
    table, x = fit_lookup(FEW, draw(500), generator(0, "fit")), draw(7, "y")
    levels = torch.arange(7)
    for given in (levels, levels.double()):
        together = table(x, given)
        for i in range(7):
            alone = table(x[i : i + 1], i)
            torch.testing.assert_close(
                (together.x0[i : i + 1], together.eps[i : i + 1]), (alone.x0, alone.eps)
            )
    torch.testing.assert_close(together.x0[0], x[0])  # level 0


@pytest.mark.parametrize("sampler", [DDIM(20), DDIM(100), DDPM(100, "large"), DDPM(100, "small")])
def test_samplers_end_about_as_far_from_the_law_as_with_the_exact_score(book, sampler):
    """.02 is what W1 is of 2,000 fresh draws, ∫√(2F(1 − F)/πn), a scale for chance.

    Both walks have the same start and the same noise, so most of chance cancels.
    """
    law = make_law("book", BOOK)
    start = torch.from_numpy(ndtri(midpoints(2000).numpy())).unsqueeze(1)
    counted, exact = (
        wasserstein_to_law(
            last(walk(sampler, denoiser, start, generator(0, "walk")))[:, 0], Cdf(law)
        )
        for denoiser in (book, law)
    )
    assert counted == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("level", [-1, 7, 2.5, math.nan])
def test_a_level_without_a_row_is_refused(level):
    table = fit_lookup(FEW, draw(5), generator(0, "fit"))
    with pytest.raises(ValueError, match=rf"level {level} has no row.*T = 6"):
        table(draw(2), level)
    with pytest.raises(ValueError, match="has no row"):
        table(draw(2), torch.tensor([3.0, level]).double())


def test_a_level_of_pure_noise_is_refused():
    table = fit_lookup(angle_uniform(4), draw(5), generator(0, "fit"))
    with pytest.raises(ValueError, match="leaves x_0 unknown"):
        table(draw(2), 4)


def test_a_table_of_another_shape_or_with_edges_that_fall_is_refused():
    edges = torch.linspace(-1, 1, 5).double()
    with pytest.raises(ValueError, match=r"shape \(6, 4\).*need \(7, 4\)"):
        LookupTable(FEW, torch.zeros(6, 4).double(), edges)
    with pytest.raises(ValueError, match=r"shape \(7, 5\).*need \(7, 4\)"):
        LookupTable(FEW, torch.zeros(7, 5).double(), edges)
    with pytest.raises(ValueError, match="must rise"):
        LookupTable(FEW, torch.zeros(7, 4).double(), edges.flip(0))


def test_what_no_table_can_be_counted_on_is_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 2\).*on a line"):
        fit_lookup(FEW, draw(8).reshape(4, 2), generator(0, "fit"))
    with pytest.raises(ValueError, match=r"shape \(0, 1\)"):
        fit_lookup(FEW, draw(0), generator(0, "fit"))
    for low, high, width in ((-3.0, 3.0, 0.07), (3.0, -3.0, 0.01), (0.0, 1.0, 3.0)):
        with pytest.raises(ValueError, match="do not fill the range"):
            fit_lookup(FEW, draw(4), generator(0, "fit"), low, high, width)
