"""How far a few steps with the exact score end from a law on a line, without sampling noise."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.samplers import ddim, ddpm, draw_prior, encode, last
from udl_lab.diffusion.schedule import constant, linear, refine
from udl_lab.randomness import generator

BOOK = constant(100, 0.01511)
LINEAR = linear(1000)
N = 4000  # quantiles; with 20,000 no distance below moves by more than 1e-4
SHARES = (np.arange(N) + 0.5) / N


def law_at(name, alpha_bar=1.0):
    """Weights, means and deviations of q(x_t)."""
    law = make_law(name, BOOK)
    variances = alpha_bar * law.variances + 1 - alpha_bar
    return law.weights.numpy(), alpha_bar**0.5 * law.means[:, 0].numpy(), variances.sqrt().numpy()


def quantiles(weights, means, deviations):
    """The inverse of a mixture's distribution function, by bisection."""
    low, high = np.full(N, -12.0), np.full(N, 12.0)
    for _ in range(50):
        middle = (low + high) / 2
        below = ndtr((middle[:, None] - means) / deviations) @ weights < SHARES
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return middle


NORMAL = quantiles(np.ones(1), np.zeros(1), np.ones(1))


def flow(name, schedule, steps, start):
    """Where quantiles go: on a line the flow lets no two points cross, so they stay quantiles."""
    x = torch.from_numpy(start)[:, None]
    walked = last(ddim(make_law(name, schedule), make_plan(schedule, steps), x))[:, 0].numpy()
    assert (np.diff(walked) > 0).all()
    return walked


def apart(x, y):
    """The Wasserstein-1 distance of two laws with these quantiles."""
    return np.abs(x - y).mean()


# The numbers below are those of /work/shared/notes/generative.md, section 2d.


@pytest.mark.parametrize(
    ("steps", "from_noise", "from_truth"),
    [
        (5, 0.1688, 0.1549),
        (10, 0.1035, 0.0836),
        (20, 0.0759, 0.0486),
        (50, 0.0662, 0.0267),
        (100, 0.0612, 0.0177),
    ],
)
def test_most_of_the_books_error_is_its_start(steps, from_noise, from_truth):
    data = quantiles(*law_at("book"))
    true_start = quantiles(*law_at("book", BOOK.alpha_bar[-1].item()))
    assert apart(flow("book", BOOK, steps, NORMAL), data) == pytest.approx(from_noise, abs=2e-4)
    assert apart(flow("book", BOOK, steps, true_start), data) == pytest.approx(from_truth, abs=2e-4)


@pytest.mark.parametrize(
    ("steps", "distance", "left_mass"),
    [
        (2, 0.4980, 0.0005),
        (5, 0.2485, 0.1837),
        (10, 0.1074, None),
        (20, 0.0527, None),
        (50, 0.0235, None),
        (100, 0.0122, None),
        (250, 0.0051, 0.2992),
    ],
)
def test_the_error_on_three_modes_falls_as_one_over_the_steps(steps, distance, left_mass):
    found = flow("three_modes", LINEAR, steps, NORMAL)
    assert apart(found, quantiles(*law_at("three_modes"))) == pytest.approx(distance, abs=2e-4)
    if left_mass is not None:  # the valley beside the left mode is at -.5
        assert (found < -0.5).mean() == pytest.approx(left_mass, abs=3e-4)


GRID = np.linspace(-6, 6, 801)


def answer(weights, means, deviations, alpha_bar, x):
    """E[x_0 | x_t] of a mixture on a line."""
    total = alpha_bar * deviations**2 + 1 - alpha_bar
    away = x[:, None] - np.sqrt(alpha_bar) * means
    share = weights * np.exp(-(away**2) / (2 * total)) / np.sqrt(total)
    share /= share.sum(1, keepdims=True)
    return (share * (means + np.sqrt(alpha_bar) * deviations**2 * away / total)).sum(1)


def ancestral(steps, variance):
    """The distribution function of ancestral samples, as points of it: density by density."""
    law, keep = law_at("book"), (1 - 0.01511) ** np.arange(101.0)
    density = np.exp(-(GRID**2) / 2)
    density /= density.sum()
    levels = [100 * i // steps for i in range(steps, -1, -1)]
    for t, s in pairwise(levels):
        ratio = keep[t] / keep[s]
        of_xt = np.sqrt(ratio) * (1 - keep[s]) / (1 - keep[t])
        of_x0 = np.sqrt(keep[s]) * (1 - ratio) / (1 - keep[t])
        mean = of_xt * GRID + of_x0 * answer(*law, keep[t], GRID)
        if s == 0:  # no noise: the grid's points move, with what is below them
            return mean, density.cumsum() - density / 2
        spread = (1 - ratio) * ((1 - keep[s]) / (1 - keep[t]) if variance == "small" else 1)
        transfer = np.exp(-((GRID[:, None] - mean) ** 2) / (2 * spread))
        density = (transfer / transfer.sum(0)) @ density


@pytest.mark.parametrize(
    ("variance", "distances"),
    [
        ("small", {5: 0.1906, 10: 0.1191, 20: 0.0766, 50: 0.0494}),
        ("large", {5: 0.1493, 10: 0.0817, 20: 0.0472, 50: 0.0336}),
    ],
)
def test_transfer_matrices_tell_the_distance_of_ancestral_samples(variance, distances):
    """The notes' are up to .0014 larger; these move by 1e-4 on a grid of twice the points."""
    for steps, distance in distances.items():
        points, below = ancestral(steps, variance)
        found = np.interp(SHARES, below, points)
        assert apart(found, quantiles(*law_at("book"))) == pytest.approx(distance, abs=1.6e-3)


@pytest.mark.parametrize("steps", [5, 10])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_samples_follow_the_law_of_the_transfer_matrices(variance, steps):
    n = 100_000
    noise = generator(0, variance, steps)
    x = draw_prior(n, (1,), noise, torch.float64)
    walk = ddpm(make_law("book", BOOK), make_plan(BOOK, steps), x, noise, variance)
    samples = np.sort(last(walk)[:, 0].numpy())
    points, below = ancestral(steps, variance)
    # Kolmogorov's distance: beyond 2.2/√n by chance once in 10,000 times.
    expected = np.interp(samples, points, below)
    assert np.abs(expected - (np.arange(n) + 0.5) / n).max() < 2.2 / np.sqrt(n)


def test_encoded_data_approach_the_true_start_as_the_steps_shrink():
    """Encoding is of first order: half the step, half the error."""
    data = quantiles(*law_at("book"))[2::4]
    start = quantiles(*law_at("book", BOOK.alpha_bar[-1].item()))[2::4]
    errors = []
    for times in (1, 2, 4):
        schedule = refine(BOOK, times)
        x = torch.from_numpy(data)[:, None]
        noise = last(encode(make_law("book", schedule), make_plan(schedule, 100 * times), x))
        errors.append(apart(noise[:, 0].numpy(), start))
    for rough, fine in pairwise(errors):
        assert rough / fine == pytest.approx(2, abs=0.2)
