"""The three losses as one, weights against the bound, and floors against integrals over grids."""

import math

import pytest
import torch
from scipy import stats

from udl_lab.diffusion.denoisers import Gaussian
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.objectives import (
    irreducible_error,
    level_at,
    loss_weight,
    stratified,
    target_errors,
)
from udl_lab.diffusion.process import diffuse, velocity
from udl_lab.diffusion.schedule import angle_uniform, constant, cosine, linear
from udl_lab.diffusion.variational_bound import step_term
from udl_lab.randomness import generator

KINDS = ["eps", "x0", "v"]
WEIGHTINGS = ["snr", "min_snr", "vlb"]
T = 50
SCHEDULES = [linear(T), cosine(T)]


def double(*values):
    """In double precision from the start: `torch.tensor(0.1).double()` would round to single."""
    return torch.tensor(*values, dtype=torch.float64)


def normal(*shape, stream="objectives"):
    return torch.randn(shape, generator=generator(0, stream), dtype=torch.float64)


def one_guess(schedule, n=20):
    """Examples, levels, noise, and one guess of x_0 said in three ways."""
    x0, eps = normal(n, 2, 3, stream="x0"), normal(n, 2, 3, stream="eps")
    t = torch.randint(1, schedule.n_steps + 1, (n,), generator=generator(0, "t"))
    guess = x0 + normal(n, 2, 3, stream="miss")
    left = schedule.alpha_bar[t].reshape(-1, 1, 1)
    x_t = left.sqrt() * x0 + (1 - left).sqrt() * eps
    noise = (x_t - left.sqrt() * guess) / (1 - left).sqrt()
    outputs = {"x0": guess, "eps": noise, "v": left.sqrt() * noise - (1 - left).sqrt() * guess}
    return x0, t, eps, outputs


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_errors_of_one_guess_relate_by_the_snr(schedule):
    x0, t, eps, outputs = one_guess(schedule)
    error = {kind: target_errors(schedule, kind, outputs[kind], x0, t, eps) for kind in KINDS}
    left = schedule.alpha_bar[t]
    snr = left / (1 - left)
    torch.testing.assert_close(error["eps"], snr * error["x0"], rtol=1e-11, atol=0)
    torch.testing.assert_close(error["v"], (snr + 1) * error["x0"], rtol=1e-11, atol=0)
    assert (error["x0"] > 0.01).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_make_one_objective_of_three_kinds(weighting, schedule):
    x0, t, eps, outputs = one_guess(schedule)
    losses = [
        loss_weight(schedule, kind, weighting, t)
        * target_errors(schedule, kind, outputs[kind], x0, t, eps)
        for kind in KINDS
    ]
    # Relative, as the weights run over eight decades; ε̂ loses three digits where ᾱ is near 1.
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-11, atol=0)
    torch.testing.assert_close(losses[2], losses[1], rtol=1e-11, atol=0)
    torch.testing.assert_close(losses[2].mean(), losses[1].mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_simple_weights_are_one(kind):
    weight = loss_weight(linear(T), kind, "simple", torch.arange(1, T + 1).reshape(5, 10))
    assert torch.equal(weight, torch.ones(5, 10, dtype=torch.float64))


def test_the_snr_weight_of_noise_is_one():
    levels = torch.arange(1, T + 1)
    weight = loss_weight(linear(T), "eps", "snr", levels)
    torch.testing.assert_close(weight, torch.ones(T).double(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("gamma", [0.1, 5.0])
def test_min_snr_is_hang_et_al_s_for_each_kind(gamma):
    schedule, levels = linear(T), torch.arange(1, T + 1)
    for t, of_eps, of_x0, of_v in zip(
        levels.tolist(),
        *(loss_weight(schedule, kind, "min_snr", levels, gamma).tolist() for kind in KINDS),
        strict=True,
    ):
        left = schedule.alpha_bar[t].item()
        snr = left / (1 - left)
        assert of_x0 == pytest.approx(min(snr, gamma), rel=1e-13)
        assert of_eps == pytest.approx(min(1, gamma / snr), rel=1e-13)
        assert of_v == pytest.approx(min(snr, gamma) / (snr + 1), rel=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weighted_error_is_t_times_the_bounds_term_per_dimension(kind):
    schedule = linear(T)
    law = Gaussian(schedule, double([0.3, -1.0]), double([0.5, 2.0]))
    x0, eps = normal(30, 2, stream="x0"), normal(30, 2, stream="eps")
    for t in [2, 3, 20, T]:
        level = torch.full((30,), t)
        answer = law(diffuse(schedule, x0, t, eps), t)
        said = {"x0": answer.x0, "eps": answer.eps}
        said["v"] = velocity(schedule, answer.x0, answer.eps, t)
        errors = target_errors(schedule, kind, said[kind], x0, level, eps)
        weighted = loss_weight(schedule, kind, "vlb", level) * errors
        term = step_term(law, x0, t - 1, t, eps, "small")
        torch.testing.assert_close(weighted, T * term / 2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_level_borrows_the_second_ones_weight_in_x0(kind):
    schedule = linear(T)
    levels = torch.tensor([1, 2])
    of_x0 = loss_weight(schedule, "x0", "vlb", levels)
    assert of_x0[0] == of_x0[1]
    to_x0 = {"eps": schedule.snr[levels], "x0": 1, "v": schedule.snr[levels] + 1}[kind]
    weight = loss_weight(schedule, kind, "vlb", levels)
    torch.testing.assert_close(weight * to_x0, of_x0, rtol=1e-14, atol=0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_noise_has_no_weight_where_no_signal_is_left(weighting):
    schedule, last = angle_uniform(T), torch.tensor([T])
    with pytest.raises(ValueError, match="predict v or x0"):
        loss_weight(schedule, "eps", weighting, last)
    assert loss_weight(schedule, "v", weighting, last).isfinite().all()
    assert loss_weight(schedule, "x0", weighting, last).isfinite().all()


def test_the_bounds_weights_need_two_levels():
    with pytest.raises(ValueError, match="at least 2 levels"):
        loss_weight(angle_uniform(1), "x0", "vlb", torch.tensor([1]))


@pytest.mark.parametrize("n", [1, 7, 100])
def test_one_number_falls_into_each_stratum(n):
    shares = stratified(n, generator(0, "strata"))
    assert sorted((shares * n).floor().tolist()) == list(range(n))
    assert shares.min() >= 0 and shares.max() < 1


def test_each_place_of_a_stratified_draw_is_uniform():
    chance = generator(0, "strata")
    draws = torch.stack([stratified(5, chance) for _ in range(2000)])
    for place in range(5):
        assert stats.kstest(draws[:, place], "uniform").pvalue > 0.01
    # Each place meets each stratum in 2000/5 draws on average: were the order kept, only in one.
    met = torch.stack([((draws * 5).long() == k).sum(0) for k in range(5)])
    assert stats.chisquare(met.flatten()).pvalue > 0.01


def test_a_stratified_mean_is_within_half_a_stratum_of_a_half():
    for n in [1, 10, 1000]:
        assert abs(stratified(n, generator(1, "strata")).mean() - 0.5) <= 0.5 / n
    # The variance of the mean of n strata of width 1/n is 1/(12 n³), against 1/(12 n) if
    # independent; the variance of 4000 draws of it has a relative standard error of √(2/4000).
    chance = generator(2, "strata")
    means = torch.stack([stratified(10, chance).mean() for _ in range(4000)])
    assert means.var().item() * 12 * 1000 == pytest.approx(1, abs=4 * math.sqrt(2 / 4000))


@pytest.mark.parametrize("n_steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_equally_likely(n_steps, dtype):
    middles = (torch.arange(3 * n_steps, dtype=dtype) + 0.5) / (3 * n_steps)
    levels = level_at(middles, n_steps)
    assert torch.equal(levels.bincount(), torch.tensor([0, *[3] * n_steps]))


@pytest.mark.parametrize("n_steps", [1, 7, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_the_interval_are_the_first_and_the_last_level(n_steps, dtype):
    one = torch.ones((), dtype=dtype)
    ends = torch.stack([0 * one, torch.nextafter(one, 0 * one), one])
    assert level_at(ends, n_steps).tolist() == [1, n_steps, n_steps]


def test_errors_are_means_over_all_dimensions():
    schedule, x0, eps = linear(T), normal(4, 2, 3, 5), normal(4, 2, 3, 5, stream="eps")
    t = torch.tensor([1, 5, 20, T])
    errors = target_errors(schedule, "eps", eps + 2, x0, t, eps)
    torch.testing.assert_close(errors, torch.full((4,), 4.0).double(), rtol=1e-14, atol=0)
    by_hand = [
        sum((a - b) ** 2 for a, b in zip(x.flatten().tolist(), e.flatten().tolist(), strict=True))
        / 30
        for x, e in zip(x0, eps, strict=True)
    ]
    errors = target_errors(schedule, "x0", eps, x0, t, eps)
    assert errors.tolist() == pytest.approx(by_hand, rel=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_asked_at_the_noisy_examples_and_their_levels(kind):
    schedule, x0, eps = linear(T), normal(3, 4, stream="x0"), normal(3, 4, stream="eps")
    t = torch.tensor([1, 20, T])
    left = schedule.alpha_bar[t].unsqueeze(1)
    wanted = {"x0": x0, "eps": eps, "v": left.sqrt() * eps - (1 - left).sqrt() * x0}[kind]
    errors = target_errors(schedule, kind, wanted + t.unsqueeze(1), x0, t, eps)
    torch.testing.assert_close(errors, t.double().square(), rtol=1e-12, atol=0)


def test_the_floor_of_gaussian_data_has_a_closed_form():
    variance = torch.tensor([0.04, 1.0, 3.0], dtype=torch.float64)
    schedule = linear(T)
    law = Gaussian(schedule, torch.zeros(3).double(), variance)
    x0, eps = normal(2, 3, stream="x0"), normal(2, 3, stream="eps")
    for t in [1, 10, T]:
        left = schedule.alpha_bar[t]
        total = left * variance + 1 - left
        floors = {
            "eps": (left * variance / total).mean(),
            "x0": ((1 - left) * variance / total).mean(),
            "v": (variance / total).mean(),
        }
        for kind, floor in floors.items():
            found = irreducible_error(law, kind, x0, t, eps)
            torch.testing.assert_close(found, floor.expand(2), rtol=1e-12, atol=0)


def test_at_pure_noise_the_noise_is_known_and_the_data_are_not():
    variance = torch.tensor([0.5, 2.0], dtype=torch.float64)
    law = Gaussian(angle_uniform(T), torch.zeros(2).double(), variance)
    x0, eps = normal(3, 2, stream="x0"), normal(3, 2, stream="eps")
    assert irreducible_error(law, "eps", x0, T, eps).tolist() == [0, 0, 0]
    assert irreducible_error(law, "x0", x0, T, eps).tolist() == [1.25] * 3
    assert irreducible_error(law, "v", x0, T, eps).tolist() == [1.25] * 3


def on_a_line(name, schedule, t):
    """A law in one dimension on fine grids: points and joint mass of x_0 and x_t, law from them.

    The trapezoidal rule is exact to rounding here: all is analytic, and narrow modes span 10 cells.
    """
    law = make_law(name, schedule)
    x0 = torch.linspace(-5, 5, 1601, dtype=torch.float64)
    x_t = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    left = schedule.alpha_bar[t].item()
    share = sum(
        w.item() * torch.distributions.Normal(m, v.sqrt()).log_prob(x0).exp()
        for w, m, v in zip(law.weights, law.means.flatten(), law.variances, strict=True)
    ) * (x0[1] - x0[0])
    eps = (x_t - math.sqrt(left) * x0.unsqueeze(1)) / math.sqrt(1 - left)
    given = (-0.5 * eps.square()).exp() / math.sqrt(2 * math.pi * (1 - left)) * (x_t[1] - x_t[0])
    return law, x0, x_t, eps, share.unsqueeze(1) * given


@pytest.mark.parametrize("t", [2, 10, 50, 100])
def test_the_floor_of_the_books_law_is_the_error_of_its_oracle(t):
    schedule = constant(100, 0.01511)
    law, x0, x_t, eps, mass = on_a_line("book", schedule, t)
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)
    answer = law(x_t.unsqueeze(1), t)
    left = schedule.alpha_bar[t].item()
    v = math.sqrt(left) * eps - math.sqrt(1 - left) * x0.unsqueeze(1)
    v_hat = velocity(schedule, answer.x0, answer.eps, t).flatten()
    brute = {
        "eps": (mass * (eps - answer.eps.flatten()).square()).sum(),
        "x0": (mass * (x0.unsqueeze(1) - answer.x0.flatten()).square()).sum(),
        "v": (mass * (v - v_hat).square()).sum(),
    }
    # Any pair that makes x_t will do: clean examples of 0.
    noise = (x_t / math.sqrt(1 - left)).unsqueeze(1)
    for kind, error in brute.items():
        floors = irreducible_error(law, kind, torch.zeros_like(noise), t, noise)
        assert (mass.sum(0) * floors).sum().item() == pytest.approx(error.item(), rel=1e-9)


def test_the_books_law_has_the_noted_mean_floor():
    # An independent computation said .4985 for the mean over all levels.
    schedule = constant(100, 0.01511)
    law = make_law("book", schedule)
    x_t = torch.linspace(-7, 7, 2001, dtype=torch.float64).unsqueeze(1)
    floors = []
    for t in range(1, 101):
        mass = law.log_prob(x_t, t).exp() * (x_t[1] - x_t[0])
        noise = x_t / (1 - schedule.alpha_bar[t]).sqrt()
        floors.append(
            (mass * irreducible_error(law, "eps", torch.zeros_like(noise), t, noise)).sum()
        )
    assert torch.stack(floors).mean().item() == pytest.approx(0.4985, abs=5e-5)


def test_a_floor_needs_an_oracle_that_says_its_variance():
    net = Learned(Zero(), linear(T), "v")
    x = normal(3, 2)
    with pytest.raises(ValueError, match="oracle of the data's law"):
        irreducible_error(net, "v", x, 5, x)


class Zero(torch.nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)
