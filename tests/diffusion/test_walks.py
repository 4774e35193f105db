"""A configured sampler takes the walk that its options say, from the last level unless told so."""

import pytest
import torch

from udl_lab.diffusion import samplers
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.lookup import fit_lookup
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.samplers import PriorGapWarning, last
from udl_lab.diffusion.schedule import constant, linear
from udl_lab.diffusion.walks import DDIM, DDPM, Heun, end, walk
from udl_lab.nets.time_mlp import TimeMLP
from udl_lab.randomness import generator, seeded

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


@pytest.mark.parametrize(
    "sampler",
    [
        *(DDIM(7), DDIM(7, eta=0.5), DDIM(7, eta=1.0), Heun(5)),
        *(DDPM(7), DDPM(7, "large"), DDPM(7, "large", keep_last_noise=True)),
    ],
)
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_the_short_way_ends_where_the_walk_ends(sampler, kind):
    """A network, whose deterministic steps are two products, and a law, whose steps are not."""
    with seeded(0, "net"):
        net = TimeMLP((2,), width=8, depth=1).double()
    schedule = linear(50)
    x = torch.randn(6, 2, generator=generator(0, "start"), dtype=torch.float64)
    for denoiser in (Learned(net, schedule, kind), make_law("ring", schedule)):
        expected = last(walk(sampler, denoiser, x, generator(0, "way")))
        found = end(sampler, denoiser, x, generator(0, "way"))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert not found.requires_grad


def test_the_short_way_of_a_table_ends_where_its_walk_ends():
    schedule = constant(20, 0.05)
    points = torch.randn(500, 1, generator=generator(0, "points"), dtype=torch.float64)
    table = fit_lookup(schedule, points, generator(0, "noise"))
    expected = last(walk(DDIM(20), table, points, generator(0)))
    found = end(DDIM(20), table, points, generator(0))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_short_way_warns_as_the_walk_does():
    law, x = make_law("book", linear(50)), torch.zeros(1, 1).double()
    with pytest.warns(PriorGapWarning):
        end(DDIM(7, spacing="leading"), law, x, generator(0))
