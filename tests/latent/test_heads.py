"""What decoders' outputs mean, against torch's distributions and brute force."""

import inspect
import math

import pytest
import torch
from torch import distributions as D

from udl_lab.latent.heads import Bernoulli, DiscretisedLogistic, Gaussian, head_named
from udl_lab.randomness import generator

LEVELS = torch.arange(256, dtype=torch.float64) / 255


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "heads", stream), dtype=torch.float64)


def bits(*shape):
    return (draw(*shape, stream="bits") > 0).double()


def every_level(location, log_scale):
    """The log-probability of each of the 256 levels for one pixel, as one batch of 256 examples."""
    outputs = torch.tensor([location, log_scale], dtype=torch.float64).expand(1, 256, 2)
    return DiscretisedLogistic().log_prob(LEVELS.reshape(256, 1), outputs)[0]


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_bernoulli_is_torchs_for_k_latents_of_each_example(shape):
    x, logits = bits(4, *shape), 3 * draw(5, 4, 6, stream="logits")
    expected = D.Bernoulli(logits=logits).log_prob(x.reshape(4, 6).expand(5, 4, 6)).sum(-1)
    torch.testing.assert_close(Bernoulli().log_prob(x, logits), expected, rtol=1e-12, atol=1e-12)


def test_bernoulli_has_probabilities_that_sum_to_one_over_all_images():
    x = torch.tensor([[i >> b & 1 for b in range(4)] for i in range(16)]).double()
    logits = draw(4, stream="logits").expand(1, 16, 4)
    total = Bernoulli().log_prob(x, logits).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-13, atol=0)


def test_bernoulli_is_exact_for_certain_pixels():
    """The law: log σ(l) is −log(1 + e^(−l)): −e^(−l) for large l, and −l on the wrong side."""
    logits = torch.tensor([[[25.0]], [[-800.0]]], dtype=torch.float64)
    found = Bernoulli().log_prob(torch.ones(1, 1).double(), logits).flatten()
    # The difference 25 − 25.00…01 keeps an absolute error of one rounding of 25.
    torch.testing.assert_close(found[0].item(), -math.exp(-25), rtol=0, atol=4e-15)
    assert found[1] == -800


@pytest.mark.parametrize(
    ("soft", "value", "message"),
    [
        (False, 0.5, "x = 0.5; binarise .* soft_targets=True"),
        (False, 255.0, "x = 255; scale"),
        (True, 1.5, "x = 1.5; scale"),
        (True, math.nan, "x = nan; scale"),
    ],
)
def test_a_bernoulli_head_refuses_grey_pixels_and_says_what_to_do(soft, value, message):
    x = torch.zeros(3, 2, 2)
    x[1, 0, 1] = value
    head = Bernoulli(soft_targets=soft)
    with pytest.raises(ValueError, match=message):
        head.check(x)
    with pytest.raises(ValueError, match=message):
        head.log_prob(x, torch.zeros(1, 3, 4))


def test_soft_targets_are_the_mixture_of_both_cross_entropies():
    logits = draw(1, 3, 4, stream="logits")
    soft, ones, zeros = torch.full((3, 4), 0.3).double(), torch.ones(3, 4), torch.zeros(3, 4)
    expected = 0.3 * Bernoulli().log_prob(ones.double(), logits)
    expected += 0.7 * Bernoulli().log_prob(zeros.double(), logits)
    torch.testing.assert_close(Bernoulli(soft_targets=True).log_prob(soft, logits), expected)


@pytest.mark.parametrize("learned", [True, False])
def test_gaussian_is_torchs_with_one_standard_deviation(learned):
    head = Gaussian(-0.7, learned).double()
    x, means = draw(4, 2, 3, stream="x"), draw(5, 4, 6, stream="means")
    expected = D.Normal(means, head.log_std.exp()).log_prob(x.reshape(4, 6)).sum(-1)
    torch.testing.assert_close(head.log_prob(x, means), expected, rtol=1e-12, atol=1e-12)
    assert len(list(head.parameters())) == learned
    assert list(head.state_dict()) == ["log_std"]


def test_a_gaussian_head_refuses_what_is_not_a_number():
    with pytest.raises(ValueError, match="NaN"):
        Gaussian().check(torch.tensor([[math.nan]]))


@pytest.mark.parametrize("location", [-0.3, 0.0, 0.5, 0.998, 1.7])
@pytest.mark.parametrize("log_scale", [-11.0, -6.0, -2.0, 0.0, 3.0])
def test_the_256_levels_of_a_discretised_logistic_sum_to_one(location, log_scale):
    total = every_level(location, log_scale).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_each_level_has_the_logistic_probability_of_its_bin():
    location, scale = 0.4, 0.1
    ends = (torch.arange(257, dtype=torch.float64) - 0.5) / 255
    cdf = ((ends - location) / scale).sigmoid()
    cdf[0], cdf[-1] = 0, 1
    found = every_level(location, math.log(scale)).exp()
    torch.testing.assert_close(found, cdf.diff(), rtol=1e-10, atol=0)


def test_a_far_level_costs_what_it_must():
    """In the tail log P = −a + log(1 − e^(−δ)) but for e^(−a): 1270 nats here, with no floor."""
    scale = 0.5 / 1000
    found = every_level(0.0, math.log(scale))
    a, delta = (128 - 0.5) / 255 / scale, 1 / 255 / scale
    assert found[128].item() == pytest.approx(-a + math.log1p(-math.exp(-delta)), rel=1e-12)
    assert found[255].item() == pytest.approx(-254.5 / 255 / scale, rel=1e-12)


@pytest.mark.parametrize("log_scale", [-90.0, -5.0, 40.0])
def test_the_gradients_of_a_discretised_logistic_are_finite_everywhere(log_scale):
    outputs = torch.tensor([-3.0, log_scale]).repeat(1, 256, 1).requires_grad_()
    DiscretisedLogistic().log_prob(LEVELS.float().reshape(256, 1), outputs).sum().backward()
    assert outputs.grad.isfinite().all()


def test_a_discretised_logistic_refuses_what_is_no_level():
    head = DiscretisedLogistic()
    head.check(LEVELS.float().reshape(256, 1))
    for value in [0.5, 2.0, -1 / 255, math.nan]:
        with pytest.raises(ValueError, match="none of the 256 grey levels"):
            head.check(torch.tensor([[0.0, value]]))


def test_the_outputs_of_a_discretised_logistic_are_locations_first():
    x = torch.tensor([[0.2, 0.8]], dtype=torch.float64)
    outputs = torch.tensor([[[0.2, 0.8, -3.0, -4.0]]], dtype=torch.float64)
    expected = every_level(0.2, -3.0)[51] + every_level(0.8, -4.0)[204]
    torch.testing.assert_close(DiscretisedLogistic().log_prob(x, outputs)[0, 0], expected)


@pytest.mark.parametrize("location", [-0.2, 0.3, 0.99])
def test_the_mean_of_a_discretised_logistic_is_that_of_its_levels(location):
    log_scale = -1.5
    outputs = torch.tensor([[location, log_scale]], dtype=torch.float64)
    expected = (every_level(location, log_scale).exp() * LEVELS).sum()
    torch.testing.assert_close(DiscretisedLogistic().mean(outputs)[0, 0], expected)


@pytest.mark.parametrize("head", [Bernoulli(), Gaussian(-1.0), DiscretisedLogistic()])
def test_samples_are_valid_data_whose_mean_is_the_heads(head):
    n = 20_000
    outputs = draw(1, 3 * head.n_outputs, stream="outputs").expand(n, -1)
    x = head.sample(outputs, generator(0, "sample"))
    assert x.shape == (n, 3)
    head.check(x)
    error = (x.mean(0) - head.mean(outputs)[0]).abs()
    assert (error < 4 * x.std(0) / n**0.5).all()


@pytest.mark.parametrize("head", [Bernoulli(), Gaussian(), DiscretisedLogistic()])
def test_a_head_gives_the_outputs_at_a_mean(head):
    mean = torch.tensor([[0.25, 0.5], [0.6, 0.4]], dtype=torch.float64)
    outputs = head.outputs_at(mean)
    assert outputs.shape == (4 * head.n_outputs,)
    # A logistic's tails beyond black and white move its mean by a little.
    torch.testing.assert_close(head.mean(outputs), mean.flatten(), rtol=0, atol=0.02)


def test_black_pixels_start_at_a_thousandth_as_in_the_published_code():
    outputs = Bernoulli().outputs_at(torch.tensor([0.0, 1.0], dtype=torch.float64))
    expected = torch.tensor([0.001, 0.999], dtype=torch.float64)
    torch.testing.assert_close(outputs.sigmoid(), expected)


def test_a_mistyped_head_is_an_error_with_the_nearest_name():
    unchecked = inspect.unwrap(head_named)  # as users call it, without the tests' type checker
    with pytest.raises(ValueError, match=r"no head 'bernouli'; did you mean 'bernoulli'"):
        unchecked("bernouli")
