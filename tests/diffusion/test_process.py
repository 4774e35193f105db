"""Noising, posteriors and steps are those of the Gaussian chain, worked out without ᾱ."""

import math

import pytest
import torch

from udl_lab.diffusion.process import (
    Prediction,
    amplitudes,
    ancestral_step,
    ddim_step,
    ddim_weights,
    diffuse,
    posterior,
    posterior_weights,
    predict,
    score,
    step_variance,
    target,
    velocity,
)
from udl_lab.diffusion.schedule import angle_uniform, from_betas, linear, zero_terminal_snr
from udl_lab.randomness import generator

T = 60
BETAS = 0.002 + 0.2 * torch.rand(T, generator=generator(0, "betas"), dtype=torch.float64)
SCHEDULE = from_betas(BETAS)
KINDS = ["eps", "x0", "v"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def normal(*shape, name="x"):
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


def pairs(n=300, first=0):
    """Levels s < t at random, mostly not adjacent, s from `first` up."""
    two = torch.rand(n, T + 1 - first, generator=generator(0, "pairs")).argsort(1)[:, :2] + first
    return two.min(1).values, two.max(1).values


def close(actual, expected, atol=1e-12):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=atol)


def chain():
    """Each level as a sum of x_0 and the steps' noises: rows of x_t = √(1 − β) x_{t−1} + √β ε."""
    row = torch.eye(T + 1, dtype=torch.float64)
    levels = [row[0]]
    for t, beta in enumerate(BETAS, start=1):
        levels.append((1 - beta).sqrt() * levels[-1] + beta.sqrt() * row[t])
    return torch.stack(levels)


def covariance(data_variance=1.0):
    """The covariance of x_0 … x_T for data of this variance."""
    variances = torch.ones(T + 1, dtype=torch.float64)
    variances[0] = data_variance
    return chain() * variances @ chain().T


def conditioned(joint, wanted, given):
    """Regression weights of one coordinate on others, and the variance that is left of it."""
    weights = torch.linalg.solve(joint[given][:, given], joint[given, wanted])
    return weights, joint[wanted, wanted] - weights @ joint[given, wanted]


def test_noising_has_the_moments_of_the_chain():
    joint, x0 = covariance(), normal(T + 1)
    t = torch.arange(T + 1)
    signal = chain()[:, 0]
    close(diffuse(SCHEDULE, x0, t, torch.zeros(T + 1).double()), signal * x0)
    # for unit data the variances add up to 1 at every level
    close(joint.diagonal(), torch.ones(T + 1).double())
    noise = diffuse(SCHEDULE, torch.zeros(T + 1).double(), t, torch.ones(T + 1).double())
    close(noise.square(), chain()[:, 1:].square().sum(1))


def test_the_posterior_is_conditioning_on_the_joint_covariance_of_the_chain():
    s, t = pairs()
    assert (t - s > 1).sum() > 250 and (s == 0).any()
    x0, x_t = normal(300, 2), normal(300, 2, name="x_t")
    mean, variance = posterior(SCHEDULE, x0, x_t, s, t)
    joint = covariance()
    for i in range(300):
        weights, left = conditioned(joint, s[i], [0, int(t[i])])
        close(mean[i], weights[0] * x0[i] + weights[1] * x_t[i], atol=1e-11)
        close(variance[i, 0], left, atol=1e-13)


def test_the_weights_of_the_posterior_are_those_of_ho_et_al_between_neighbours():
    alpha_bar = SCHEDULE.alpha_bar
    for t in range(1, T + 1):
        beta, left, before = BETAS[t - 1], alpha_bar[t], alpha_bar[t - 1]
        of_x0, of_xt, variance = posterior_weights(SCHEDULE, t - 1, t)
        close(of_x0, before.sqrt() * beta / (1 - left))
        close(of_xt, (1 - beta).sqrt() * (1 - before) / (1 - left))
        close(variance, (1 - before) / (1 - left) * beta)


def test_at_level_0_the_posterior_is_x0_for_certain():
    weights = posterior_weights(SCHEDULE, 0, torch.arange(1, T + 1))
    for actual, expected in zip(weights, (1.0, 0.0, 0.0), strict=True):
        assert (actual == expected).all()


@every_kind
def test_what_a_perfect_network_gives_tells_x0_and_eps(kind):
    t = torch.arange(1, T + 1)
    x0, eps = normal(T, 2, 3), normal(T, 2, 3, name="eps")
    x_t = diffuse(SCHEDULE, x0, t, eps)
    found = predict(SCHEDULE, kind, target(SCHEDULE, kind, x0, eps, t), x_t, t)
    close(found.x0, x0)
    close(found.eps, eps)


@every_kind
def test_any_output_gives_two_means_that_make_up_x_t_and_give_the_output_back(kind):
    t = torch.arange(1, T + 1)
    output, x_t = normal(T, 4), normal(T, 4, name="x_t")
    found = predict(SCHEDULE, kind, output, x_t, t)
    close(diffuse(SCHEDULE, found.x0, t, found.eps), x_t)
    close(target(SCHEDULE, kind, found.x0, found.eps, t), output)


def test_v_is_the_derivative_of_x_t_by_the_angle():
    x0, eps, t = normal(5), normal(5, name="eps"), torch.tensor([0, 1, 20, 40, T])
    angle = SCHEDULE.angle[t].requires_grad_()
    (slope,) = torch.autograd.grad((angle.cos() * x0 + angle.sin() * eps).sum(), angle)
    close(velocity(SCHEDULE, x0, eps, t), slope)


def test_the_score_is_the_gradient_of_the_log_density_of_noised_data():
    points, share = torch.tensor([-1.0, 0.4, 2.0]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    for t in (1, 10, 30, T):
        x = normal(20, name="score").requires_grad_()
        # E[ε | x_t] by Bayes' rule over the three points, with the chain's own moments
        signal, variance = chain()[t, 0], chain()[t, 1:].square().sum()
        away = x.unsqueeze(1) - signal * points
        logs = share.log() - away.square() / (2 * variance)
        (gradient,) = torch.autograd.grad(logs.logsumexp(1).sum(), x)
        eps = (logs.softmax(1) * away / variance.sqrt()).sum(1).detach()
        close(score(SCHEDULE, eps, t), gradient, atol=1e-11)


@every_kind
def test_at_level_0_the_example_is_known_and_the_output_is_not_looked_at(kind):
    x, output = normal(3, 2), torch.full((3, 2), math.nan, dtype=torch.float64)
    for t in (0, torch.zeros(3, dtype=torch.long)):
        found = predict(SCHEDULE, kind, output, x, t)
        assert torch.equal(found.x0, x) and (found.eps == 0).all()
    output[1] = 0.5
    mixed = predict(SCHEDULE, kind, output, x, torch.tensor([0, 7, 0]))
    alone = predict(SCHEDULE, kind, output[1:2], x[1:2], 7)
    assert torch.equal(mixed.x0[1], alone.x0[0]) and torch.equal(mixed.x0[[0, 2]], x[[0, 2]])
    assert torch.equal(mixed.eps[1], alone.eps[0]) and (mixed.eps[[0, 2]] == 0).all()


def test_at_pure_noise_v_and_x0_say_the_clean_example_and_eps_does_not():
    schedule = zero_terminal_snr(linear(100))
    x, output = normal(3), normal(3, name="output")
    for kind, sign in (("v", -1), ("x0", 1)):
        found = predict(schedule, kind, output, x, 100)
        assert torch.equal(found.x0, sign * output) and torch.equal(found.eps, x)
    with pytest.raises(ValueError, match="predict v or x0"):
        predict(schedule, "eps", output, x, torch.tensor([3, 100, 7]))


def everything(schedule, x, other, noise, s, t):
    """All that takes levels, for examples of any batch."""
    found = predict(schedule, "v", other, x, t)
    found = found._replace(x0_variance=torch.tensor(0.3).double(), between=noise.sigmoid())
    every = [
        *amplitudes(schedule, t, x),
        diffuse(schedule, x, t, noise),
        posterior(schedule, x, other, s, t)[0],
        posterior(schedule, x, other, s, t)[1],
        velocity(schedule, x, noise, t),
        score(schedule, noise, t),
        ddim_step(schedule, x, found, s, t),
        ddim_step(schedule, x, found, t, s),
        ddim_step(schedule, x, found, s, t, 0.6, noise),
        *(predict(schedule, kind, other, x, t)[i] for kind in KINDS for i in (0, 1)),
    ]
    for variance in ("small", "large", "optimal", "learned"):
        every.append(step_variance(schedule, found, s, t, variance))
        every.append(ancestral_step(schedule, x, found, s, t, variance, noise))
    return [value.expand_as(x) for value in every]


def test_a_level_for_each_example_is_the_same_as_one_call_for_each():
    s, t = pairs(20)
    x, other, noise = normal(20, 2, 3), normal(20, 2, 3, name="y"), normal(20, 2, 3, name="noise")
    together = everything(SCHEDULE, x, other, noise, s, t)
    for i in range(20):
        row = slice(i, i + 1)
        alone = everything(SCHEDULE, x[row], other[row], noise[row], int(s[i]), int(t[i]))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[row], b, rtol=1e-14, atol=1e-14)


def test_ddim_with_eta_1_is_the_ancestral_step_with_the_small_variance():
    s, t = pairs()
    x, noise = normal(300, 2), normal(300, 2, name="noise")
    found = predict(SCHEDULE, "v", normal(300, 2, name="output"), x, t)
    ancestral = ancestral_step(SCHEDULE, x, found, s, t, "small", noise)
    close(ddim_step(SCHEDULE, x, found, s, t, 1.0, noise), ancestral)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_the_step_to_level_0_adds_no_noise_and_gives_x0(eta):
    x, t = normal(T, 2), torch.arange(1, T + 1)
    found = predict(SCHEDULE, "v", normal(T, 2, name="output"), x, t)
    noise = torch.full((T, 2), 1e6, dtype=torch.float64)
    close(ddim_step(SCHEDULE, x, found, 0, t, eta, noise), found.x0)
    close(ddim_step(SCHEDULE, x, found, 0, t), found.x0)
    close(ancestral_step(SCHEDULE, x, found, 0, t, "small", noise), found.x0)


@pytest.mark.parametrize("upward", [False, True])
def test_a_deterministic_step_turns_x_t_by_the_difference_of_the_angles(upward):
    s, t = pairs(first=1)
    s, t = (t, s) if upward else (s, t)
    x, v = normal(300, 2), normal(300, 2, name="v")
    turn = (SCHEDULE.angle[s] - SCHEDULE.angle[t]).unsqueeze(1)
    found = predict(SCHEDULE, "v", v, x, t)
    close(ddim_step(SCHEDULE, x, found, s, t), turn.cos() * x + turn.sin() * v)


def by_weights(weights, x, output, noise):
    return weights.of_x * x + weights.of_output * output + weights.of_noise * noise


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    ("s", "t", "eta"),
    [
        *((0, 1, 0.0), (3, 4, 0.0), (2, 9, 0.0), (9, 2, 0.0), (0, 10, 0.0), (5, 0, 0.0)),
        *((0, 1, 1.0), (3, 4, 0.5), (2, 9, 1.0), (0, 10, 0.3)),
    ],
)
def test_three_weights_do_what_predicting_and_stepping_do(kind, s, t, eta):
    schedule, (x, output, noise) = angle_uniform(11), normal(3, 5, 3)
    weights = ddim_weights(schedule, kind, s, t, eta)
    expected = ddim_step(schedule, x, predict(schedule, kind, output, x, t), s, t, eta, noise)
    found = by_weights(weights, x, output, noise)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_weights_start_from_pure_noise_unless_the_output_is_noise(kind):
    schedule = zero_terminal_snr(linear(50))
    x, output, noise = normal(3, 5, 3)
    expected = ddim_step(schedule, x, predict(schedule, kind, output, x, 50), 4, 50, 0.5, noise)
    found = by_weights(ddim_weights(schedule, kind, 4, 50, 0.5), x, output, noise)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="leaves x_0 unknown"):
        ddim_weights(schedule, "eps", 4, 50)


def test_weights_refuse_what_a_step_refuses():
    with pytest.raises(ValueError, match="needs steps down"):
        ddim_weights(linear(50), "eps", 5, 4, 0.5)
    with pytest.raises(ValueError, match="take a smaller eta"):
        ddim_weights(linear(50), "eps", 1, 2, 9.0)


def test_encoding_from_level_0_shrinks_the_example():
    x = normal(4, 2)
    found = predict(SCHEDULE, "eps", x, x, 0)
    close(ddim_step(SCHEDULE, x, found, 9, 0), SCHEDULE.alpha_bar[9].sqrt() * x)


def test_equal_angles_shrink_data_of_unit_variance_by_a_cosine_at_every_step():
    schedule, x = angle_uniform(7), normal(5)
    walked = x
    for t in range(7, 0, -1):
        # for x_0 of N(0, 1): E[x_0 | x_t] = √ᾱ x_t and E[ε | x_t] = √(1 − ᾱ) x_t, so v is 0
        found = predict(schedule, "v", torch.zeros(5).double(), walked, t)
        walked = ddim_step(schedule, walked, found, t - 1, t)
    close(walked, math.cos(math.pi / 14) ** 7 * x)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_ddim_step_of_the_true_means_has_the_right_marginal(eta):
    """Song et al. 2021 (DDIM), lemma 1: for known x_0 and any η, x_s is of q(x_s | x_0)."""
    s, t = pairs()
    zero, one = torch.zeros(300).double(), torch.ones(300).double()

    def step(x0, eps, noise):
        x_t = diffuse(SCHEDULE, x0, t, eps)
        return ddim_step(SCHEDULE, x_t, Prediction(x0, eps), s, t, eta, noise)

    mean, of_eps, of_noise = step(one, zero, zero), step(zero, one, zero), step(zero, zero, one)
    close(mean, chain()[s, 0])
    close(of_eps.square() + of_noise.square(), chain()[s, 1:].square().sum(1))


def variances(found, s, t):
    return {k: step_variance(SCHEDULE, found, s, t, k) for k in ("small", "large", "optimal")}


@pytest.mark.parametrize("data_variance", [0.01, 0.3, 1.0, 4.0])
def test_the_optimal_variance_is_the_true_one_of_gaussian_data(data_variance):
    joint, (s, t) = covariance(data_variance), pairs(100)
    for a, b in zip(s.tolist(), t.tolist(), strict=True):
        of_x0 = conditioned(joint, 0, [b])[1]
        found = variances(Prediction(normal(1, 1), normal(1, 1), of_x0), a, b)
        close(found["optimal"], conditioned(joint, a, [b])[1])
        if data_variance < 1:
            assert found["small"] < found["optimal"] < found["large"]
        if data_variance == 1:
            close(found["optimal"], found["large"])


def test_the_optimal_variance_is_the_small_one_for_one_point_and_may_differ_by_coordinate():
    s, t = pairs(50, first=1)
    x, of_x0 = normal(50, 3), torch.tensor([0.0, 0.2, 0.7]).double()
    found = variances(Prediction(x, x, of_x0), s, t)
    close(found["optimal"][:, :1], found["small"])
    for i in (1, 2):
        alone = variances(Prediction(x, x, of_x0[i]), s, t)["optimal"]
        close(found["optimal"][:, i : i + 1], alone)


def test_the_small_and_large_variances_are_the_posterior_s_and_the_added_one():
    s, t = pairs(50)
    x = normal(50, 3)
    found = variances(Prediction(x, x, x), s, t)
    for i in range(50):
        # of x_t given x_s: what is left of a regression on the chain that starts at a point
        joint = covariance()
        close(found["large"][i, 0], conditioned(joint, t[i], [int(s[i])])[1])
        close(found["small"][i, 0], conditioned(joint, s[i], [0, int(t[i])])[1])


def test_the_learned_variance_is_log_linear_between_small_and_large():
    s, t = pairs(100, first=1)
    x, share = normal(100, 3), torch.rand(100, 3, generator=generator(0, "share")).double()
    found = Prediction(x, x, between=share)
    small, large = (step_variance(SCHEDULE, found, s, t, k) for k in ("small", "large"))
    learned = step_variance(SCHEDULE, found, s, t, "learned")
    close(learned, small ** (1 - share) * large**share)  # Nichol & Dhariwal 2021, eq. 15


def test_the_learned_variance_of_the_last_step_starts_from_the_small_one_before():
    x, share = normal(3), torch.tensor([0.0, 0.5, 1.0]).double()
    low = step_variance(SCHEDULE, Prediction(x, x), 1, 2, "small")
    for t in (1, 5, T):
        learned = step_variance(SCHEDULE, Prediction(x, x, between=share), 0, t, "learned")
        large = 1 - SCHEDULE.alpha_bar[t]
        close(learned, torch.stack([low, (low * large).sqrt(), large]))
        assert low < large


def test_an_ancestral_step_is_the_posterior_s_mean_and_its_noise_has_the_variance_asked_for():
    x, noise = normal(4, 2), normal(4, 2, name="noise")
    found = predict(SCHEDULE, "eps", normal(4, 2, name="eps"), x, 40)
    found = found._replace(x0_variance=torch.tensor(0.4).double(), between=noise.sigmoid())
    mean = ancestral_step(SCHEDULE, x, found, 20, 40)
    close(mean, posterior(SCHEDULE, found.x0, x, 20, 40)[0])
    for kind in ("small", "large", "optimal", "learned"):
        added = ancestral_step(SCHEDULE, x, found, 20, 40, kind, noise) - mean
        close(added.square(), step_variance(SCHEDULE, found, 20, 40, kind) * noise.square())


def test_a_step_that_cannot_be_taken_is_refused_with_its_remedy():
    x = normal(2, 3)
    found = Prediction(x, x)
    with pytest.raises(ValueError, match=r"eta=0.5 draws noise; give it"):
        ddim_step(SCHEDULE, x, found, 3, 9, 0.5)
    for s, t in ((9, 3), (3, 3), (torch.tensor([2, 9]), torch.tensor([5, 5]))):
        with pytest.raises(ValueError, match=r"needs steps down, s < t; encode with eta = 0"):
            ddim_step(SCHEDULE, x, found, s, t, 0.5, x)
    with pytest.raises(ValueError, match=r"'optimal' needs Var.*estimate_x0_variance"):
        step_variance(SCHEDULE, found, 3, 9, "optimal")
    with pytest.raises(ValueError, match=r"'learned' needs a network that learned one"):
        step_variance(SCHEDULE, found, 3, 9, "learned")
    for t in (0, torch.tensor([4, 0])):
        with pytest.raises(ValueError, match=r"score at level 0.*take t from 1 up"):
            score(SCHEDULE, x, t)


def test_the_largest_eta_leaves_no_eps_and_a_larger_one_is_refused():
    x, eps, noise = normal(2, 3), normal(2, 3, name="eps"), normal(2, 3, name="noise")
    left, before = SCHEDULE.alpha_bar[9], SCHEDULE.alpha_bar[3]
    largest = float(((1 - left) / (1 - left / before)).sqrt())
    step = ddim_step(SCHEDULE, x, Prediction(x, eps), 3, 9, largest, noise)
    # what is kept of ε is the root of a rounding error, 1e-8
    close(step, before.sqrt() * x + (1 - before).sqrt() * noise, atol=1e-7)
    with pytest.raises(ValueError, match=rf"eta={largest * 1.001}.* level 3 .*smaller eta"):
        ddim_step(SCHEDULE, x, Prediction(x, eps), 3, 9, largest * 1.001, noise)


def test_with_the_largest_eta_no_pair_of_levels_gives_nan():
    """For a third of the pairs 1 − ᾱ_s − σ² is rounded to less than 0, which has no root."""
    x, eps, noise = normal(2, 3), normal(2, 3, name="eps"), normal(2, 3, name="noise")
    for s, t in zip(*(levels.tolist() for levels in pairs(40, first=1)), strict=True):
        left, before = SCHEDULE.alpha_bar[t], SCHEDULE.alpha_bar[s]
        largest = float(((1 - left) / (1 - left / before)).sqrt())
        step = ddim_step(SCHEDULE, x, Prediction(x, eps), s, t, largest, noise)
        close(step, before.sqrt() * x + (1 - before).sqrt() * noise, atol=1e-7)  # as above


def test_single_precision_examples_get_coefficients_of_double_precision():
    schedule = linear(1000)
    single = 1 - (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    assert abs(single[0] / 1e-4 - 1) > 1e-4  # what this guards against
    x, noise = normal(50), normal(50, name="noise")
    zero, s, t = torch.zeros(50).double(), 1, 2

    def results(kind):
        a, b, none = x.to(kind), noise.to(kind), zero.to(kind)
        found = Prediction(none, none, x0_variance=torch.tensor(0.5, dtype=kind), between=b * 0)
        return [
            *amplitudes(schedule, 1, a),
            diffuse(schedule, none, 1, b),  # without signal the noise's coefficient is the result
            velocity(schedule, a, none, 1),
            score(schedule, b, 1),
            predict(schedule, "v", b, none, 1).x0,
            predict(schedule, "eps", b, none, 1).x0,
            predict(schedule, "x0", none, b, 1).eps,
            *posterior(schedule, a, none, s, t),
            posterior(schedule, none, b, s, t)[0],
            ddim_step(schedule, a, Prediction(none, b), 1, 2),
            ddim_step(schedule, a, found, 1, 2, 1.0, b),
            *(step_variance(schedule, found, s, t, v) for v in ("small", "large", "optimal")),
            step_variance(schedule, found, s, t, "learned"),
        ]

    for low, high in zip(results(torch.float32), results(torch.float64), strict=True):
        assert low.dtype == torch.float32 and high.dtype == torch.float64
        # three roundings of 6e-8, and of a logarithm of size 10, six more
        torch.testing.assert_close(low.double(), high, rtol=1e-6, atol=0)
