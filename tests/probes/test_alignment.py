"""CKA against the HSIC by its definitions, its invariances, and its bias for many features."""

import math
from itertools import permutations

import pytest
import torch

from udl_lab.probes.alignment import biased_cka, debiased_cka
from udl_lab.randomness import generator


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def dependent(n, p, q, seed=0):
    """Features of which one set is a noisy nonlinear function of the other."""
    a = normal(n, p, seed=seed)
    return a, torch.tanh(a @ normal(p, q, seed=seed + 1)) + 0.3 * normal(n, q, seed=seed + 2)


def u_statistic(k, ell):
    """The HSIC as the mean over ordered quadruples of distinct examples.

    Gretton et al. 2005, §3: E k(i,j) l(i,j) + E k(i,j) l(q,r) - 2 E k(i,j) l(i,q), with the
    expectations replaced by means over all (i, j, q, r) without repetition.
    """
    terms = [
        k[i, j] * (ell[i, j] + ell[q, r] - 2 * ell[i, q])
        for i, j, q, r in permutations(range(len(k)), 4)
    ]
    return sum(terms) / len(terms)


def song(k, ell):
    """Song et al. 2012, eq. 5, letter by letter."""
    n = len(k)
    k, ell = (m - torch.diag(m.diagonal()) for m in (k, ell))
    one = torch.ones(n, dtype=k.dtype)
    return (
        (k @ ell).trace()
        + (one @ k @ one) * (one @ ell @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ ell @ one)
    ) / (n * (n - 3))


def ratio(hsic, a, b):
    k, ell = a @ a.T, b @ b.T
    return float(hsic(k, ell) / (hsic(k, k) * hsic(ell, ell)).sqrt())


def test_the_unbiased_hsic_is_the_mean_over_distinct_quadruples():
    a, b = dependent(6, 3, 4)
    # Sums of a few hundred terms of order 10, so rounding is near 1e-14.
    assert float(debiased_cka(a, b)) == pytest.approx(ratio(u_statistic, a, b), abs=1e-12)
    assert abs(ratio(u_statistic, a, b) - float(biased_cka(a, b))) > 0.05


def test_the_unbiased_hsic_is_songs_equation_5():
    for n, p, q in [(4, 3, 2), (5, 40, 7), (50, 3, 90)]:
        a, b = dependent(n, p, q, seed=n)
        assert float(debiased_cka(a, b)) == pytest.approx(ratio(song, a, b), abs=1e-12)


def test_the_biased_form_is_the_covariance_of_the_features():
    # |A'B|² / (|A'A| |B'B|) for centred features, by features × features (Kornblith 2019, eq. 1).
    a, b = dependent(30, 4, 3)
    a0, b0 = a - a.mean(0), b - b.mean(0)
    expected = (a0.T @ b0).norm() ** 2 / ((a0.T @ a0).norm() * (b0.T @ b0).norm())
    assert float(biased_cka(a, b)) == pytest.approx(float(expected), abs=1e-13)


@pytest.mark.parametrize("cka", [debiased_cka, biased_cka])
@pytest.mark.parametrize(("n", "p"), [(40, 7), (9, 30)])
def test_an_orthogonal_map_a_shift_and_a_scale_change_nothing(cka, n, p):
    x = normal(n, p)
    q = torch.linalg.qr(normal(p, p, seed=1)).Q
    moved = -3.7 * x @ q + 5 * normal(p, seed=2)
    assert abs(float(cka(x, moved)) - 1) < 1e-12
    _, other = dependent(n, p, 5)
    assert float(cka(moved, other)) == pytest.approx(float(cka(x, other)), abs=1e-12)


@pytest.mark.parametrize("cka", [debiased_cka, biased_cka])
def test_a_map_that_is_not_orthogonal_changes_something(cka):
    x = normal(40, 7)
    assert float(cka(x, x * torch.tensor([9.0, 1, 1, 1, 1, 1, 1]))) < 0.9


def test_independent_features_that_outnumber_the_examples_look_alike_only_to_the_biased_form():
    a, b = normal(64, 10_000, seed=3), normal(64, 10_000, seed=4)
    # Each centred Gram matrix is about p times H, with off-diagonal noise of size sqrt(p): the
    # cosine of two is about 1 / (1 + n / p) = 0.9936. The U-centred noise has n (n - 3) / 2 = 1952
    # degrees of freedom, so the debiased form has a standard deviation of 1 / sqrt(1952) = 0.023.
    assert float(biased_cka(a, b)) == pytest.approx(1 / (1 + 64 / 10_000), abs=0.002)
    assert abs(float(debiased_cka(a, b))) < 4 / math.sqrt(1952) < 0.1


def test_the_debiased_form_of_independent_features_is_zero_on_average():
    draws = [
        float(debiased_cka(normal(8, 20, seed=s), normal(8, 20, seed=-s))) for s in range(1, 301)
    ]
    # 8 · 5 / 2 = 20 degrees of freedom: standard deviation 1 / sqrt(20) of one draw.
    assert abs(sum(draws) / 300) < 4 / math.sqrt(20 * 300)
    assert min(draws) < 0 < max(draws)


@pytest.mark.parametrize("cka", [debiased_cka, biased_cka])
def test_constant_features_have_no_cka(cka):
    # 0.1 is no binary fraction, so a mean of ten of them need not be 0.1.
    constant, x = torch.full((10, 3), 0.1), normal(10, 4).float()
    for a, b in [(constant, x), (x, constant), (constant, constant)]:
        assert math.isnan(float(cka(a, b)))


def test_features_that_differ_for_one_example_alone_have_no_debiased_cka():
    lonely, x = torch.full((10, 3), 0.1), normal(10, 4)
    lonely[4] = normal(3)
    assert math.isnan(float(debiased_cka(lonely, x)))  # k(i, j) = u(i) + u(j): U-centred to 0
    assert not math.isnan(float(biased_cka(lonely, x)))


def test_float32_features_are_compared_in_float64():
    a, b = (features.float() for features in dependent(20, 5, 6))
    assert float(debiased_cka(a, b)) == float(debiased_cka(a.double(), b.double()))


def test_three_examples_are_refused_by_number():
    with pytest.raises(ValueError, match="3 examples are too few for this CKA; give at least 4"):
        debiased_cka(normal(3, 5), normal(3, 5))
    assert not math.isnan(float(debiased_cka(normal(4, 5), normal(4, 5))))


def test_features_of_different_examples_are_refused():
    with pytest.raises(ValueError, match="5 and 6 examples"):
        debiased_cka(normal(5, 3), normal(6, 3))


def test_a_value_that_is_not_finite_is_refused():
    broken = normal(5, 3)
    broken[2, 1] = math.inf
    with pytest.raises(ValueError, match="second features hold a value that is not finite"):
        biased_cka(normal(5, 3), broken)
