"""A configured sampler takes the walk that its options say, from the last level unless told so."""

import pytest
import torch

from udl_lab.diffusion import samplers
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.samplers import PriorGapWarning, last
from udl_lab.diffusion.schedule import linear
from udl_lab.diffusion.walks import DDIM, DDPM, Heun, walk
from udl_lab.randomness import generator

LAW = make_law("ring", linear(1000))
X = torch.randn(5, 2, dtype=torch.float64, generator=generator(0, "x"))


def taken(sampler):
    return list(walk(sampler, LAW, X, generator(0, "noise")))


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(13), DDPM(13), Heun(), Heun(13)], ids=repr)
def test_unless_told_otherwise_a_walk_starts_at_the_last_level(sampler):
    # Warnings are errors here: a walk that starts too low warns.
    states = taken(sampler)
    assert [states[0].t, states[-1].t] == [1000, 0]
    assert len(states) == sampler.steps + 1


def test_a_walk_that_starts_too_low_warns():
    with pytest.warns(PriorGapWarning, match="starts at level 913 and not at 1000"):
        assert taken(DDIM(13, spacing="leading"))[0].t == 1 + 12 * 76


@pytest.mark.parametrize(
    ("sampler", "by_hand"),
    [
        (DDIM(7), lambda plan, noise: samplers.ddim(LAW, plan, X)),
        (DDIM(7, 0.6), lambda plan, noise: samplers.ddim(LAW, plan, X, noise, 0.6)),
        (DDPM(7), lambda plan, noise: samplers.ddpm(LAW, plan, X, noise)),
        (
            DDPM(7, "optimal", True),
            lambda plan, noise: samplers.ddpm(LAW, plan, X, noise, "optimal", True),
        ),
        (Heun(7, "trailing"), lambda plan, noise: samplers.heun(LAW, plan, X)),
    ],
    ids=["ddim", "ddim_eta", "ddpm", "ddpm_options", "heun"],
)
def test_options_reach_the_sampler(sampler, by_hand):
    plan = make_plan(LAW.schedule, 7, "trailing")
    expected = last(by_hand(plan, generator(0, "noise")))
    assert torch.equal(taken(sampler)[-1].x, expected)


@pytest.mark.parametrize(
    ("sampler", "label"),
    [
        (DDIM(), "ddim20_eta0"),
        (DDIM(7, 0.5, "leading"), "ddim7_eta0.5_leading"),
        (DDPM(), "ddpm1000_small"),
        (DDPM(50, "large", True, "linspace"), "ddpm50_large_noisy_linspace"),
        (Heun(), "heun20"),
        (Heun(9, "trailing"), "heun9_trailing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_label_says_what_is_not_usual(sampler, label):
    assert sampler.label == label
