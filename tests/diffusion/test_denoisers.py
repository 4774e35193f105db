import math
from dataclasses import replace

import pytest
import torch
from torch.autograd.functional import jacobian

from udl_lab.diffusion.denoisers import (
    Clipped,
    Empirical,
    Gaussian,
    GaussianMixture,
    LocalPatch,
    PointMass,
)
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.schedule import angle_uniform, cosine, linear
from udl_lab.randomness import generator

LINEAR = linear(1000)
ANGLE = angle_uniform(20)  # the last level is pure noise
LEVELS = [1, 30, 300, 700, 1000]


def draw(*shape, name="x"):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, name))


def a_mixture(schedule, dimension=2):
    return GaussianMixture(
        schedule,
        torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        draw(3, dimension, name="means"),
        torch.tensor([0.04, 0.3, 1.2], dtype=torch.float64),
    )


def oracles(schedule):
    """Denoisers of single-channel images of 3 × 4 pixels; the mixture gets them flattened."""
    data = draw(7, 1, 3, 4, name="data")
    return {
        "point": PointMass(schedule, data[0]),
        "gaussian": Gaussian(schedule, data[0], data[1].square() + 0.01),
        "mixture": a_mixture(schedule, 12),
        "empirical": Empirical(schedule, data),
        "patch": LocalPatch(schedule, data, 1),
        "clipped": Clipped(Gaussian(schedule, data[0], data[1].square() + 0.01), -0.5, 0.3),
    }


NAMES = list(oracles(LINEAR))


def images_for(name, n=5):
    x = draw(n, 1, 3, 4)
    return x.flatten(1) if name == "mixture" else x


def normal(x, mean, variance):
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / (2 * math.pi * variance) ** 0.5


@pytest.mark.parametrize("t", LEVELS)
@pytest.mark.parametrize("name", ["book", "three_modes"])
def test_a_mixture_on_a_line_agrees_with_bayes_rule_on_a_grid_of_clean_values(name, t):
    law = make_law(name, LINEAR)
    # The trapezoid rule has an error of exp(-2 (π sd / spacing)²): none, for sd ≥ .0099 at level 1.
    clean = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    prior = torch.zeros_like(clean)
    for w, m, v in zip(law.weights, law.means[:, 0], law.variances, strict=True):
        prior += w * normal(clean, m, v)
    alpha_bar = LINEAR.alpha_bar[t]
    x = torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)
    joint = prior * normal(x[:, None], alpha_bar.sqrt() * clean, 1 - alpha_bar)
    of_x = joint.sum(1, keepdim=True)
    mean = (joint * clean).sum(1, keepdim=True) / of_x
    variance = (joint * (clean - mean) ** 2).sum(1, keepdim=True) / of_x

    found = law(x[:, None], t)
    torch.testing.assert_close(found.x0, mean, atol=1e-10, rtol=0)
    torch.testing.assert_close(found.x0_variance, variance, atol=1e-10, rtol=0)
    eps = (x[:, None] - alpha_bar.sqrt() * mean) / (1 - alpha_bar).sqrt()
    torch.testing.assert_close(found.eps, eps, atol=1e-8, rtol=0)  # divided by up to .01
    spacing = clean[1] - clean[0]
    torch.testing.assert_close(law.log_prob(x[:, None], t), (of_x[:, 0] * spacing).log())


@pytest.mark.parametrize("t", LEVELS)
@pytest.mark.parametrize("name", ["book", "ring", "spiral"])
def test_the_noise_a_mixture_expects_is_its_score_by_autograd(name, t):
    """Tweedie's formula, E[ε | x_t] = -√(1 - ᾱ) ∇ log q(x_t)."""
    law = make_law(name, LINEAR)
    x = draw(30, law.means.shape[1]).requires_grad_()
    (score,) = torch.autograd.grad(law.log_prob(x, t).sum(), x)
    noise = (1 - LINEAR.alpha_bar[t]).sqrt()
    torch.testing.assert_close(law(x, t).eps.detach(), -noise * score, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("t", LEVELS)
@pytest.mark.parametrize("name", ["point", "gaussian", "mixture", "empirical"])
def test_what_is_not_known_of_x0_is_the_slope_of_its_mean(name, t):
    """Var[x_0 | x_t] = (1 - ᾱ)/√ᾱ · ∂E[x_0 | x_t]/∂x_t, Tweedie's formula of second order."""
    oracle = oracles(LINEAR)[name]
    x = images_for(name, 1)
    slopes = jacobian(lambda x: oracle(x, t).x0, x).reshape(x.numel(), x.numel()).diagonal()
    alpha_bar = LINEAR.alpha_bar[t]
    torch.testing.assert_close(
        oracle(x, t).x0_variance.flatten(),
        (1 - alpha_bar) / alpha_bar.sqrt() * slopes,
        atol=1e-10,
        rtol=1e-8,
    )


@pytest.mark.parametrize("t", [0, *LEVELS])
def test_a_mixture_of_one_is_a_gaussian(t):
    mean, x = draw(1, 3, name="means"), draw(6, 3)
    mixture = GaussianMixture(LINEAR, torch.ones(1).double(), mean, torch.tensor([0.3]).double())
    gaussian = Gaussian(LINEAR, mean[0], torch.full((3,), 0.3).double())
    for of_mixture, of_gaussian in zip(mixture(x, t)[:3], gaussian(x, t)[:3], strict=True):
        torch.testing.assert_close(of_mixture, of_gaussian, atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("t", [0, *LEVELS])
def test_a_gaussian_without_variance_is_a_point(t):
    point = draw(3, name="means")
    x = draw(6, 3) if t else point.expand(2, 3)  # at level 0 there is but the point
    gaussian = Gaussian(LINEAR, point, torch.zeros_like(point))
    for of_gaussian, of_point in zip(
        gaussian(x, t)[:3], PointMass(LINEAR, point)(x, t)[:3], strict=True
    ):
        torch.testing.assert_close(of_gaussian, of_point, atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("t", LEVELS)
def test_an_empirical_law_is_a_mixture_of_very_narrow_modes(t):
    data, x = draw(9, 3, name="data"), draw(6, 3)
    narrow = GaussianMixture(
        LINEAR,
        torch.full((9,), 1 / 9, dtype=torch.float64),
        data,
        torch.full((9,), 1e-15, dtype=torch.float64),
    )
    for of_data, of_modes in zip(Empirical(LINEAR, data)(x, t)[:3], narrow(x, t)[:3], strict=True):
        # The width counts against 1 - ᾱ ≥ 1e-4, times exponents of up to 1e5.
        torch.testing.assert_close(of_data, of_modes, atol=1e-6 if t == 1 else 1e-9, rtol=0)


@pytest.mark.parametrize("t", LEVELS)
def test_an_empirical_law_is_a_softmax_over_distances(t):
    data, x = draw(9, 1, 3, 4, name="data"), draw(6, 1, 3, 4)
    alpha_bar = LINEAR.alpha_bar[t]
    means, variances = [], []
    for row in x:
        apart = torch.stack([(row - alpha_bar.sqrt() * example).square().sum() for example in data])
        likelihood = torch.exp(-(apart - apart.min()) / (2 * (1 - alpha_bar)))
        share = (likelihood / likelihood.sum()).reshape(-1, 1, 1, 1)
        means.append((share * data).sum(0))
        variances.append((share * (data - means[-1]) ** 2).sum(0))
    found = Empirical(LINEAR, data)(x, t)
    torch.testing.assert_close(found.x0, torch.stack(means), atol=1e-10, rtol=0)
    torch.testing.assert_close(found.x0_variance, torch.stack(variances), atol=1e-10, rtol=0)


@pytest.mark.parametrize("levels", [300, torch.tensor([1, 5, 700, 1000, 300])])
def test_an_empirical_law_does_not_depend_on_how_many_rows_it_holds_at_once(levels):
    data, x = draw(9, 3, name="data"), draw(5, 3)
    one, many = (Empirical(LINEAR, data, batch_size=n)(x, levels) for n in (1, 1000))
    for of_one, of_many in zip(one[:3], many[:3], strict=True):
        torch.testing.assert_close(of_one, of_many, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("t", LEVELS)
def test_patches_that_cover_the_image_are_the_empirical_law(t):
    data, x = draw(7, 2, 3, 4, name="data"), draw(5, 2, 3, 4)
    patches, whole = LocalPatch(LINEAR, data, 3)(x, t), Empirical(LINEAR, data)(x, t)
    for of_patches, of_whole in zip(patches[:3], whole[:3], strict=True):
        torch.testing.assert_close(of_patches, of_whole, atol=1e-9, rtol=0)


@pytest.mark.parametrize("t", LEVELS)
def test_patches_of_one_pixel_are_an_empirical_law_of_each_pixel(t):
    data, x = draw(7, 2, 3, 4, name="data"), draw(5, 2, 3, 4)
    found = LocalPatch(LINEAR, data, 0)(x, t)
    for row in range(3):
        for column in range(4):
            pixel = Empirical(LINEAR, data[:, :, row, column])(x[:, :, row, column], t)
            torch.testing.assert_close(found.x0[:, :, row, column], pixel.x0, atol=1e-9, rtol=0)
            torch.testing.assert_close(found.eps[:, :, row, column], pixel.eps, atol=1e-7, rtol=0)


@pytest.mark.parametrize("t", [30, 300, 1000])
def test_patches_are_compared_where_they_lie_and_inside_the_image_only(t):
    data, x = draw(7, 2, 4, 5, name="data"), draw(2, 2, 4, 5)
    signal, noise_variance = LINEAR.alpha_bar[t].sqrt(), 1 - LINEAR.alpha_bar[t]
    found = LocalPatch(LINEAR, data, 1)(x, t)
    for row in range(4):
        for column in range(5):
            window = (
                slice(None),
                slice(None),
                slice(max(row - 1, 0), row + 2),
                slice(max(column - 1, 0), column + 2),
            )
            apart = (x[window][:, None] - signal * data[window]).square().flatten(2).sum(2)
            share = (-apart / (2 * noise_variance)).softmax(1)
            mean = share @ data[:, :, row, column]
            variance = share @ data[:, :, row, column].square() - mean.square()
            torch.testing.assert_close(found.x0[:, :, row, column], mean, atol=1e-11, rtol=0)
            torch.testing.assert_close(
                found.x0_variance[:, :, row, column], variance, atol=1e-11, rtol=0
            )


@pytest.mark.parametrize("name", NAMES)
def test_at_level_0_all_is_known(name):
    x = 10 * images_for(name)  # far from all data: exponents overflow
    found = oracles(LINEAR)[name](x, 0)
    torch.testing.assert_close(found.x0, x, atol=1e-13, rtol=0)
    torch.testing.assert_close(found.eps, torch.zeros_like(x), atol=0, rtol=0)
    torch.testing.assert_close(found.x0_variance.expand_as(x), 0 * x, atol=1e-24, rtol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "clipped"])
def test_pure_noise_leaves_the_law_of_the_data(name):
    x = images_for(name)
    oracle = oracles(ANGLE)[name]
    data = draw(7, 1, 3, 4, name="data")
    mixture = a_mixture(ANGLE, 12)
    centre = mixture.weights @ mixture.means
    apart = (mixture.means - centre).square() + mixture.variances[:, None]
    mean, variance = {
        "point": (data[0], 0 * data[0]),
        "gaussian": (data[0], data[1].square() + 0.01),
        "mixture": (centre, mixture.weights @ apart),
        "empirical": (data.mean(0), data.var(0, correction=0)),
        "patch": (data.mean(0), data.var(0, correction=0)),
    }[name]
    found = oracle(x, 20)
    torch.testing.assert_close(found.x0, mean.expand_as(x), atol=1e-13, rtol=0)
    torch.testing.assert_close(found.eps, x, atol=1e-13, rtol=0)
    torch.testing.assert_close(
        found.x0_variance.expand_as(x), variance.expand_as(x), atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_example_may_have_its_own_level(name):
    oracle, x = oracles(ANGLE)[name], images_for(name)
    levels = torch.tensor([0, 1, 7, 13, 20])
    together = oracle(x, levels)
    for i, t in enumerate(levels.tolist()):
        for of_all, of_one in zip(together[:3], oracle(x[i : i + 1], t)[:3], strict=True):
            torch.testing.assert_close(of_all[i : i + 1], of_one, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "empirical"])
def test_a_level_between_whole_ones_is_a_whole_level_of_a_finer_schedule(name):
    x = images_for(name)
    coarse, fine = (oracles(schedule)[name] for schedule in (angle_uniform(20), angle_uniform(40)))
    for of_coarse, of_fine in zip(coarse(x, 6.5)[:3], fine(x, 13)[:3], strict=True):
        torch.testing.assert_close(of_coarse, of_fine, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("t", [0, 1, 7, 20])
@pytest.mark.parametrize("name", NAMES)
def test_the_two_means_make_up_the_example(name, t):
    """√ᾱ E[x_0 | x_t] + √(1 - ᾱ) E[ε | x_t] = x_t, whatever the law."""
    x = images_for(name)
    found = oracles(ANGLE)[name](x, t)
    alpha_bar = ANGLE.alpha_bar[t]
    again = alpha_bar.sqrt() * found.x0 + (1 - alpha_bar).sqrt() * found.eps
    torch.testing.assert_close(again, x, atol=1e-13, rtol=0)


@pytest.mark.parametrize("t", [30, 300, 700, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_single_precision_is_close_to_double(name, t):
    x = images_for(name)
    single, double = (oracles(LINEAR)[name](x.to(of), t) for of in (torch.float32, torch.float64))
    assert single.x0.dtype == single.eps.dtype == single.x0_variance.dtype == torch.float32
    # Rounding of 1e-7 in squared distances of about 10, divided by 2 (1 - ᾱ) ≥ .01.
    for of_single, of_double in zip(single[:3], double[:3], strict=True):
        torch.testing.assert_close(of_single.double(), of_double, atol=2e-4, rtol=2e-4)


def test_a_clipped_denoiser_keeps_x0_in_the_range_and_lets_the_noise_follow():
    oracle, x = Gaussian(LINEAR, torch.zeros(3).double(), torch.ones(3).double()), 3 * draw(50, 3)
    free, clipped = oracle(x, 100), Clipped(oracle, -0.5, 1.0)(x, 100)
    assert (free.x0 < -0.5).any() and (free.x0 > 1).any()
    torch.testing.assert_close(clipped.x0, free.x0.clamp(-0.5, 1.0), atol=0, rtol=0)
    inside = (free.x0 > -0.5) & (free.x0 < 1)
    torch.testing.assert_close(clipped.eps[inside], free.eps[inside], atol=1e-13, rtol=0)
    assert Clipped(oracle, -0.5, 1.0).schedule is LINEAR
    wide = Clipped(oracle, -100.0, 100.0)(x, 100)
    torch.testing.assert_close(wide.eps, free.eps, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("low", "high"), [(1.0, -1.0), (0.5, 0.5)])
def test_a_range_must_not_be_empty(low, high):
    with pytest.raises(ValueError, match=f"low={low} must be below high={high}"):
        Clipped(PointMass(LINEAR, torch.zeros(1)), low, high)


def test_a_variance_must_not_be_negative():
    with pytest.raises(ValueError, match=r"variance of -1\.0"):
        Gaussian(LINEAR, torch.zeros(2), torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.tensor([0.5, 0.6])}, "must be positive and sum to 1"),
        ({"weights": torch.tensor([1.5, -0.5])}, "must be positive and sum to 1"),
        ({"variances": torch.tensor([1.0, 0.0])}, "must be positive"),
    ],
)
def test_a_mixture_that_is_no_law_is_refused(change, message):
    right = GaussianMixture(LINEAR, torch.tensor([0.5, 0.5]), torch.zeros(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match=message):
        replace(right, **change)


def moments(law):
    mean = law.weights @ law.means
    return mean, law.weights @ ((law.means - mean).square() + law.variances[:, None])


@pytest.mark.parametrize("name", ["book", "three_modes", "ring", "spiral"])
def test_draws_from_a_law_have_its_moments(name):
    law, n = make_law(name, LINEAR), 40_000
    x = law.sample(n, generator(0, name))
    assert x.shape == (n, law.means.shape[1]) and x.dtype == torch.float64
    mean, variance = moments(law)
    # Four standard errors; the fourth moments of these laws are below 4 times a variance squared.
    torch.testing.assert_close(x.mean(0), mean, atol=4 * (variance.max() / n).sqrt().item(), rtol=0)
    torch.testing.assert_close(x.var(0), variance, atol=0, rtol=4 * math.sqrt(3 / n))


@pytest.mark.parametrize("t", [0, 500])
@pytest.mark.parametrize("name", ["book", "three_modes", "ring", "spiral"])
def test_a_density_integrates_to_1_and_has_the_moments_of_its_law(name, t):
    law = make_law(name, cosine(1000))
    d = law.means.shape[1]
    # At three quarters of the narrowest deviation the trapezoid rule is off by 1e-15.
    spacing = 0.0375
    line = torch.arange(-6 if t else -3.5, 6 if t else 3.5, spacing, dtype=torch.float64)
    x = torch.cartesian_prod(*[line] * d).reshape(-1, d)
    density = law.log_prob(x, t).exp() * spacing**d
    assert density.sum().item() == pytest.approx(1, abs=1e-6)  # what lies outside
    if t == 0:
        mean, variance = moments(law)
        torch.testing.assert_close(density @ x, mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(density @ (x - mean).square(), variance, atol=1e-5, rtol=0)


def test_the_ring_has_unit_variance_in_each_coordinate():
    mean, variance = moments(make_law("ring", LINEAR))
    torch.testing.assert_close(mean, torch.zeros(2).double(), atol=1e-15, rtol=0)
    torch.testing.assert_close(variance, torch.ones(2).double(), atol=1e-14, rtol=0)


def test_the_book_law_is_that_of_the_book():
    """Weights, means and deviations of the notebooks, whose mean and variance follow by hand."""
    mean, variance = moments(make_law("book", LINEAR))
    expected = 0.2 * 1.5 - 0.3 * 0.216 + 0.35 * 0.45 - 0.15 * 1.875
    second = 0.2 * (1.5**2 + 0.3**2) + 0.3 * (0.216**2 + 0.15**2)
    second += 0.35 * (0.45**2 + 0.525**2) + 0.15 * (1.875**2 + 0.075**2)
    assert mean.item() == pytest.approx(expected, abs=1e-15)
    assert variance.item() == pytest.approx(second - expected**2, abs=1e-14)
