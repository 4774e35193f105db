"""The bound against closed forms, quadrature, torch's divergences and scipy's tails."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Independent, Normal, kl_divergence

from udl_lab.diffusion.denoisers import Gaussian, PointMass
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.plan import StepPlan, make_plan
from udl_lab.diffusion.process import diffuse, posterior, predict, step_variance
from udl_lab.diffusion.schedule import Schedule, angle_uniform, constant, linear
from udl_lab.diffusion.variational_bound import (
    Bound,
    bits_per_dimension,
    learned_variance_term,
    prior_term,
    reconstruction_term,
    step_term,
    variational_bound,
)
from udl_lab.randomness import generator

PAIRS = [(0.0, 1.0), (0.0, 0.25), (0.5, 0.04)]  # means and variances of the data
VARIANCES = ["small", "large", "optimal"]
BYTE = 2 / 255


def double(*values):
    """In double precision from the start: `torch.tensor(0.1).double()` would round to single."""
    return torch.tensor(*values, dtype=torch.float64)


def normal(*shape, stream="bound"):
    return torch.randn(shape, generator=generator(0, stream), dtype=torch.float64)


def gaussian(schedule, mean, variance):
    return Gaussian(schedule, double(mean), double(variance))


def hermite(n):
    """Points and weights of E f(z), z standard normal: exact for polynomials of degree 2n − 1."""
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(points), torch.from_numpy(weights / weights.sum())


def terms(denoiser, plan, x0, eps, variance):
    """All terms of the bound for the same noise at every level; their means do not mind."""
    yield prior_term(denoiser.schedule, x0, plan.start)
    for t, s in plan:
        if s > 0:
            yield step_term(denoiser, x0, s, t, eps, variance)
        else:
            yield reconstruction_term(denoiser, x0, t, eps, variance)


def mean_bound(denoiser, plan, x0, weights, variance, n_noises=3):
    """The mean over weighted examples of the bound, and over the noise by quadrature."""
    z, of_z = hermite(n_noises)
    grid_x = x0.repeat_interleave(len(z)).unsqueeze(1)
    grid_z = z.repeat(len(x0)).unsqueeze(1)
    total = sum(terms(denoiser, plan, grid_x, grid_z, variance))
    return total.reshape(len(x0), len(z)) @ of_z @ weights


@pytest.mark.parametrize("steps", [1, 2, 10, 100])
@pytest.mark.parametrize(("mean", "variance"), PAIRS)
def test_of_gaussian_data_the_bound_lacks_only_the_prior_gap(mean, variance, steps):
    """E bound = entropy + KL(q(x_T) ‖ N(0, I)), with the optimal variance and any plan.

    Every term is a polynomial of degree 2 in x_0 and ε, so three points of each are exact.
    """
    schedule = linear(1000)
    plan = make_plan(schedule, steps)
    z, of_z = hermite(3)
    law = gaussian(schedule, mean, variance)
    found = mean_bound(law, plan, mean + math.sqrt(variance) * z, of_z, "optimal")
    left = schedule.alpha_bar[-1].item()
    entropy = 0.5 * math.log(2 * math.pi * math.e * variance)
    at_end = left * variance + 1 - left
    gap = 0.5 * (at_end + left * mean**2 - 1 - math.log(at_end))
    assert found.item() == pytest.approx(entropy + gap, abs=1e-10)


@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize(("mean", "variance"), PAIRS)
def test_where_the_model_is_exact_the_bound_is_tight_for_every_example(mean, variance, steps):
    """From pure noise, with the optimal variance, the model is the data's law: no gap anywhere."""
    law = gaussian(angle_uniform(60), mean, variance)
    plan = make_plan(law.schedule, steps)
    for x in [mean - 3, mean, mean + 0.1, 2.5]:
        found = mean_bound(law, plan, double([x]), torch.ones(1).double(), "optimal")
        exact = -Normal(double(mean), math.sqrt(variance)).log_prob(double(x))
        assert found.item() == pytest.approx(exact.item(), abs=1e-10)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_wrong_variance_or_mean_loosens_the_bound(variance):
    law = gaussian(angle_uniform(60), 0.0, 0.25)
    z, of_z = hermite(3)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    plan = make_plan(law.schedule, 10)
    assert mean_bound(law, plan, z / 2, of_z, variance) > entropy + 0.01
    wrong = gaussian(law.schedule, 0.3, 0.25)
    assert mean_bound(wrong, plan, z / 2, of_z, "optimal") > entropy + 0.01


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("steps", [1, 5, 50])
def test_the_bound_of_a_mixture_is_over_its_entropy(steps, variance):
    law = make_law("book", constant(100, 0.01511))
    plan = make_plan(law.schedule, steps)
    x0 = torch.linspace(-4, 4, 801, dtype=torch.float64)
    log_p = law.log_prob(x0.unsqueeze(1))
    share = log_p.exp() * (x0[1] - x0[0])
    entropy = -(share * log_p).sum()
    bound = mean_bound(law, plan, x0, share, variance, n_noises=40)
    assert bound > entropy + 1e-3


def test_more_steps_tighten_the_bound_of_a_mixture_down_to_the_prior_gap():
    law = make_law("book", angle_uniform(400))
    x0 = torch.linspace(-4, 4, 401, dtype=torch.float64)
    log_p = law.log_prob(x0.unsqueeze(1))
    share = log_p.exp() * (x0[1] - x0[0])
    entropy = -(share * log_p).sum()
    gaps = [
        (mean_bound(law, make_plan(law.schedule, steps), x0, share, "optimal", 20) - entropy).item()
        for steps in [5, 20, 80]
    ]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


def test_the_prior_term_is_torchs_divergence():
    schedule, x0 = linear(50), normal(6, 2, 3)
    for t in [1, 7, 50]:
        left = schedule.alpha_bar[t]
        there = Normal(left.sqrt() * x0, (1 - left).sqrt())
        wanted = kl_divergence(there, Normal(torch.zeros_like(x0), 1.0)).sum((1, 2))
        torch.testing.assert_close(prior_term(schedule, x0, t), wanted, rtol=1e-12, atol=1e-12)


def test_the_prior_term_of_pure_noise_is_nothing():
    assert prior_term(angle_uniform(5), normal(4, 3), 5).tolist() == [0] * 4


class WithPlace:
    """An oracle that also says where its variance lies."""

    def __init__(self, law, between):
        self.law = law
        self.between = between
        self.schedule = law.schedule

    def __call__(self, x, t):
        return self.law(x, t)._replace(between=self.between)


def ring_with_place(n, schedule):
    place = torch.rand(n, 2, generator=generator(0, "between"), dtype=torch.float64)
    return WithPlace(make_law("ring", schedule), place)


@pytest.mark.parametrize("variance", [*VARIANCES, "learned"])
@pytest.mark.parametrize(("s", "t"), [(1, 2), (3, 40), (49, 50)])
def test_a_steps_term_is_torchs_divergence(s, t, variance):
    schedule, x0, eps = linear(50), normal(6, 2, stream="x0"), normal(6, 2, stream="eps")
    denoiser = ring_with_place(6, schedule)
    x_t = diffuse(schedule, x0, t, eps)
    answer = denoiser(x_t, t)
    true_mean, true_width = posterior(schedule, x0, x_t, s, t)
    mean, _ = posterior(schedule, answer.x0, x_t, s, t)
    width = step_variance(schedule, answer, s, t, variance)
    wanted = kl_divergence(
        Independent(Normal(true_mean, true_width.sqrt().expand_as(x0)), 1),
        Independent(Normal(mean, width.sqrt().expand_as(x0)), 1),
    )
    found = step_term(denoiser, x0, s, t, eps, variance)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", [*VARIANCES, "learned"])
@pytest.mark.parametrize("t", [1, 10, 50])
def test_the_last_steps_term_is_torchs_log_density(t, variance):
    schedule, x0, eps = linear(50), normal(6, 2, stream="x0"), normal(6, 2, stream="eps")
    denoiser = ring_with_place(6, schedule)
    x_t = diffuse(schedule, x0, t, eps)
    answer = denoiser(x_t, t)
    # All weight is on x̂_0 at level 0. Small is 0 there, so the large variance stands in.
    large = 1 - schedule.alpha_bar[t]
    small = posterior(schedule, x0, x_t, 1, 2)[1]
    width = {
        "small": large,
        "large": large,
        "optimal": answer.x0_variance,
        "learned": small ** (1 - denoiser.between) * large**denoiser.between,
    }[variance]
    wanted = -Normal(answer.x0, width.sqrt().expand_as(x0)).log_prob(x0).sum(1)
    found = reconstruction_term(denoiser, x0, t, eps, variance)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_draw_of_the_bound_is_its_terms_with_the_generators_noise():
    schedule, x0 = linear(50), normal(5, 2)
    law, plan = make_law("ring", schedule), StepPlan((40, 12, 3, 0))
    bound = variational_bound(law, plan, x0, generator(0, "draw"), "optimal")
    again = generator(0, "draw")
    for i, (t, s) in enumerate([(40, 12), (12, 3)]):
        eps = torch.randn(5, 2, generator=again, dtype=torch.float64)
        torch.testing.assert_close(bound.steps[i], step_term(law, x0, s, t, eps, "optimal"))
    eps = torch.randn(5, 2, generator=again, dtype=torch.float64)
    wanted = reconstruction_term(law, x0, 3, eps, "optimal")
    torch.testing.assert_close(bound.reconstruction, wanted)
    torch.testing.assert_close(bound.prior, prior_term(schedule, x0, 40))
    total = bound.prior + bound.steps[0] + bound.steps[1] + bound.reconstruction
    torch.testing.assert_close(bound.total, total, rtol=1e-14, atol=0)


def test_one_step_has_no_terms_between_and_single_precision_is_raised():
    law = make_law("ring", linear(50))
    bound = variational_bound(law, StepPlan((50, 0)), normal(3, 2).float(), generator(0, "draw"))
    assert isinstance(bound, Bound)
    assert bound.steps.shape == (0, 3)
    assert torch.equal(bound.total, bound.prior + bound.reconstruction)
    assert bound.total.dtype == torch.float64


def test_draws_of_the_bound_average_to_the_quadrature():
    law = gaussian(linear(50), 0.5, 0.25)
    plan = make_plan(law.schedule, 5)
    z, of_z = hermite(3)
    exact = mean_bound(law, plan, 0.5 + 0.5 * z, of_z, "large").item()
    x0 = 0.5 + 0.5 * normal(20_000, 1)
    total = variational_bound(law, plan, x0, generator(0, "draw"), "large").total
    standard_error = total.std().item() / math.sqrt(len(x0))
    assert total.mean().item() == pytest.approx(exact, abs=4 * standard_error)
    assert standard_error < 0.02


@pytest.mark.parametrize("levels", [[1, 2, 30, 50], [1, 1, 1, 1], [2, 3, 4, 50]])
def test_the_learned_variances_loss_is_the_bounds_term_of_each_row(levels):
    schedule, x0, eps = linear(50), normal(4, 2, stream="x0"), normal(4, 2, stream="eps")
    denoiser, t = ring_with_place(4, schedule), torch.tensor(levels)
    x_t = diffuse(schedule, x0, t, eps)
    found = learned_variance_term(schedule, denoiser(x_t, t), x0, x_t, t)
    for i, level in enumerate(levels):
        one = WithPlace(denoiser.law, denoiser.between[i : i + 1])
        row = slice(i, i + 1)
        wanted = (
            reconstruction_term(one, x0[row], 1, eps[row], "learned")
            if level == 1
            else step_term(one, x0[row], level - 1, level, eps[row], "learned")
        )
        torch.testing.assert_close(found[row], wanted, rtol=1e-10, atol=1e-12)


def test_the_learned_variances_loss_teaches_the_variance_alone():
    schedule, x0, t = linear(50), normal(3, 2, stream="x0"), torch.tensor([1, 2, 30])
    x_t = diffuse(schedule, x0, t, normal(3, 2, stream="eps"))
    output = normal(3, 2, stream="output").requires_grad_()
    between = torch.full((3, 2), 0.5, dtype=torch.float64, requires_grad=True)
    said = predict(schedule, "eps", output, x_t, t)._replace(between=between)
    learned_variance_term(schedule, said, x0, x_t, t).sum().backward()
    assert output.grad is None
    assert (between.grad != 0).all()


def bin_nats(pixels, mean, deviation):
    """−log P of pixels' bins for a normal of this mean and deviation, one number each."""
    left = 1 - deviation**2
    schedule = Schedule(torch.tensor([1.0, left], dtype=torch.float64))
    point = PointMass(schedule, double([mean]))  # its x̂_0 is the mean, whatever x_t
    x0 = torch.as_tensor(pixels, dtype=torch.float64).reshape(-1, 1)
    return reconstruction_term(point, x0, 1, torch.zeros_like(x0), "large", BYTE)


GRID = torch.arange(256, dtype=torch.float64) * BYTE - 1


def scipys_nats(pixel, mean, deviation):
    """−log P by scipy, from the tail that the bin lies in."""
    low, high = (pixel - BYTE / 2 - mean) / deviation, (pixel + BYTE / 2 - mean) / deviation
    low = -math.inf if pixel < -1 + BYTE / 2 else low
    high = math.inf if pixel > 1 - BYTE / 2 else high
    if low > 0:
        low, high = -high, -low
    far, near = stats.norm.logcdf(high), stats.norm.logcdf(low)
    return -(far + math.log(-math.expm1(near - far)))


@pytest.mark.parametrize("deviation", [0.002, 0.0074, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("mean", [-1.5, -0.999, 0.0, 0.3, 1.0])
def test_the_bins_are_a_partition(mean, deviation):
    assert (-bin_nats(GRID, mean, deviation)).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("deviation", [0.0074, 0.05, 0.5])
@pytest.mark.parametrize("mean", [-0.999, 0.1, 0.3])
def test_a_bins_probability_is_a_difference_of_scipys_cdf(mean, deviation):
    found = (-bin_nats(GRID, mean, deviation)).exp()
    edges = np.concatenate([[-math.inf], (GRID[1:] - BYTE / 2).numpy(), [math.inf]])
    wanted = np.diff(stats.norm.cdf(edges, mean, deviation))
    # ᾱ near 1 keeps 1 − ᾱ, and so the deviation, to a relative 1e-16 / .0074² = 2e-12 at worst.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("deviation", [0.002, 0.0074, 0.05, 0.5])
def test_bins_far_out_cost_what_scipys_tails_say(deviation):
    found = bin_nats(GRID, 0.1, deviation)
    wanted = [scipys_nats(pixel, 0.1, deviation) for pixel in GRID.tolist()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-11)


def test_an_outlier_costs_what_it_costs():
    """13.5 deviations out, a floor of 1e-12 under the probability would say 39.86 bits.

    The bin's near edge is z = 12.97 deviations out: −log P = z²/2 + log(z √2π) + 1/z² − …, and the
    bin's far edge takes off less than e^(−z · 2 · .53) = 1e-6 of P.
    """
    deviation = 0.0074
    bits = bin_nats([13.5 * deviation], 0.0, deviation).item() / math.log(2)
    z = 13.5 - BYTE / 2 / deviation
    series = z**2 / 2 + math.log(z * math.sqrt(2 * math.pi)) + 1 / z**2 - 2.5 / z**4
    assert bits == pytest.approx(series / math.log(2), abs=1e-5)
    assert 126 < bits < 128
    assert -math.log2(1e-12) == pytest.approx(39.86, abs=0.005)


def test_both_tails_cost_the_same():
    pixels = torch.tensor([-1.0, -0.7, -0.1, 0.0, 0.5, 0.9, 1.0])
    for deviation in [0.002, 0.01, 0.3]:
        right, left = bin_nats(pixels, 0.2, deviation), bin_nats(-pixels, -0.2, deviation)
        torch.testing.assert_close(right, left, rtol=1e-12, atol=0)
        assert right.isfinite().all()


def test_a_narrow_bins_probability_is_its_width_times_the_density():
    schedule, x0, eps = linear(50), normal(6, 2, stream="x0") / 9, normal(6, 2, stream="eps")
    law = make_law("ring", schedule)
    binned = reconstruction_term(law, x0, 30, eps, "large", 1e-5)
    density = reconstruction_term(law, x0, 30, eps, "large")
    # The bin's mean density differs from the middle one by (width / deviation)² / 24 or so.
    torch.testing.assert_close(binned, density - 2 * math.log(1e-5), rtol=0, atol=1e-8)


def test_uniform_bytes_cost_eight_bits():
    nats = double([math.log(256) * 784])
    assert bits_per_dimension(nats, 784).item() == pytest.approx(8, rel=1e-14)


def test_a_uniform_density_of_dequantised_bytes_costs_eight_bits():
    """Bytes plus a uniform number of their bin fill 256 bins' length, at a constant density."""
    for width in [BYTE, 1 / 256, 1.0]:
        nats = double([784 * math.log(256 * width)])
        bits = bits_per_dimension(nats, 784, width)
        assert bits.item() == pytest.approx(8, rel=1e-13)


def test_a_dequantised_density_bounds_the_bins_probability():
    """E −log₂ p, with the bin's width, is no less than −log₂ of p's mean over the bin (Jensen)."""
    u = (torch.arange(2000).double() + 0.5) / 2000 - 0.5
    law = Normal(double(0.0), 0.1)
    for pixel in [0.0, 20 * BYTE, 60 * BYTE]:
        log_p = law.log_prob(pixel + BYTE * u)
        bits = bits_per_dimension(-log_p, 1, BYTE).mean()
        edges = law.cdf(double([pixel - BYTE / 2, pixel + BYTE / 2]))
        exact = -(edges[1] - edges[0]).log2()
        assert 0 < bits - exact < 0.01
