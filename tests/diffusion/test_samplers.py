import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from udl_lab.diffusion.denoisers import Empirical, Gaussian, PointMass
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.plan import StepPlan, make_plan
from udl_lab.diffusion.samplers import (
    PriorGapWarning,
    Trajectory,
    ddim,
    ddpm,
    draw_prior,
    encode,
    heun,
    last,
    lerp,
    slerp,
    warn_of_prior_gap,
)
from udl_lab.diffusion.schedule import angle_uniform, linear
from udl_lab.nets.time_mlp import TimeMLP
from udl_lab.randomness import generator, seeded

LINEAR = linear(1000)
ANGLE = angle_uniform(60)  # the last level is pure noise
WALKS = {
    **{
        spacing: (LINEAR, make_plan(LINEAR, 6, spacing))
        for spacing in ("trailing", "leading", "linspace", "quadratic", "karras")
    },
    "custom": (LINEAR, StepPlan((990, 500, 37, 2, 1, 0))),
    "no_divisor": (LINEAR, make_plan(LINEAR, 13)),
    "one_step": (LINEAR, make_plan(LINEAR, 1)),
    "pure_noise": (ANGLE, make_plan(ANGLE, 7)),
}


def normal_data(schedule, mean, variance):
    return Gaussian(schedule, *(torch.tensor([x], dtype=torch.float64) for x in (mean, variance)))


def draw(*shape, name="x"):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, name))


def conditional(covariance, of, given):
    """Slopes and variance of one normal variable, given others, from their covariance alone."""
    slopes = np.linalg.solve(covariance[np.ix_(given, given)], covariance[given, of])
    return slopes, covariance[of, of] - slopes @ covariance[given, of]


def step_by_conditioning(schedule, mean, variance, t, s, eta=None, of_variance="small"):
    """Slope, intercept and deviation of the step x_t -> x_s that a sampler should take.

    From the covariance of (x_0, x_s, x_t, ε), which is that of x_0 and two independent noises.
    """
    at_s, at_t = schedule.alpha_bar[s].item(), schedule.alpha_bar[t].item()
    x0, more = np.array([1.0, 0, 0]), np.array([0, 0, math.sqrt(1 - at_t / at_s)])
    xs = np.array([math.sqrt(at_s), math.sqrt(1 - at_s), 0])
    xt = math.sqrt(at_t / at_s) * xs + more
    eps = (xt - math.sqrt(at_t) * x0) / math.sqrt(1 - at_t)
    rows = np.stack([x0, xs, xt, eps])
    of_data, of_unit = (rows @ np.diag([v, 1, 1]) @ rows.T for v in (variance, 1.0))

    (to_x0,), _ = conditional(of_data, 0, [2])
    (to_eps,), _ = conditional(of_data, 3, [2])
    (of_x0, of_xt), small = conditional(of_unit, 1, [0, 2])  # given x_0, its law does not matter
    centre = math.sqrt(at_t) * mean
    if eta is None:
        slope, centre_to = of_x0 * to_x0 + of_xt, of_x0 * mean + of_xt * centre
        _, optimal = conditional(of_data, 1, [2])
        added = {"small": small, "large": more @ more, "optimal": optimal}[of_variance]
    else:
        added = eta**2 * small
        left = 1 - at_s - added
        kept = math.sqrt(left) if left > 1e-14 else 0.0  # rounding, below
        slope, centre_to = math.sqrt(at_s) * to_x0 + kept * to_eps, math.sqrt(at_s) * mean
    return slope, centre_to - slope * centre, math.sqrt(max(added, 0))


def walk_by_conditioning(schedule, plan, mean, variance, keep_last=True, **settings):
    """The whole walk: out = slope · x + intercept + Σ weights · noises; no noises for η = 0."""
    slope, intercept, weights = 1.0, 0.0, []
    for t, s in pairwise(plan.levels):
        a, c, deviation = step_by_conditioning(schedule, mean, variance, t, s, **settings)
        slope, intercept = a * slope, a * intercept + c
        weights = [a * w for w in weights]
        if settings.get("eta") != 0 and (s > 0 or keep_last):
            weights.append(deviation)
    return np.array([slope, intercept, *weights])


def measured(walk, draws):
    """The same numbers of a sampler, solved for from more rows than there are unknowns.

    The same draws are made again here, one call for each step.
    """
    n = draws + 12
    x = draw(n, 1, name="start")
    out = last(walk(x, generator(0, "walk")))
    again = generator(0, "walk")
    noises = [torch.randn(n, 1, generator=again).double() for _ in range(draws)]
    inputs = torch.cat([x, torch.ones_like(x), *noises], 1)
    found = torch.linalg.lstsq(inputs, out).solution
    torch.testing.assert_close(inputs @ found, out, atol=1e-11, rtol=0)  # the walk is affine
    return found[:, 0].numpy()


def deviation(response):
    """Of a walk that starts from N(0, 1)."""
    return math.sqrt(response[0] ** 2 + (response[2:] ** 2).sum())


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", WALKS)
def test_ddim_of_normal_data_is_the_walk_that_conditioning_gives(name, eta):
    schedule, plan = WALKS[name]
    denoiser = normal_data(schedule, 0.7, 0.25)
    found = measured(
        lambda x, noise: ddim(denoiser, plan, x, noise, eta), len(plan) if eta > 0 else 0
    )
    expected = walk_by_conditioning(schedule, plan, 0.7, 0.25, eta=eta)
    np.testing.assert_allclose(found, expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("variance", ["small", "large", "optimal"])
@pytest.mark.parametrize("name", WALKS)
def test_ddpm_of_normal_data_is_the_walk_that_conditioning_gives(name, variance, keep):
    schedule, plan = WALKS[name]
    denoiser = normal_data(schedule, 0.7, 0.25)
    found = measured(
        lambda x, noise: ddpm(denoiser, plan, x, noise, variance, keep), len(plan) - 1 + keep
    )
    expected = walk_by_conditioning(schedule, plan, 0.7, 0.25, keep, of_variance=variance)
    np.testing.assert_allclose(found, expected, atol=1e-11, rtol=0)


GOLDEN = [  # of data N(0, .25), T = 1000; /work/shared/notes/generative.md, section 2d
    (5, 0.2625, 0.2483),
    (10, 0.3700, 0.3335),
    (20, 0.4314, 0.3915),
    (50, 0.4714, 0.4441),
    (100, 0.4854, 0.4682),
    (1000, 0.4985, 0.4961),
]


@pytest.mark.parametrize(("steps", "flow", "ancestral"), GOLDEN)
def test_few_steps_make_normal_samples_too_narrow_by_known_amounts(steps, flow, ancestral):
    denoiser, plan = normal_data(LINEAR, 0.0, 0.25), make_plan(LINEAR, steps)
    assert deviation(measured(lambda x, _: ddim(denoiser, plan, x), 0)) == pytest.approx(
        flow, abs=5e-5
    )
    of_noise = measured(lambda x, noise: ddim(denoiser, plan, x, noise, 1.0), steps)
    assert deviation(of_noise) == pytest.approx(ancestral, abs=5e-5)


@pytest.mark.parametrize("steps", [1, 5, 10, 20, 50, 100])
def test_the_optimal_variance_gives_normal_data_back_at_any_number_of_steps(steps):
    """Up to the prior gap: ᾱ_T = 4e-5 of the wrong starting variance is still seen."""
    denoiser, plan = normal_data(LINEAR, 0.0, 0.25), make_plan(LINEAR, steps)
    found = measured(lambda x, noise: ddpm(denoiser, plan, x, noise, "optimal", True), steps)
    assert deviation(found) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(("steps", "without"), [(5, 0.8118), (50, 0.9971)])
@pytest.mark.parametrize("variance", ["large", "optimal"])
def test_data_of_unit_variance_come_back_exactly_with_the_last_noise_only(variance, steps, without):
    denoiser, plan = normal_data(LINEAR, 0.0, 1.0), make_plan(LINEAR, steps)
    kept, dropped = (
        measured(lambda x, noise, k=keep: ddpm(denoiser, plan, x, noise, variance, k), draws)
        for keep, draws in ((True, steps), (False, steps - 1))
    )
    assert deviation(kept) == pytest.approx(1, abs=1e-12)
    assert deviation(dropped) == pytest.approx(without, abs=5e-5)


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 60])
def test_equal_steps_of_the_angle_end_with_a_power_of_a_cosine(steps):
    x = draw(20, 3)
    unit = Gaussian(ANGLE, torch.zeros(3).double(), torch.ones(3).double())
    expected = math.cos(math.pi / (2 * steps)) ** steps * x
    torch.testing.assert_close(
        last(ddim(unit, make_plan(ANGLE, steps), x)), expected, atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("name", WALKS)
def test_ddim_with_eta_1_is_ancestral_sampling_with_the_small_variance(name):
    schedule, plan = WALKS[name]
    law, x = make_law("ring", schedule), draw(40, 2)
    one = last(ddim(law, plan, x, generator(0, "walk"), eta=1.0))
    other = last(ddpm(law, plan, x, generator(0, "walk"), "small"))
    torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 60])
def test_data_of_one_point_are_given_back(steps):
    point, x, plan = draw(2, 3, name="point"), draw(9, 2, 3), make_plan(ANGLE, steps)
    denoiser = PointMass(ANGLE, point)
    walks = [ddim(denoiser, plan, x), ddim(denoiser, plan, x, generator(0, "walk"), 0.5)]
    walks += [ddpm(denoiser, plan, x, generator(0, "walk"), v) for v in ("small", "large")]
    walks += [ddpm(denoiser, plan, x, generator(0, "walk"), "optimal", keep_last_noise=True)]
    for walk in walks:
        torch.testing.assert_close(last(walk), point.expand_as(x), atol=1e-15, rtol=1e-15)


@pytest.mark.parametrize("steps", [20, 100])
def test_a_finite_data_set_gives_its_own_examples_back(steps):
    data, x = draw(50, 1, 6, 6, name="data"), draw(40, 1, 6, 6)
    samples = last(ddim(Empirical(LINEAR, data), make_plan(LINEAR, steps), x))
    apart = (samples[:, None] - data).abs().flatten(2).amax(2).amin(1)
    # The last level asked is t = 50 at most, where another example has a weight below e^-100.
    assert apart.max() < 1e-12


@pytest.mark.parametrize("name", ["trailing", "custom", "pure_noise"])
def test_encoding_unit_variance_and_decoding_it_loses_known_factors(name):
    """A step over an angle δ multiplies by cos δ, upward and downward."""
    schedule, plan = WALKS[name]
    unit, x = normal_data(schedule, 0.0, 1.0), draw(20, 1)
    angle = schedule.alpha_bar.sqrt().acos()[list(plan.levels)]
    once = (angle[1:] - angle[:-1]).cos().prod()
    noise = last(encode(unit, plan, x))
    torch.testing.assert_close(noise, once * x, atol=1e-13, rtol=0)
    torch.testing.assert_close(last(ddim(unit, plan, noise)), once**2 * x, atol=1e-13, rtol=0)


def test_encoding_visits_the_levels_of_the_plan_upward():
    plan = StepPlan((900, 300, 7, 0))
    walked = list(encode(normal_data(LINEAR, 0.3, 0.5), plan, draw(4, 1)))
    assert [state.t for state in walked] == [0, 7, 300, 900]
    assert walked[-1].prediction is None
    torch.testing.assert_close(walked[0].x, draw(4, 1))


def slope_of_flow(sigma, mean, variance, x):
    """dx̄/dσ of normal data: x̄ ~ N(mean, variance + σ²) and its quantiles move outward."""
    return (x - mean) * sigma / (variance + sigma**2)


def test_heun_is_the_trapezoid_rule_with_a_last_step_of_euler():
    mean, variance, plan = 0.7, 0.25, StepPlan((900, 500, 100, 10, 0))
    x = draw(5, 1)
    level = LINEAR.alpha_bar[list(plan.levels)]
    sigmas = ((1 - level) / level).sqrt().tolist()
    y = x / level[0].sqrt()
    for high, low in pairwise(sigmas):
        first = slope_of_flow(high, mean, variance, y)
        second = slope_of_flow(low, mean, variance, y + (low - high) * first)
        y = y + (low - high) * (first if low == 0 else (first + second) / 2)
    found = last(heun(normal_data(LINEAR, mean, variance), plan, x))
    torch.testing.assert_close(found, y, atol=1e-12, rtol=0)


def test_heun_is_of_second_order_and_ddim_of_first():
    """Halving the steps divides the error by 4 and by 2; the flow of normal data is known."""
    schedule = angle_uniform(960)
    start, mean, variance = 720, 0.7, 0.25
    x = draw(5, 1)
    alpha_bar = schedule.alpha_bar[start]
    scale = (variance / (alpha_bar * variance + 1 - alpha_bar)).sqrt()
    exact = mean + scale * (x - alpha_bar.sqrt() * mean)
    denoiser = normal_data(schedule, mean, variance)
    for walk, ratio in ((heun, 4), (ddim, 2)):
        errors = [
            (last(walk(denoiser, StepPlan(tuple(range(start, -1, -stride))), x)) - exact).abs()
            for stride in (24, 12, 6)
        ]
        for rough, fine in pairwise(errors):
            torch.testing.assert_close(rough / fine, torch.full_like(x, ratio), atol=0, rtol=0.05)


def test_heun_refuses_pure_noise():
    with pytest.raises(ValueError, match="infinite at level 60"):
        last(heun(normal_data(ANGLE, 0.0, 1.0), make_plan(ANGLE, 5), draw(3, 1)))


def test_ddim_refuses_to_draw_noise_from_nowhere():
    with pytest.raises(ValueError, match=r"eta=0\.3 draws noise; give a generator"):
        last(ddim(normal_data(LINEAR, 0.0, 1.0), make_plan(LINEAR, 5), draw(3, 1), eta=0.3))


def test_a_trajectory_holds_every_state_and_what_was_said_there():
    schedule, plan = WALKS["no_divisor"]
    law, x = make_law("ring", schedule), draw(6, 2).requires_grad_()
    path = Trajectory.record(ddpm(law, plan, x, generator(0, "walk")))
    assert path.levels == plan.levels
    assert path.x.shape == (14, 6, 2) and path.x0.shape == path.eps.shape == (13, 6, 2)
    assert not path.x[-1].requires_grad
    torch.testing.assert_close(path.x[0], x.detach())
    torch.testing.assert_close(path.x[-1], last(ddpm(law, plan, x, generator(0, "walk"))))
    for t, at, x0, eps in zip(path.levels[:-1], path.x[:-1], path.x0, path.eps, strict=True):
        said = law(at, t)
        torch.testing.assert_close((x0, eps), (said.x0, said.eps))


def test_a_walk_is_the_same_from_its_generator_again_and_another_from_another():
    law, plan, x = make_law("ring", LINEAR), make_plan(LINEAR, 5), draw(6, 2)
    one, again, other = (last(ddpm(law, plan, x, generator(seed, "walk"))) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.isclose(one, other).any()


def test_a_plan_that_starts_too_low_is_warned_of_with_what_it_costs():
    """KL(q(x_901) ‖ N(0, 1)) of a point at ±1 is -½ log(1 - ᾱ_901), in nats."""
    cost = -0.5 * math.log(1 - LINEAR.alpha_bar[901].item())
    with pytest.warns(PriorGapWarning, match=f"starts at level 901.*costs up to {cost:.3g} nats"):
        warn_of_prior_gap(normal_data(LINEAR, 0.0, 1.0), make_plan(LINEAR, 10, "leading"))


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "quadratic", "karras"])
def test_a_plan_that_starts_at_the_last_level_is_not_warned_of(spacing):
    # Warnings are errors here.
    warn_of_prior_gap(normal_data(LINEAR, 0.0, 1.0), make_plan(LINEAR, 10, spacing))


@pytest.mark.parametrize("sampler", [ddpm, ddim])
def test_samples_do_not_depend_on_the_batches_of_a_network(sampler):
    with seeded(0, "net"):
        net = TimeMLP([2], width=8, depth=1).double()
    x, plan = draw(7, 2), make_plan(LINEAR, 4)
    of_one, of_three, of_all = (
        last(sampler(Learned(net, LINEAR, "v", batch_size=n), plan, x, generator(0, "walk")))
        for n in (1, 3, 100)
    )
    # Up to the order in which a matrix product adds up.
    torch.testing.assert_close(of_one, of_all, atol=1e-11, rtol=0)
    torch.testing.assert_close(of_three, of_all, atol=1e-11, rtol=0)


def test_the_prior_is_standard_normal_noise_of_the_shape_and_type_asked_for():
    x = draw_prior(4000, (2, 3), generator(0, "prior"), torch.float64)
    assert x.shape == (4000, 2, 3) and x.dtype == torch.float64
    assert draw_prior(1, (2,), generator(0, "prior")).dtype == torch.float32
    # Four standard errors of 24,000 draws.
    assert x.mean().item() == pytest.approx(0, abs=4 / math.sqrt(24_000))
    assert x.var().item() == pytest.approx(1, abs=4 * math.sqrt(2 / 24_000))


def test_the_great_circle_keeps_the_norm_and_the_speed():
    a, b = (torch.nn.functional.normalize(draw(20, 6, name=name)) * 3 for name in "ab")
    whole = torch.nn.functional.cosine_similarity(a, b).acos()
    for share in (0.0, 0.2, 0.5, 1.0):
        between = slerp(a.reshape(20, 2, 3), b.reshape(20, 2, 3), share).reshape(20, 6)
        torch.testing.assert_close(between.norm(dim=1), torch.full((20,), 3.0).double())
        torch.testing.assert_close((a * between).sum(1), 9 * (share * whole).cos())
        torch.testing.assert_close((b * between).sum(1), 9 * ((1 - share) * whole).cos())
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.0, 2.7, -1.0, -3.3])
def test_between_parallel_and_opposite_directions_the_way_is_straight(factor, dtype):
    """Whichever way their cosine is rounded: 500 rows have some of each."""
    a = draw(500, 3).to(dtype)
    torch.testing.assert_close(
        slerp(a, factor * a, 0.25), (0.75 + 0.25 * factor) * a, atol=1e-5, rtol=1e-5
    )


def test_great_circles_keep_normal_noise_normal_and_straight_lines_shrink_it():
    a, b = draw(4, 20_000, name="a"), draw(4, 20_000, name="b")
    # Standard errors: √(2 / 20000) = .01 of each row's variance.
    straight, round_ = lerp(a, b, 0.3).var(1), slerp(a, b, 0.3).var(1)
    torch.testing.assert_close(straight, torch.full_like(straight, 0.58), atol=0.04, rtol=0)
    torch.testing.assert_close(round_, torch.ones_like(round_), atol=0.04, rtol=0)
    torch.testing.assert_close(lerp(a, b, 0.3), 0.7 * a + 0.3 * b)
