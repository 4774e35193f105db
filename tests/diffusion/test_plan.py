"""A plan falls strictly to 0, and each spacing is its formula."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udl_lab.diffusion.plan import StepPlan, make_plan, prior_gap
from udl_lab.diffusion.schedule import angle_uniform, constant, cosine, linear

SPACINGS = ["trailing", "leading", "linspace", "quadratic", "karras"]


def levels(n, steps, spacing):
    return make_plan(constant(n, 0.1), steps, spacing).levels


@pytest.mark.parametrize(
    ("n", "steps", "spacing", "expected"),
    [
        (10, 1, "trailing", (10, 0)),
        (10, 5, "trailing", (10, 8, 6, 4, 2, 0)),
        (10, 4, "trailing", (10, 8, 5, 3, 0)),  # 10, 7.5, 5, 2.5: halves go up
        (10, 3, "trailing", (10, 7, 3, 0)),
        (10, 10, "trailing", tuple(range(10, -1, -1))),
        (10, 1, "leading", (1, 0)),
        (10, 5, "leading", (9, 7, 5, 3, 1, 0)),
        (10, 3, "leading", (7, 4, 1, 0)),
        (10, 10, "leading", tuple(range(10, -1, -1))),
        (10, 1, "linspace", (10, 0)),
        (10, 4, "linspace", (10, 7, 4, 1, 0)),
        (10, 3, "linspace", (10, 6, 1, 0)),  # 5.5 goes up
        (16, 4, "quadratic", (16, 9, 4, 1, 0)),
        (10, 2, "quadratic", (10, 3, 0)),  # 2.5 goes up
        (18, 6, "quadratic", (18, 13, 8, 5, 2, 1, 0)),  # i²/2
    ],
)
def test_each_spacing_is_what_one_gets_by_hand(n, steps, spacing, expected):
    assert levels(n, steps, spacing) == expected


def test_karras_takes_the_levels_nearest_to_equal_steps_of_the_seventh_root_of_sigma():
    schedule, steps = linear(1000), 12
    sigma = schedule.sigma.tolist()
    low, high = sigma[1] ** (1 / 7), sigma[1000] ** (1 / 7)
    plan = make_plan(schedule, steps, "karras")
    assert plan.start == 1000 and plan.levels[-2:] == (1, 0)
    for i, t in enumerate(plan.levels[:-1]):
        wanted = (high + i / (steps - 1) * (low - high)) ** 7
        distance = [abs(math.log(s / wanted)) for s in sigma[1:]]
        assert distance[t - 1] == pytest.approx(min(distance), abs=1e-12)
    assert make_plan(schedule, 1, "karras").levels == (1000, 0)


def test_trailing_is_right_where_the_steps_do_not_divide_the_levels():
    assert make_plan(linear(1000), 13).levels == (
        *(1000, 923, 846, 769, 692, 615, 538, 462, 385, 308, 231, 154, 77),
        0,
    )
    thirds = [round(Fraction(1000 * i, 30)) for i in range(30, -1, -1)]  # no halves among them
    assert make_plan(linear(1000), 30).levels == tuple(thirds)


@settings(database=None, derandomize=True, deadline=None)
@given(st.integers(1, 120), st.integers(1, 130), st.sampled_from(SPACINGS))
def test_every_plan_that_is_made_falls_strictly_to_0_in_as_many_steps_as_asked(n, steps, spacing):
    try:
        plan = make_plan(cosine(n), steps, spacing)
    except ValueError as error:
        # the even ones serve every number of steps up to that of levels
        assert steps > n or spacing in ("quadratic", "karras")
        assert "fewer steps" in str(error) or f"at most {n}" in str(error)
        return
    assert len(plan) == steps == len(list(plan))
    assert all(t > s for t, s in plan)
    assert plan.levels[0] == plan.start <= n and plan.levels[-1] == 0
    if spacing != "leading":
        assert plan.start == n


@settings(database=None, derandomize=True, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 1000))
def test_trailing_is_never_further_than_half_a_level_from_equal_steps(n, steps):
    n, steps = max(n, steps), min(n, steps)
    exact = [Fraction(n * i, steps) for i in range(steps, -1, -1)]
    plan = levels_of_any(n, steps, "trailing")
    assert all(
        -Fraction(1, 2) < level - wanted <= Fraction(1, 2)
        for level, wanted in zip(plan, exact, strict=True)
    )


@settings(database=None, derandomize=True, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 30))
def test_quadratic_rounds_the_exact_square_with_halves_upward(n, steps):
    # in floating point 50 · (7/10)² is below 24.5
    wanted = [
        math.floor(Fraction(n * i**2, steps**2) + Fraction(1, 2)) for i in range(steps, -1, -1)
    ]
    if len(set(wanted)) == steps + 1:
        assert levels_of_any(n, steps, "quadratic") == tuple(wanted)


def levels_of_any(n, steps, spacing):
    """Of a schedule whose ᾱ stays above 0 for up to 1,000 levels."""
    return make_plan(constant(n, 0.01), steps, spacing).levels


@settings(database=None, derandomize=True, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_leading_starts_at_the_last_level_only_if_it_visits_all(n, steps):
    n, steps = max(n, steps), min(n, steps)
    start = make_plan(constant(n, 0.01), steps, "leading").start
    assert (start == n) == (steps == n)


def test_leading_starts_100_levels_too_low_with_10_steps_of_1000():
    assert make_plan(linear(1000), 10, "leading").start == 901
    assert make_plan(linear(1000), 300, "leading").start == 898


def test_a_plan_is_walked_in_pairs():
    plan = StepPlan((7, 4, 1, 0))
    assert list(plan) == [(7, 4), (4, 1), (1, 0)]
    assert len(plan) == 3 and plan.start == 7


@pytest.mark.parametrize(
    ("given_levels", "message"),
    [
        ((), "at least one level above 0"),
        ((0,), "at least one level above 0"),
        ((5, 3), "0 last"),
        ((5, 3, -1), "0 last"),
        ((5, 5, 0), "level 5 follows 5.*take fewer steps"),
        ((3, 5, 0), "level 5 follows 3.*goes down"),
        ((5, -1, 0), "level 0 follows -1"),
        ((0, 0), "level 0 follows 0"),
    ],
)
def test_a_list_that_is_no_plan_is_refused_with_its_reason(given_levels, message):
    with pytest.raises(ValueError, match=message):
        StepPlan(given_levels)


def test_a_plan_that_cannot_be_made_is_refused_with_its_remedy():
    for spacing in SPACINGS:
        with pytest.raises(ValueError, match=r"11 steps over 10 levels; take at most 10"):
            levels(10, 11, spacing)
    with pytest.raises(ValueError, match=r"quadratic plan of 10 steps: level 0 .*fewer steps"):
        levels(10, 10, "quadratic")
    with pytest.raises(ValueError, match=r"karras plan of 90 steps: .*fewer steps"):
        make_plan(linear(100), 90, "karras")
    with pytest.raises(ValueError, match=r"infinite sigma.*another spacing"):
        make_plan(angle_uniform(10), 3, "karras")


def normal_nodes(mean, variance, n=40):
    """Points and weights of Gauss-Hermite quadrature, exact for polynomials of degree 79."""
    x, weight = np.polynomial.hermite_e.hermegauss(n)
    return mean + math.sqrt(variance) * x, weight / weight.sum()


def log_density(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.3), (-2.0, 0.01)])
@pytest.mark.parametrize("t", [1, 40, 90, 100])
def test_the_prior_gap_is_the_mean_divergence_by_quadrature(mean, variance, t):
    schedule = constant(100, 0.01511)
    left = float(schedule.alpha_bar[t])
    total = 0.0
    for x0, share in zip(*normal_nodes(mean, variance), strict=True):
        centre = math.sqrt(left) * x0
        x, weight = normal_nodes(centre, 1 - left)
        total += share * weight @ (log_density(x, centre, 1 - left) - log_density(x, 0, 1))
    second_moment = mean**2 + variance
    assert prior_gap(schedule, t, second_moment) == pytest.approx(total, rel=1e-10)
    if second_moment == 1:
        assert prior_gap(schedule, t) == prior_gap(schedule, t, 1.0)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.3), (-2.0, 0.01)])
def test_the_prior_gap_is_no_less_than_the_divergence_of_the_marginal(mean, variance):
    schedule = constant(100, 0.01511)
    for t in (1, 40, 100):
        left = float(schedule.alpha_bar[t])
        m, v = math.sqrt(left) * mean, left * variance + 1 - left
        marginal = 0.5 * (v + m**2 - 1 - math.log(v))
        assert prior_gap(schedule, t, mean**2 + variance) >= marginal


def test_the_prior_gap_shrinks_with_the_level_and_is_nothing_at_pure_noise():
    gaps = [prior_gap(angle_uniform(20), t) for t in range(1, 21)]
    assert all(later < earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] == 0
    # far below the rounding of ᾱ beside 1 the gap keeps its digits: log(1 − ᾱ) = −ᾱ
    assert prior_gap(constant(400, 0.1), 400) == pytest.approx(0.5 * 0.9**400, rel=1e-12)
