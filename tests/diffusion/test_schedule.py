"""Every schedule is its paper's formula, and a table that is none is refused by name."""

import math

import jaxtyping
import pytest
import torch

from udl_lab.diffusion.schedule import (
    Schedule,
    angle_uniform,
    constant,
    cosine,
    from_betas,
    linear,
    refine,
    scaled_linear,
    sigmoid,
    zero_terminal_snr,
)
from udl_lab.randomness import generator

EVERY = {
    "linear": lambda: linear(1000),
    "linear short": lambda: linear(50),
    "scaled_linear": lambda: scaled_linear(300),
    "constant": lambda: constant(100, 0.01511),
    "cosine": lambda: cosine(200),
    "sigmoid": lambda: sigmoid(200),
    "angle_uniform": lambda: angle_uniform(64),
    "zero_terminal_snr": lambda: zero_terminal_snr(linear(1000)),
    "refine": lambda: refine(linear(50), 7),
}
every_schedule = pytest.mark.parametrize(
    "schedule", [pytest.param(f(), id=n) for n, f in EVERY.items()]
)


def equal(actual, expected, relative=1e-12):
    """In double precision; a product of 1,000 factors is off by at most 1,000 roundings, 1e-13."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=relative, atol=1e-15)


def products(betas):
    """ᾱ_t as the product of 1 − β_1 … 1 − β_t, one by one."""
    table = [1.0]
    for beta in betas:
        table.append(table[-1] * (1 - beta))
    return table


@every_schedule
def test_every_table_starts_at_1_and_falls_strictly_in_double_precision(schedule):
    table = schedule.alpha_bar
    assert table.dtype == torch.float64
    assert table[0] == 1 and table[-1] >= 0
    assert (table.diff() < 0).all()
    assert len(table) == schedule.n_steps + 1


@pytest.mark.parametrize("n", [21, 50, 1000, 4000])
def test_linear_is_ho_et_al_s_straight_line_of_betas_rescaled_to_the_number_of_steps(n):
    betas = [(1e-4 + (0.02 - 1e-4) * i / (n - 1)) * 1000 / n for i in range(n)]
    equal(linear(n).alpha_bar, products(betas))


def test_rescaling_changes_nothing_at_1000_steps():
    assert torch.equal(linear(1000).alpha_bar, linear(1000, rescaled=False).alpha_bar)
    assert torch.equal(scaled_linear(1000).alpha_bar, scaled_linear(1000, rescaled=False).alpha_bar)


@pytest.mark.parametrize(("n", "left"), [(20, 0.817), (100, 0.364), (200, 0.132)])
def test_unrescaled_short_linear_schedules_end_far_from_noise_and_rescaled_ones_do_not(n, left):
    # the first column: what diffusers 0.42.1 gives for num_train_timesteps = n
    assert linear(n, rescaled=False).alpha_bar[-1].item() == pytest.approx(left, abs=5e-4)
    if n > 20:  # at 20 the last β would be 1
        assert linear(n).alpha_bar[-1] < 5e-5


@pytest.mark.parametrize("rescaled", [True, False])
def test_scaled_linear_is_the_square_of_a_straight_line(rescaled):
    n, low, high = 250, math.sqrt(0.00085), math.sqrt(0.012)
    betas = [(low + (high - low) * i / (n - 1)) ** 2 * (4 if rescaled else 1) for i in range(n)]
    equal(scaled_linear(n, rescaled=rescaled).alpha_bar, products(betas))


def test_constant_is_a_power_and_the_book_s_keeps_22_percent():
    schedule = constant(100, 0.01511)
    equal(schedule.alpha_bar, [(1 - 0.01511) ** t for t in range(101)])
    assert schedule.alpha_bar[100].item() == pytest.approx(0.21815883, abs=5e-9)


@pytest.mark.parametrize("n", [1, 2, 20, 1000])
def test_cosine_is_nichol_and_dhariwal_s_ratio_with_the_last_beta_held_to_its_largest(n):
    def f(t):
        return math.cos((t / n + 0.008) / 1.008 * math.pi / 2) ** 2

    table = [f(t) / f(0) for t in range(n)]
    # without the clamp the last β would be 1; the one before is about 3/4 and not clamped
    equal(cosine(n).alpha_bar, [*table, table[-1] * (1 - 0.999)], relative=1e-11)


def test_the_largest_beta_holds_at_every_step_that_would_pass_it():
    n, largest = 10, 0.3
    f = [math.cos((t / n + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(n + 1)]
    betas = [min(1 - f[t + 1] / f[t], largest) for t in range(n)]
    assert betas.count(largest) > 1
    equal(cosine(n, largest_beta=largest).alpha_bar, products(betas))


@pytest.mark.parametrize(
    ("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.7), (-3.0, 3.0, 1.1)]
)
def test_sigmoid_is_jabri_et_al_s_algorithm_1_with_the_last_beta_held_to_its_largest(
    start, end, tau
):
    def height(u):
        return 1 / (1 + math.exp(-(u * (end - start) + start) / tau))

    n = 100
    table = [(height(1) - height(t / n)) / (height(1) - height(0)) for t in range(n)]
    expected = [*table, table[-1] * (1 - 0.999)]
    # the difference of two heights near 1 loses two or three digits
    equal(sigmoid(n, start, end, tau).alpha_bar, expected, relative=1e-10)


def test_angle_uniform_makes_equal_steps_of_the_angle_and_ends_in_pure_noise():
    schedule = angle_uniform(12)
    equal(schedule.angle, [math.pi / 24 * t for t in range(13)])
    assert schedule.alpha_bar[-1] == 0


def test_zero_terminal_snr_moves_the_root_by_a_straight_line_that_holds_level_1():
    before = linear(1000)
    after = zero_terminal_snr(before)
    x, y = before.alpha_bar[1:].sqrt(), after.alpha_bar[1:].sqrt()
    slope = (y[0] - y[-1]) / (x[0] - x[-1])
    equal(y, y[0] + slope * (x - x[0]))
    equal(after.alpha_bar[1], before.alpha_bar[1])
    assert after.alpha_bar[-1] == 0
    assert after.name == "linear_zero_snr"


def test_zero_terminal_snr_of_a_schedule_that_has_it_is_the_same():
    equal(zero_terminal_snr(angle_uniform(9)).alpha_bar, angle_uniform(9).alpha_bar)


@every_schedule
def test_snr_and_sigma_and_angle_say_the_same(schedule):
    alpha_bar, angle = schedule.alpha_bar, schedule.angle
    equal(angle.cos().square(), alpha_bar)
    equal(angle.sin().square(), 1 - alpha_bar)
    inner = slice(1, -1)  # at the ends one of them may be 0 or infinite
    equal(schedule.sigma[inner], angle[inner].tan(), relative=1e-11)
    equal(schedule.snr[inner], 1 / schedule.sigma[inner].square())
    assert schedule.snr[0] == math.inf and schedule.sigma[0] == 0 and angle[0] == 0


def test_pure_noise_has_no_signal_and_infinite_sigma_and_a_right_angle():
    schedule = angle_uniform(4)
    assert schedule.snr[-1] == 0 and schedule.sigma[-1] == math.inf
    equal(schedule.angle[-1], math.pi / 2)


def test_beta_is_the_share_of_variance_added_between_two_levels():
    betas = torch.rand(30, generator=generator(0, "betas"), dtype=torch.float64) / 5 + 0.01
    schedule = from_betas(betas)
    for t in range(1, 31):
        equal(schedule.beta(t - 1, t), betas[t - 1])
    equal(schedule.beta(4, 9), 1 - math.prod(1 - b for b in betas[4:9].tolist()))
    s, t = torch.tensor([0, 4, 29]), torch.tensor([3, 9, 30])
    equal(schedule.beta(s, t), [schedule.beta(int(a), int(b)) for a, b in zip(s, t, strict=True)])


@every_schedule
def test_whole_levels_come_from_the_table_whatever_their_type(schedule):
    whole = torch.arange(schedule.n_steps + 1)
    for levels in (whole, whole.int(), whole.float(), whole.double()):
        assert torch.equal(schedule.at(levels), schedule.alpha_bar)
    for t in (0, 1, schedule.n_steps):
        assert schedule.at(t) == schedule.at(float(t)) == schedule.alpha_bar[t]
        assert schedule.at(t).shape == ()


@every_schedule
def test_between_whole_levels_the_angle_is_linear(schedule):
    t = schedule.n_steps - 1
    for share in (0.25, 0.5, 0.9):
        level = torch.tensor([share, t + share], dtype=torch.float64)
        angle = (1 - share) * schedule.angle[[0, t]] + share * schedule.angle[[1, t + 1]]
        equal(schedule.at(level), angle.cos().square(), relative=1e-10)


def test_a_plain_number_is_a_level_in_double_precision():
    schedule = linear(1000)
    for t in (0.1, 700.3):
        assert schedule.at(t) == schedule.at(torch.tensor(t, dtype=torch.float64))


@pytest.mark.parametrize("t", [-1, 51, -0.001, 50.001, math.nan, [3, 51], [0.0, -2.0]])
def test_a_level_outside_the_schedule_is_refused_by_name(t):
    outside = t if not isinstance(t, list) else next(x for x in t if not 0 <= x <= 50)
    with pytest.raises(ValueError, match=rf"level {outside}.* between 0 and T = 50"):
        linear(50).at(t if not isinstance(t, list) else torch.tensor(t))


@every_schedule
def test_refining_keeps_every_old_level_exactly_and_cuts_its_step_into_equal_angles(schedule):
    fine = refine(schedule, 3)
    assert fine.n_steps == 3 * schedule.n_steps
    assert torch.equal(fine.alpha_bar[::3], schedule.alpha_bar)
    parts = fine.angle.diff().reshape(-1, 3)
    # 1 − ᾱ is rounded by 1e-16, so an angle of .005 and more by 1e-16 / .005
    torch.testing.assert_close(parts, parts.mean(1, True).expand(-1, 3), rtol=0, atol=1e-13)


def refused(match, table):
    """As for a user, without the checker of the tests, who reads type and shape first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=match):
            Schedule(table)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_table_that_is_none_is_refused_with_the_bad_level_and_value():
    refused(r"torch.float32; give it in float64", torch.tensor([1.0, 0.5]))
    table = torch.tensor([1.0, 0.8, 0.5, 0.1], dtype=torch.float64)
    refused(r"shape \(1,\); give levels 0 to T", table[:1])
    refused(r"shape \(2, 2\)", table.reshape(2, 2))
    refused(r"alpha_bar\[0\] is 0.8", table[1:])
    refused(r"alpha_bar\[2\] = 0.8 after 0.8", table[[0, 1, 1, 2]])
    refused(r"alpha_bar\[3\] = 0.8 after 0.5", table[[0, 1, 2, 1]])
    refused(r"alpha_bar\[3\] = -0.1 after 0.5.*from 0 up", table * table.new_tensor([1, 1, 1, -1]))
    for place, message in [(0, r"\[0\] is nan"), (2, r"\[2\] = nan"), (3, r"\[3\] = nan")]:
        broken = table.clone()
        broken[place] = math.nan
        refused(message, broken)


def test_a_step_that_leaves_nothing_or_adds_nothing_is_refused_with_its_number():
    with pytest.raises(ValueError, match=r"linear schedule of 20 steps: beta at step 20 is 1,"):
        linear(20)
    with pytest.raises(ValueError, match=r"beta at step 2 is 1.015,.*use more steps"):
        linear(5)
    for bad in (0.0, -0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"custom schedule of 3 steps: beta at step 2"):
            from_betas(torch.tensor([0.1, bad, 0.1]))
    with pytest.raises(ValueError, match=r"constant schedule of 4 steps: beta at step 1 is 1"):
        constant(4, 1.0)


def test_a_sigmoid_that_does_not_rise_is_refused():
    with pytest.raises(ValueError, match=r"start=2.0 must be below end=2.0"):
        sigmoid(10, 2.0, 2.0)


def test_one_step_has_the_last_beta_which_is_too_large_when_rescaled():
    for make in (linear, scaled_linear):
        with pytest.raises(ValueError, match="schedule of 1 steps"):
            make(1)
    assert linear(1, rescaled=False).alpha_bar[1] == pytest.approx(0.98)


def test_a_single_level_cannot_be_stretched_to_pure_noise():
    with pytest.raises(ValueError, match="n_steps >= 2"):
        zero_terminal_snr(constant(1, 0.5))
