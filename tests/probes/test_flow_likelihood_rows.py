"""Rows of log-densities for a network whose density is known."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.process import diffuse, velocity
from udl_lab.diffusion.schedule import angle_uniform
from udl_lab.probes.flow_likelihood import FlowLikelihood
from udl_lab.probes.statistics import mean
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator

SCHEDULE = angle_uniform(20)  # ends in pure noise, so the law's own flow has the law's density
N = 6


class Exact(nn.Module):
    """A law's own velocity as a network of examples and shares of T, times `scale`."""

    def __init__(self, law, scale=1.0):
        super().__init__()
        self.law = law
        self.scale = nn.Parameter(torch.tensor(scale))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, share):
        t = share.double() * self.law.schedule.n_steps
        said = self.law(x, t)
        return self.scale * self.dropout(velocity(self.law.schedule, said.x0, said.eps, t))


def drawn(law, n, stream):
    x = law.sample(n, generator(0, stream)).float()
    return Examples(x, torch.zeros(n, dtype=torch.int64))


def subject(name="ring", scale=1.0, unaveraged=None):
    law = make_law(name, SCHEDULE)
    denoiser, last = (
        None if s is None else Learned(Exact(law, s), SCHEDULE, "v") for s in (scale, unaveraged)
    )
    test, train = drawn(law, N, "test"), drawn(law, 40, "train")
    return Subject(denoiser.net, denoiser.net, test, 0.0, train, denoiser=denoiser, unaveraged=last)


def measured(of, **settings):
    settings = {"n": N, "tolerance": 1e-6, **settings}
    return {r.key.removeprefix("/"): r for r in FlowLikelihood(**settings)(of)}


def noised(of):
    """The test examples at level 1, with the noise that the measurement draws."""
    x0 = of.examples.x.double()
    eps = torch.randn(x0.shape, generator=generator(0, "level 1"), dtype=torch.float64)
    return diffuse(SCHEDULE, x0, 1, eps)


def by_scipy(of):
    """The log-density of the noised normal law of the training examples."""
    left = float(SCHEDULE.alpha_bar[1])
    train = of.train.x.double().flatten(1).numpy()
    covariance = left * np.atleast_2d(np.cov(train.T)) + (1 - left) * np.eye(train.shape[1])
    normal = multivariate_normal(left**0.5 * train.mean(0), covariance)
    return normal.logpdf(noised(of).flatten(1).numpy())


def same(row, interval, atol):
    found, wanted = ([x.estimate, x.low, x.high] for x in (row, interval))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def exact():
    return measured(subject())


@pytest.mark.parametrize("law", ["ring", "book"])
def test_the_density_of_a_network_that_knows_the_law_is_the_laws(law):
    """In the plane and on the line, noised to level 1; the tolerance is that of each step."""
    of = subject(law)
    wanted = make_law(law, SCHEDULE).log_prob(noised(of), 1).numpy()
    same(measured(of)["log_prob"], mean(wanted), 1e-3)


@pytest.mark.parametrize("law", ["ring", "book"])
def test_the_normal_law_is_scipys(law):
    of = subject(law)
    same(measured(of)["gaussian_log_prob"], mean(by_scipy(of)), 1e-10)


def test_the_gain_is_paired_by_example(exact):
    of = subject()
    law = make_law("ring", SCHEDULE).log_prob(noised(of), 1).numpy()
    same(exact["gain"], mean(law - by_scipy(of)), 1e-3)
    difference = exact["log_prob"].estimate - exact["gaussian_log_prob"].estimate
    assert exact["gain"].estimate == pytest.approx(difference, abs=1e-12)
    # Eight narrow modes are likelier than one normal for each of their examples.
    assert exact["gain"].low > 0


def test_rows_say_their_unit_and_the_number_of_examples(exact):
    assert list(exact) == ["log_prob", "gaussian_log_prob", "gain"]
    assert {(row.n, row.note) for row in exact.values()} == {(N, "nats per example")}
    assert {row.n for row in measured(subject(), n=3).values()} == {3}


def test_a_network_that_moves_nothing_has_the_standard_normal_density(exact):
    of = subject(scale=0.0)
    found = measured(of)
    wanted = multivariate_normal(np.zeros(2)).logpdf(noised(of).numpy())
    same(found["log_prob"], mean(wanted), 1e-10)
    assert found["gain"].estimate < exact["gain"].estimate
    assert found["gaussian_log_prob"] == exact["gaussian_log_prob"]


def test_the_last_weights_have_rows_of_their_own_on_the_same_noise(exact):
    found = measured(subject(scale=0.0, unaveraged=1.0))
    for name, row in exact.items():
        same(found[f"{name}/last_weights"], row, 0)
    assert found["log_prob"].estimate != exact["log_prob"].estimate


def test_random_probes_are_exact_on_the_line_and_the_same_each_time():
    """Of one number there is one entry to sum, and the square of a probe of ±1 is 1."""
    exact, probed = measured(subject("book")), measured(subject("book"), trace=2)
    same(probed["log_prob"], exact["log_prob"], 1e-3)  # the steps differ
    torch.manual_seed(1)
    first = measured(subject(), trace=2, n=1, tolerance=1e-2)["log_prob"].estimate
    torch.manual_seed(2)
    again = measured(subject(), trace=2, n=1, tolerance=1e-2)["log_prob"].estimate
    assert first == again != measured(subject(), n=1, tolerance=1e-2)["log_prob"].estimate


def test_measuring_leaves_the_network_in_single_precision_and_training():
    of = subject()
    measured(of, n=1, tolerance=1e-2)
    assert of.net.scale.dtype == torch.float32 and of.net.scale.grad is None
    assert of.net.training and of.net.dropout.training
    assert of.examples.x.dtype == torch.float32


def test_signals_are_vectors_of_all_their_numbers(exact):
    class OfSignals(Exact):
        def forward(self, x, share):
            return super().forward(x[:, 0], share).unsqueeze(1)

    of = subject()
    test, train = (Examples(part.x.unsqueeze(1), part.y) for part in (of.examples, of.train))
    denoiser = Learned(OfSignals(make_law("ring", SCHEDULE)), SCHEDULE, "v")
    found = measured(Subject(denoiser.net, denoiser.net, test, 0.0, train, denoiser))
    for name, row in exact.items():
        same(found[name], row, 1e-10)


def test_a_network_that_is_no_denoiser_is_refused():
    net = nn.Linear(2, 2)
    examples = drawn(make_law("ring", SCHEDULE), 3, "few")
    with pytest.raises(ValueError, match="Linear is no denoiser; measure a run with model=diff"):
        FlowLikelihood()(Subject(net, net, examples, 0.0, examples))
