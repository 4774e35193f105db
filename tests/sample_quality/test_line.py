"""Distances on the line against closed forms, scipy, and the integral over quantiles."""

import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from udl_lab.randomness import generator
from udl_lab.sample_quality.line import (
    ks_distance,
    midpoints,
    wasserstein_between,
    wasserstein_of_quantiles,
    wasserstein_to_law,
)

# The mixture of chapter 18: narrow modes beside wide ones.
WEIGHTS, MEANS, SDS = (0.2, 0.3, 0.35, 0.15), (1.5, -0.216, 0.45, -1.875), (0.3, 0.15, 0.525, 0.075)


def mixture_cdf(x):
    return sum(
        w * torch.special.ndtr((x - m) / s) for w, m, s in zip(WEIGHTS, MEANS, SDS, strict=True)
    )


def normal(n, name, mean=0.0, sd=1.0):
    return mean + sd * torch.randn(n, dtype=torch.float64, generator=generator(0, name))


def over_quantiles(samples, law):
    """W1 as the sum over samples of the integral of |x_i - Q(u)| for u in ((i-1)/n, i/n)."""
    order = sorted(samples.tolist())
    n = len(order)
    total = 0.0
    for i, x in enumerate(order):
        cuts = [i / n, (i + 1) / n]
        if cuts[0] < law.cdf(x) < cuts[1]:
            cuts.insert(1, float(law.cdf(x)))
        for u, v in itertools.pairwise(cuts):
            part, _ = integrate.quad(lambda p, x=x: abs(x - law.ppf(p)), u, v, epsabs=1e-12)
            total += part
    return total


@pytest.mark.parametrize("law", [stats.norm(0.3, 2), stats.t(5), stats.uniform(), stats.expon()])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_distance_to_a_law_is_the_integral_over_quantiles(law, n):
    samples = normal(n, "samples")
    found = wasserstein_to_law(samples, law.cdf)
    # quad asks for 1e-12 on each of at most 18 parts, and stops at about 1e-9 of the singular tail.
    assert found == pytest.approx(over_quantiles(samples, law), abs=1e-8)


def test_distance_of_one_point_to_a_normal_law_is_the_mean_absolute_deviation():
    # E|X - a| for X from N(0, 1) is 2 phi(a) + a (2 Phi(a) - 1).
    for a in (0.0, 0.7, -3.0, 40.0, 1e6):
        exact = 2 * stats.norm.pdf(a) + a * (2 * stats.norm.cdf(a) - 1)
        found = wasserstein_to_law(torch.tensor([a], dtype=torch.float64), stats.norm.cdf)
        assert found == pytest.approx(exact, rel=1e-10)


def test_a_law_far_narrower_or_wider_than_the_samples_is_not_missed():
    # One of two points stands on the law, of width s: half of the mass has to go 1000.
    samples = torch.tensor([0.0, 1000.0], dtype=torch.float64)
    narrow = stats.norm(0, 1e-3)
    exact = over_quantiles(samples, narrow)
    assert wasserstein_to_law(samples, narrow.cdf) == pytest.approx(exact, rel=1e-9)
    # For a law of sd 1e6 the lower half goes to 0 and the upper half to 1000, which takes
    # sd sqrt(2 / pi) - 500, and the mass between 0 and 1000, as if uniform, adds
    # phi(0) 1000^2 / sd = .4.
    wide = wasserstein_to_law(samples, stats.norm(0, 1e6).cdf)
    exact = 1e6 * math.sqrt(2 / math.pi) - 500 + stats.norm.pdf(0)
    assert wide == pytest.approx(exact, abs=1e-4)


def test_a_shift_of_samples_beyond_the_law_adds_the_shift():
    # Samples all above a law on [0, 1]: W1 is the difference of means.
    samples = torch.tensor([2.0, 3.5, 7.0], dtype=torch.float64)
    found = wasserstein_to_law(samples, stats.uniform.cdf)
    assert found == pytest.approx(12.5 / 3 - 0.5, abs=1e-9)


def test_quantiles_of_the_law_come_within_their_own_coarseness():
    # One point at the middle of each of n equal intervals of [0, 1]: W1 is 1 / (4 n).
    for n in (1, 4, 100):
        assert wasserstein_to_law(midpoints(n), stats.uniform.cdf) == pytest.approx(
            1 / (4 * n), rel=1e-8
        )


def test_distance_to_a_mixture_is_that_to_many_of_its_quantiles():
    samples = normal(50, "samples")
    x = torch.linspace(-4, 5, 200_001, dtype=torch.float64)
    gap = (stats.ecdf(samples.numpy()).cdf.evaluate(x.numpy()) - mixture_cdf(x).numpy()).__abs__()
    # A Riemann sum with step 4.5e-5: at each of 50 jumps it is wrong by up to a step times 1/50.
    riemann = float(gap.sum() * (x[1] - x[0]))
    assert wasserstein_to_law(samples, mixture_cdf) == pytest.approx(riemann, abs=1e-4)


def test_torch_and_scipy_distribution_functions_give_the_same():
    samples = normal(300, "samples")
    by_torch = wasserstein_to_law(samples, torch.special.ndtr)
    assert by_torch == pytest.approx(wasserstein_to_law(samples, stats.norm.cdf), abs=1e-12)


def test_repeated_samples_count_as_often_as_they_occur():
    few = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    once = wasserstein_to_law(few, stats.norm.cdf)
    assert wasserstein_to_law(few.repeat(3), stats.norm.cdf) == pytest.approx(once, abs=1e-10)


def test_distance_scales_with_the_unit_of_the_data():
    samples = normal(40, "samples")
    once = wasserstein_to_law(samples, stats.norm.cdf)
    scaled = wasserstein_to_law(1e-6 * samples + 3, stats.norm(3, 1e-6).cdf)
    # Numbers near 3 are rounded by 4e-16, which is 4e-10 of this law's sd.
    assert scaled == pytest.approx(1e-6 * once, rel=1e-8)


def test_samples_of_the_law_are_as_far_as_the_documented_mean():
    # sqrt(2 / (pi n)) times the integral of sqrt(F (1 - F)), 1/n corrections aside.
    n, repeats = 100, 60
    area, _ = integrate.quad(lambda x: math.sqrt(stats.norm.cdf(x) * stats.norm.sf(x)), -12, 12)
    draws = normal(n * repeats, "law").view(repeats, n)
    found = torch.tensor([wasserstein_to_law(row, torch.special.ndtr) for row in draws])
    error = float(found.std()) / math.sqrt(repeats)
    expected = math.sqrt(2 / (math.pi * n)) * area
    # Three standard errors, and what the normal limit leaves out, of order 1/n.
    assert abs(float(found.mean()) - expected) < 3 * error + 0.01 * expected


def test_a_law_without_a_mean_is_refused():
    with pytest.raises(ValueError, match="mean does not exist"):
        wasserstein_to_law(normal(5, "samples"), stats.cauchy.cdf)


def test_a_function_that_never_reaches_one_is_refused():
    with pytest.raises(ValueError, match=r"leaves the probability 0\.1 "):
        wasserstein_to_law(normal(5, "samples"), lambda x: 0.9 * torch.special.ndtr(x))
    with pytest.raises(ValueError, match="does not rise from 0 to 1"):
        wasserstein_to_law(normal(5, "samples"), torch.zeros_like)


def test_a_density_or_a_float32_function_is_refused():
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        ks_distance(torch.tensor([0.0]), stats.norm(0, 0.01).pdf)
    with pytest.raises(ValueError, match="float32"):
        wasserstein_to_law(normal(5, "samples"), lambda x: torch.special.ndtr(x.float()))


@pytest.mark.parametrize("measure", [wasserstein_to_law, ks_distance])
def test_samples_that_are_missing_or_not_finite_are_refused(measure):
    with pytest.raises(ValueError, match="at least one"):
        measure(torch.zeros(0), stats.norm.cdf)
    with pytest.raises(ValueError, match="samples holds nan at position 1"):
        measure(torch.tensor([0.0, math.nan]), stats.norm.cdf)


def test_quantiles_of_gaussians_with_equal_sd_are_apart_by_the_difference_of_means():
    z = torch.special.ndtri(midpoints(1000))
    assert wasserstein_of_quantiles(2 * z - 1, 2 * z + 0.5) == pytest.approx(1.5, abs=1e-12)


@pytest.mark.parametrize("sd", [0.25, 3.0])
def test_quantiles_of_centred_gaussians_are_apart_by_the_difference_of_sd(sd):
    n = 100_000
    z = torch.special.ndtri(midpoints(n))
    exact = abs(sd - 1) * math.sqrt(2 / math.pi)
    # Beyond the outermost midpoints z is about 4.5, with a mass of 1/n.
    assert wasserstein_of_quantiles(z, sd * z) == pytest.approx(exact, abs=4.5 * abs(sd - 1) / n)


def test_quantiles_and_sorted_samples_agree():
    a, b = normal(60, "a").sort().values, normal(60, "b", 1, 2).sort().values
    assert wasserstein_of_quantiles(a, b) == pytest.approx(wasserstein_between(a, b), abs=1e-13)


def test_quantiles_that_fall_are_refused_and_rounding_is_not():
    rising = torch.tensor([0.0, 1.0, 1.0 - 1e-15, 2.0], dtype=torch.float64)
    assert wasserstein_of_quantiles(rising, rising) == 0
    with pytest.raises(ValueError, match="q2 falls after position 1"):
        wasserstein_of_quantiles(rising, torch.tensor([0.0, 2.0, 1.0, 3.0]).double())


def test_quantiles_of_different_numbers_do_not_pair():
    with pytest.raises(ValueError, match="3 and 4 quantiles"):
        # The shape checker of the tests would speak first.
        wasserstein_of_quantiles.__wrapped__(torch.arange(3.0), torch.arange(4.0))


def test_distance_between_small_sets_is_the_best_assignment():
    a = torch.tensor([0.3, -1.0, 2.0, 0.0]).double()
    b = torch.tensor([1.0, 5.0, -2.0, 0.1]).double()
    best = min(float((a - b[list(p)]).abs().mean()) for p in itertools.permutations(range(4)))
    assert wasserstein_between(a, b) == pytest.approx(best, abs=1e-15)


def test_distance_between_sets_of_unequal_size_repeats_points():
    a, b = normal(6, "a"), normal(4, "b")
    repeated = wasserstein_between(a.repeat(2), b.repeat(3))
    assert wasserstein_between(a, b) == pytest.approx(repeated, abs=1e-14)


@pytest.mark.parametrize("mean", [-0.8, 0.8])  # the largest gap above F, then below
@pytest.mark.parametrize("n", [1, 7, 500])
def test_ks_distance_is_scipys(n, mean):
    samples = normal(n, "samples", mean, 1.5)
    peer = stats.kstest(samples.numpy(), stats.norm.cdf).statistic
    assert ks_distance(samples, stats.norm.cdf) == pytest.approx(float(peer), abs=1e-14)


def test_ks_distance_of_midpoints_is_half_a_step():
    assert ks_distance(midpoints(8), stats.uniform.cdf) == pytest.approx(1 / 16, abs=1e-15)
