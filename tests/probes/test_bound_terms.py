"""The bound's rows for a network that knows the law."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.schedule import angle_uniform, linear
from udl_lab.diffusion.variational_bound import variational_bound
from udl_lab.probes.bound_terms import BoundTerms
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator

SCHEDULE = angle_uniform(200)  # ends in pure noise: no prior term
RING = make_law("ring", SCHEDULE)
N = 400


class Exact(nn.Module):
    """The law's own x_0 as a network of examples and shares of T, off by `bias`."""

    def __init__(self, schedule, bias=0.0):
        super().__init__()
        self.law = make_law("ring", schedule)
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, x, share):
        t = (share.double() * self.law.schedule.n_steps).round().long()
        return self.law(x.double(), t).x0.to(x) + self.bias


X = RING.sample(N, generator(0, "test"))


def measured(bias=0.0, schedule=SCHEDULE, unaveraged=None, **settings):
    nets = [None if b is None else Learned(Exact(schedule, b), schedule, "x0")
            for b in (bias, unaveraged)]  # fmt: skip
    examples = Examples(X.float(), torch.zeros(N, dtype=torch.int64))
    subject = Subject(nets[0].net, nets[0].net, examples, 0.0, denoiser=nets[0], unaveraged=nets[1])
    rows = BoundTerms(**{"n": N, "variance": "large", **settings})(subject)
    return {r.key.removeprefix("/"): r for r in rows}


def test_a_network_that_knows_the_law_has_the_oracles_bound_and_another_a_larger_one():
    plan = make_plan(SCHEDULE, 200)
    # The module's examples are kept in single precision.
    known = variational_bound(RING, plan, X.float(), generator(0, "bound"), "large")
    found = measured()["bound"]
    assert found.estimate == pytest.approx(float(known.total.mean()), abs=1e-5)  # of the shares
    half = stats.t.ppf(0.975, N - 1) * float(known.total.std()) / N**0.5
    assert found.high - found.estimate == pytest.approx(half, rel=1e-5)
    assert measured(bias=0.05)["bound"].estimate > found.estimate + 0.1


@pytest.mark.parametrize(
    ("steps", "variance", "bin_width"),
    [(20, "small", None), (20, "large", None), (50, "small", 0.1)],
)
def test_settings_are_those_of_the_oracles_bound(steps, variance, bin_width):
    plan = make_plan(SCHEDULE, steps)
    noise = generator(0, "bound")
    known = variational_bound(RING, plan, X.float(), noise, variance, bin_width)
    found = measured(steps=steps, variance=variance, bin_width=bin_width)
    for part, nats in (
        ("prior", known.prior),
        ("steps", known.steps.sum(0)),
        ("reconstruction", known.reconstruction),
    ):
        assert found[f"bound@{part}"].estimate == pytest.approx(float(nats.mean()), rel=1e-5)


def test_the_parts_sum_to_the_whole_and_bits_are_nats_by_dimension():
    found = measured(n=30)
    parts = [found[f"bound@{part}"].estimate for part in ("prior", "steps", "reconstruction")]
    assert sum(parts) == pytest.approx(found["bound"].estimate, rel=1e-12)
    assert parts[0] == pytest.approx(0, abs=1e-12)
    bits = found["bound"].estimate / (2 * math.log(2))
    assert found["bits_per_dimension"].estimate == pytest.approx(bits, rel=1e-12)
    assert found["bound"].n == 30


def test_a_schedule_that_keeps_some_of_the_data_pays_for_it():
    """KL(N(√ᾱ x, 1 − ᾱ) ‖ N(0, 1)) of each number, from torch's own."""
    schedule = linear(20, rescaled=False)
    found = measured(schedule=schedule)
    left = float(schedule.alpha_bar[-1])
    x = X.float()
    normal, standard = (
        torch.distributions.Normal(left**0.5 * x.double(), (1 - left) ** 0.5),
        torch.distributions.Normal(torch.zeros(()).double(), 1.0),
    )
    expected = torch.distributions.kl_divergence(normal, standard).sum(1)
    assert found["bound@prior"].estimate == pytest.approx(float(expected.mean()), rel=1e-6)
    assert found["bound@prior"].estimate > 0.1


def test_the_last_weights_have_rows_of_their_own_on_the_same_noise():
    found = measured(unaveraged=0.0, n=20)
    assert found["bound/last_weights"].estimate == found["bound"].estimate
    assert measured(unaveraged=0.5, n=20)["bound/last_weights"].estimate > found["bound"].estimate
