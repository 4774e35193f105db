"""The flow's density against known densities, and against a change of variables by hand."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from udl_lab.diffusion.denoisers import Gaussian
from udl_lab.diffusion.flow_likelihood import flow_log_prob
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.samplers import encode, last
from udl_lab.diffusion.schedule import angle_uniform, constant, linear, refine, zero_terminal_snr
from udl_lab.randomness import generator

BOOK = constant(100, 0.01511)
PURE = {"angle_uniform": angle_uniform(100), "zero_snr": zero_terminal_snr(linear(1000))}


def double(*values):
    """In double precision from the start: `torch.tensor(0.1).double()` would round to single."""
    return torch.tensor(*values, dtype=torch.float64)


def normal(*shape, stream="flow"):
    return torch.randn(shape, generator=generator(0, stream), dtype=torch.float64)


def three_d(schedule):
    return Gaussian(schedule, double([0.5, 0.0, -1.0]), double([0.04, 1.0, 2.5]))


def at_level(law, t):
    """What a Gaussian law is at a level: independent normals."""
    left = law.schedule.alpha_bar[t]
    return Normal(left.sqrt() * law.mean, (left * law.variance + 1 - left).sqrt())


def standard(x):
    return Normal(double(0.0), 1.0).log_prob(x).sum(1)


@pytest.mark.parametrize("schedule", PURE.values(), ids=PURE.keys())
def test_the_density_of_gaussian_data_is_known(schedule):
    law = three_d(schedule)
    x = law.mean + law.variance.sqrt() * normal(6, 3)
    found = flow_log_prob(law, x)
    exact = at_level(law, 0).log_prob(x).sum(1)
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=1e-6)
    assert found.standard_error.tolist() == [0] * 6
    # The flow of independent normals is linear: each coordinate keeps its number of deviations.
    scores = (x - law.mean) / law.variance.sqrt()
    torch.testing.assert_close(found.noise, scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("book", "angle_uniform"),
        ("book", "zero_snr"),
        ("ring", "zero_snr"),
        ("spiral", "angle_uniform"),
    ],
)
def test_the_density_of_a_mixture_is_known(name, schedule):
    law = make_law(name, PURE[schedule])
    x = torch.cat([law.sample(6, generator(0, "data")), 0.5 * normal(2, law.means.shape[1])])
    found = flow_log_prob(law, x)
    torch.testing.assert_close(found.log_prob, law.log_prob(x), rtol=0, atol=1e-6)


def test_images_have_the_density_of_their_pixels():
    law = Gaussian(PURE["angle_uniform"], double(0.2), double(0.3))
    x = normal(3, 2, 1, 2)
    found = flow_log_prob(law, x)
    exact = Normal(double(0.2), math.sqrt(0.3)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=1e-6)
    assert found.noise.shape == x.shape


@pytest.mark.parametrize("t", [1, 40])
def test_examples_of_a_level_have_that_levels_density(t):
    law = make_law("book", PURE["angle_uniform"])
    x = torch.linspace(-2, 2, 7, dtype=torch.float64).unsqueeze(1)
    found = flow_log_prob(law, x, start=t)
    torch.testing.assert_close(found.log_prob, law.log_prob(x, t), rtol=0, atol=1e-6)
    real = flow_log_prob(law, x, start=t + 0.37)
    torch.testing.assert_close(real.log_prob, law.log_prob(x, t + 0.37), rtol=0, atol=1e-6)
    assert (found.log_prob - law.log_prob(x)).abs().max() > 1e-3  # the level matters


def test_at_the_last_level_the_density_is_the_noises():
    x = normal(5, 3)
    found = flow_log_prob(three_d(linear(100)), x, start=100)
    torch.testing.assert_close(found.log_prob, standard(x), rtol=0, atol=1e-12)
    assert torch.equal(found.noise, x)


def quantile(law, shares, t):
    """Where a law on a line has these shares below, by bisection of its distribution function."""
    left = law.schedule.alpha_bar[t]
    parts = Normal(left.sqrt() * law.means.flatten(), (left * law.variances + 1 - left).sqrt())
    low, high = torch.full_like(shares, -20), torch.full_like(shares, 20)
    for _ in range(100):
        middle = (low + high) / 2
        below = (law.weights * parts.cdf(middle.unsqueeze(1))).sum(1)
        low, high = (
            torch.where(below < shares, middle, low),
            torch.where(below < shares, high, middle),
        )
    return middle


@pytest.mark.parametrize("start", [0, 1])
def test_the_books_schedule_makes_a_model_whose_density_differs_from_the_datas(start):
    """By hand: with the true score the flow matches quantiles, z = F_T⁻¹(F(x)).

    The sampler puts N(0, 1) at z, though, where the data have p_T: by change of variables its
    density at x is N(z; 0, 1) dz/dx = N(z; 0, 1) p(x) / p_T(z).
    """
    law = make_law("book", BOOK)
    x = torch.linspace(-2, 2.2, 9, dtype=torch.float64).unsqueeze(1)
    left = BOOK.alpha_bar[start]
    parts = Normal(left.sqrt() * law.means.flatten(), (left * law.variances + 1 - left).sqrt())
    z = quantile(law, (law.weights * parts.cdf(x)).sum(1), 100).unsqueeze(1)
    exact = standard(z) + law.log_prob(x, start) - law.log_prob(z, 100)
    found = flow_log_prob(law, x, start)
    torch.testing.assert_close(found.noise, z, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=1e-6)
    assert (found.log_prob - law.log_prob(x, start)).abs().max() > 0.01


def test_of_gaussian_data_the_models_density_is_a_shifted_normal():
    """The flow is linear: (z − √ᾱ_T m) / √v_T = (x − m) / √v, so the model of N(0, I) is normal."""
    law = three_d(constant(20, 0.05))
    end, x = at_level(law, 20), normal(5, 3)
    stretch = end.scale / law.variance.sqrt()
    model = Normal(law.mean - end.loc / stretch, 1 / stretch)
    found = flow_log_prob(law, x)
    torch.testing.assert_close(found.log_prob, model.log_prob(x).sum(1), rtol=0, atol=1e-6)
    assert (found.log_prob - at_level(law, 0).log_prob(x).sum(1)).abs().min() > 1e-3


class Bent(nn.Module):
    """Some smooth answer, true of no data, on a line or in space."""

    def forward(self, x, share):
        share = share.unsqueeze(1)
        return 0.5 * torch.sin(2 * x + share) + 0.3 * x.roll(1, 1) * (1 - share)


# The angle is even in the level, so what the network says is smooth in it, without kinks.
BENT = Learned(Bent(), angle_uniform(20), "v", batch_size=1000)


def test_a_models_density_integrates_to_one():
    """Whatever the network says: the flow is a change of variables."""
    x = torch.linspace(-9, 9, 721, dtype=torch.float64).unsqueeze(1)
    found = flow_log_prob(BENT, x, start=1).log_prob.exp()
    assert found[[0, -1]].max() < 1e-9
    assert found.sum().item() * 0.025 == pytest.approx(1, abs=1e-6)


def test_the_books_models_density_integrates_to_one():
    law = make_law("book", BOOK)
    x = torch.linspace(-6, 6, 481, dtype=torch.float64).unsqueeze(1)
    found = flow_log_prob(law, x, tolerance=1e-7).log_prob.exp()
    assert found.sum().item() * 0.025 == pytest.approx(1, abs=1e-6)
    assert (found - law.log_prob(x).exp()).abs().max() > 1e-2


def test_the_trace_is_the_log_volume_of_the_whole_map():
    """The log of |det dz/dx| by derivatives of where the examples are carried to."""
    x, step, columns = normal(2, 3), 1e-2, []
    found = flow_log_prob(BENT, x, start=1)
    for i in range(3):
        aside = step * torch.eye(3, dtype=torch.float64)[i]
        ends = [flow_log_prob(BENT, x + k * aside, start=1).noise for k in (1, -1, 2, -2)]
        columns.append((8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step))
    volume = torch.stack(columns, 2).det().abs().log()
    # Of fourth-order differences step⁴ = 1e-8 times the fifth derivatives is left.
    torch.testing.assert_close(found.log_prob, standard(found.noise) + volume, rtol=0, atol=1e-5)


def test_each_row_has_the_density_that_it_has_alone():
    law = make_law("ring", PURE["angle_uniform"])
    x = law.sample(4, generator(0, "data"))
    together = flow_log_prob(law, x)
    for i in range(4):
        alone = flow_log_prob(law, x[i : i + 1])
        torch.testing.assert_close(alone.log_prob, together.log_prob[i : i + 1], rtol=0, atol=1e-6)


def test_where_examples_are_carried_is_where_fine_encoding_ends():
    law = make_law("ring", PURE["angle_uniform"])
    x = law.sample(5, generator(0, "data"))
    ends = []
    for times in [5, 10]:
        fine = make_law("ring", refine(law.schedule, times))
        ends.append(last(encode(fine, make_plan(fine.schedule, times * 100), x)))
    # A walk of S steps misses by c/S: twice the finer end less the other is of second order.
    walked = 2 * ends[1] - ends[0]
    torch.testing.assert_close(flow_log_prob(law, x).noise, walked, rtol=0, atol=1e-3)


def test_probes_average_to_the_exact_trace():
    x = normal(4, 5)
    exact = flow_log_prob(BENT, x, start=1).log_prob
    found = flow_log_prob(BENT, x, 1, trace=100, generator=generator(0, "probes"), tolerance=1e-6)
    assert ((found.log_prob - exact).abs() < 4 * found.standard_error).all()
    assert (found.standard_error > 0).all()


def test_the_standard_error_falls_as_the_root_of_the_number_of_probes():
    few, many = (
        flow_log_prob(BENT, normal(4, 5), 1, n, generator(0, "probes"), tolerance=1e-3)
        for n in (40, 360)
    )
    # A deviation of 40 draws is known to a share of 1/√80 = .11 if normal; 4 rows average it.
    ratio = (few.standard_error / many.standard_error).mean().item()
    assert ratio == pytest.approx(3, rel=0.3)


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    runs = [
        flow_log_prob(BENT, normal(1, 5), 1, 20, generator(i, "probes"), tolerance=1e-3)
        for i in range(20)
    ]
    spread = torch.stack([run.log_prob for run in runs]).std().item()
    said = torch.stack([run.standard_error for run in runs]).mean().item()
    # 20 draws' deviation is known to a share of 1/√38 = .16.
    assert spread == pytest.approx(said, rel=0.5)


def test_probes_are_exact_where_all_directions_are_alike():
    """A ±1 probe meets a multiple of the identity in d times the multiple, whatever its signs."""
    law = Gaussian(PURE["angle_uniform"], double(0.3), double(0.2))
    x = normal(3, 4)
    found = flow_log_prob(law, x, trace=2, generator=generator(0, "probes"))
    assert found.standard_error.max() < 1e-14
    exact = Normal(double(0.3), math.sqrt(0.2)).log_prob(x).sum(1)
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=1e-6)


def test_calls_of_the_denoiser_are_counted_and_fewer_where_less_is_asked():
    calls = []
    law = three_d(PURE["angle_uniform"])

    class Counted:
        schedule = law.schedule

        def __call__(self, x, t):
            calls.append(t)
            return law(x, t)

    x = normal(3, 3)
    fine = flow_log_prob(Counted(), x)
    assert fine.n_calls == len(calls)
    assert max(calls) <= 100 and min(calls) == 0
    assert flow_log_prob(law, x, tolerance=1e-3).n_calls < fine.n_calls / 2


@pytest.mark.parametrize(
    ("trace", "stream"), [(10, None), (1, "probes"), (0, "probes")], ids=["no_generator", "1", "0"]
)
def test_too_few_probes_or_none_to_draw_from_are_refused(trace, stream):
    law = three_d(BOOK)
    chance = generator(0, stream) if stream else None
    with pytest.raises(ValueError, match=f"trace={trace}: give 2 or more probes and a generator"):
        flow_log_prob(law, normal(2, 3), trace=trace, generator=chance)


@pytest.mark.parametrize("start", [-0.5, 100.5])
def test_a_start_outside_the_schedule_is_refused(start):
    with pytest.raises(ValueError, match="is not between 0 and T = 100"):
        flow_log_prob(three_d(BOOK), normal(2, 3), start=start)


@pytest.mark.parametrize("beyond", [-1.0, 0.3])
def test_a_network_that_fails_on_the_way_is_named_and_not_integrated(beyond):
    """Left alone, scipy returns where it got stuck, or takes ever smaller steps without end."""

    class Fails(nn.Module):
        def forward(self, x, share):
            return torch.where(share.unsqueeze(1) > beyond, math.nan, x)

    with pytest.raises(ValueError, match=r"at level .* is not finite"):
        flow_log_prob(Learned(Fails(), BOOK, "v"), normal(2, 3))


def test_a_flow_that_leaves_all_bounds_is_refused():
    """dx/dφ = x² from x = 5 is infinite at φ = 1/5."""

    class Square(nn.Module):
        def forward(self, x, share):
            return x.square()

    with pytest.raises(ValueError, match=r"cannot be followed with tolerance=0\.01, take a larger"):
        flow_log_prob(Learned(Square(), BOOK, "v"), double([[5.0]]), start=1, tolerance=0.01)
