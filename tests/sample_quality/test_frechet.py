"""The Fréchet distance against scipy's square root, closed forms and its own known bias."""

import math

import pytest
import torch
from scipy import linalg

from udl_lab.randomness import generator
from udl_lab.sample_quality.frechet import (
    between_gaussians,
    first_order_bias,
    frechet_distance,
    matched_baseline,
)


def normal(n, dim, *name):
    return torch.randn(n, dim, dtype=torch.float64, generator=generator(0, *name))


def covariance(dim, *name):
    factor = normal(dim + 3, dim, *name)
    return factor.mT @ factor


def test_distance_is_that_with_scipys_root_of_the_product():
    mean_a, mean_b = normal(2, 6, "means")
    a, b = covariance(6, "a"), covariance(6, "b")
    root = linalg.sqrtm((a @ b).numpy())
    direct = float((mean_a - mean_b).square().sum() + a.trace() + b.trace()) - 2 * root.trace().real
    # scipy's root of a product that is not symmetric: about 1e-13 of traces of about 50.
    assert between_gaussians(mean_a, a, mean_b, b) == pytest.approx(direct, abs=1e-10)


def test_diagonal_gaussians_are_apart_by_their_means_and_sd():
    sd_a, sd_b = torch.tensor([1.0, 2, 3]).double(), torch.tensor([2.0, 2, 0]).double()
    mean = torch.tensor([1.0, -1, 0]).double()
    exact = 2 + 1 + 0 + 9
    found = between_gaussians(mean, sd_a.square().diag(), 0 * mean, sd_b.square().diag())
    assert found == pytest.approx(exact, abs=1e-12)


def test_on_the_line_it_is_difference_of_means_and_of_sd_squared():
    a, b = normal(30, 1, "a"), 2 * normal(40, 1, "b") + 1
    exact = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(a, b) == pytest.approx(float(exact), abs=1e-13)


def test_a_rotation_of_the_space_changes_nothing():
    a, b = normal(50, 4, "a") * torch.tensor([1.0, 2, 3, 4]), normal(60, 4, "b") + 1
    q, _ = torch.linalg.qr(normal(4, 4, "rotation"))
    assert frechet_distance(a @ q, b @ q) == pytest.approx(frechet_distance(a, b), rel=1e-11)


def test_the_distance_of_a_set_to_itself_is_zero_even_where_it_is_flat():
    a = normal(10, 30, "few")  # covariance of rank 9 in 30 dimensions
    # Eigenvalues of 0 are rounded to about 1e-15, whose root meets its like: no root of rounding.
    assert 0 <= frechet_distance(a, a) < 1e-12
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 30, rel=1e-12)


def test_it_scales_with_the_square_of_the_feature():
    a, b = normal(50, 4, "a"), normal(60, 4, "b") + 1
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * frechet_distance(a, b), rel=1e-11)


def test_two_thousand_samples_of_one_gaussian_in_64_dimensions_are_not_at_zero():
    # First order: 64 (64 + 5) / (2 n) = 1.104. Six pairs; one has an sd of about .025 (to first
    # order a sum of 2080 nearly independent squares: relative sd sqrt(2 / 2080) = .03).
    n = 2000
    points = normal(6 * 2 * n, 64, "bias").view(6, 2, n, 64)
    found = torch.tensor([frechet_distance(a, b) for a, b in points])
    assert first_order_bias(torch.eye(64), n) == pytest.approx(64 * 69 / (2 * n), rel=1e-12)
    assert abs(float(found.mean()) - 1.104) < 3 * 0.03 * 1.104 / math.sqrt(6)


def test_the_bias_of_unequal_variances_is_its_first_order():
    variances = torch.tensor([4.0, 1.0, 0.01, 0.0]).double()
    n, repeats = 400, 300
    points = normal(2 * n * repeats, 4, "bias").view(repeats, 2, n, 4) * variances.sqrt()
    found = torch.tensor([frechet_distance(a, b) for a, b in points])
    error = float(found.std()) / math.sqrt(repeats)
    expected = first_order_bias(variances.diag(), n)
    # Three standard errors, and the next order, 1/n of the first times a few.
    assert abs(float(found.mean()) - expected) < 3 * error + 4 * expected / n
    assert error < 0.1 * expected


def test_the_baseline_is_the_distance_of_two_disjoint_sets_of_real_examples():
    real = normal(60, 3, "real")
    order = torch.randperm(60, generator=generator(2, "halves"))
    expected = frechet_distance(real[order[:25]], real[order[25:50]])
    assert matched_baseline(real, 25, generator(2, "halves")) == expected > 0


def test_the_baseline_uses_no_example_twice():
    # Only two examples: the halves would be equal if one were used twice, so ask for one each way.
    real = torch.tensor([[0.0], [0.0], [4.0], [4.0]]).double()
    # Sets of 2 of 4, disjoint: {0,0} and {4,4}, at 16, or {0,4} twice, at 0. Nothing between.
    found = {round(matched_baseline(real, 2, generator(i, "halves")), 12) for i in range(20)}
    assert found == {0.0, 16.0}


def test_a_baseline_of_more_than_half_is_refused_with_the_largest_possible():
    with pytest.raises(ValueError, match="give n from 2 to 4"):
        matched_baseline(normal(9, 2, "real"), 5, generator(0, "halves"))


def test_what_is_no_covariance_is_refused():
    mean, unit = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="covariance_b is not symmetric"):
        between_gaussians(mean, unit, mean, torch.tensor([[1.0, 1], [0, 1]]))
    with pytest.raises(ValueError, match="covariance_a has the eigenvalue -1"):
        between_gaussians(mean, torch.tensor([[0.0, 1], [1, 0]]), mean, unit)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="a has 1 points; give at least 2"):
        frechet_distance(normal(1, 2, "a"), normal(5, 2, "b"))
