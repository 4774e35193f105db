"""Notebook 17.1: its numbers, and each defect that made them wrong."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from udl_lab.latent.book_curve import curve, log_marginal, posterior, sample
from udl_lab.latent.memory import peak_bytes
from udl_lab.latent.quadrature import log_evidence
from udl_lab.randomness import generator

POINT = torch.tensor([[0.9, -0.9]], dtype=torch.float64)


def by_hand(x1, x2, z):
    """p(x | z) p(z), with the notebook's cosine."""
    m1, m2 = 0.5 * np.exp(np.sin(2 + 3.675 * z)), np.cos(2 + 2.85 * z)
    return stats.norm.pdf(x1, m1, 0.2) * stats.norm.pdf(x2, m2, 0.2) * stats.norm.pdf(z)


def integral(x1, x2, low, high):
    return integrate.quad(
        lambda z: by_hand(x1, x2, z), low, high, limit=400, epsabs=1e-12, epsrel=1e-12
    )[0]


def test_the_density_of_the_books_point_is_known():
    found = log_marginal(POINT)
    assert math.exp(found.log_prob) == pytest.approx(0.2962078, abs=5e-8)
    assert math.exp(found.log_prob) == pytest.approx(integral(0.9, -0.9, -8, 8), abs=1e-11)
    assert found.error < 1e-10


def test_the_second_coordinate_is_a_cosine():
    assert float(curve(torch.tensor(0.0))[1]) == pytest.approx(math.cos(2), abs=1e-6)


def test_the_whole_prior_counts():
    """A grid to +-3 holds .99730 of it; (.53, .38) is close to the curve at z = 3.1."""
    x = curve(torch.tensor([3.1]).double())
    whole = math.exp(log_marginal(x).log_prob)
    cut = integral(*x[0].tolist(), -3, 3)
    assert whole == pytest.approx(integral(*x[0].tolist(), -8, 8), rel=1e-9)
    assert whole - cut > 1e-3


def test_the_densities_integrate_to_one_over_the_plane():
    """Would be .99730 with z cut at 3, and 1e4 with a division by the increment of z."""
    axis = torch.arange(-3, 4, 0.05, dtype=torch.float64)  # a quarter of the noise's deviation
    x = torch.cartesian_prod(axis, axis)
    total = log_marginal(x, 801).log_prob.exp().sum() * 0.05**2
    assert float(total) == pytest.approx(1, abs=1e-8)


def test_the_posterior_is_a_density_of_z():
    """It peaks at 4.21 per unit of z; a probability of cells of 0.01 would peak at .0421.

    The notebook's grid to 3 holds .99932 of the posterior, which makes its largest value 4.211.
    """
    found = posterior(POINT)
    assert float(found.density.max()) == pytest.approx(4.208, abs=5e-4)
    inside = found.axis.abs() < 3.001
    held = float((found.density[:, 0] * found.cell)[inside].sum())
    assert float(found.density.max()) / held == pytest.approx(4.211, abs=5e-4)
    area = integrate.simpson(found.density[:, 0].numpy(), x=found.axis.numpy())
    assert area == pytest.approx(1, abs=1e-6)
    z = float(found.axis[700])
    value = by_hand(0.9, -0.9, z) / integral(0.9, -0.9, -8, 8)
    assert float(found.density[700, 0]) == pytest.approx(value, rel=1e-9)


def test_samples_follow_the_model():
    n = 100_000
    z, x = sample(n, generator(0, "curve"))
    assert abs(float(z.mean())) < 5 / math.sqrt(n)
    # E cos(a + b z) = cos(a) exp(-b^2 / 2) for z ~ N(0, 1); the text's sine would give +.0157.
    exact = math.cos(2) * math.exp(-(2.85**2) / 2)
    assert exact == pytest.approx(-0.00717, abs=1e-5)
    assert abs(float(x[:, 1].mean()) - exact) < 5 * float(x[:, 1].std()) / math.sqrt(n)
    noise = x - curve(z)
    for i in (0, 1):
        # The variance of a sample variance of normals is 2 sigma^4 / n.
        assert abs(float(noise[:, i].var()) - 0.04) < 5 * 0.04 * math.sqrt(2 / n)
    # The mean log-density is minus the entropy: the same by samples and by quadrature over x.
    axis = torch.arange(-3, 4, 0.1, dtype=torch.float64)
    grid = log_marginal(torch.cartesian_prod(axis, axis), 801).log_prob
    drawn = log_marginal(x[:2000], 801).log_prob
    expected = (grid.exp() * grid).sum() * 0.1**2
    assert abs(float(drawn.mean() - expected)) < 5 * float(drawn.std()) / math.sqrt(2000)


def test_far_points_have_a_finite_log_density():
    far = torch.tensor([[30.0, -40.0]], dtype=torch.float64)
    assert log_marginal(far).log_prob.isfinite().all()
    assert log_evidence(lambda z: -1000 + 0 * z, 1).log_prob == pytest.approx(-1000, abs=1e-12)


def test_the_memory_is_bounded_however_many_points_are_asked_for():
    for n in (1300, 20_000):
        x = torch.zeros(n, 2, dtype=torch.float64)
        assert peak_bytes(lambda x=x: log_marginal(x, 201)) < 50e6
