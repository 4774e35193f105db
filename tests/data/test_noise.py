"""The numbers of a denoiser's training step."""

import torch

from udl_lab.data.noise import Noise, drawn
from udl_lab.diffusion.objectives import level_at
from udl_lab.randomness import generator


def test_what_is_drawn_comes_apart_as_it_was_put_together():
    x = torch.zeros(5, 2, 3)
    parameters = Noise((2, 3)).draw(5, generator(0, "n"))
    level, keep, eps = drawn(parameters, x)
    assert eps.shape == x.shape
    assert torch.equal(torch.cat([level[:, None], keep[:, None], eps.flatten(1)], 1), parameters)


def test_levels_are_spread_over_the_batch_and_stay_below_one():
    level = drawn(Noise((1,)).draw(1000, generator(0, "n")), torch.zeros(1000, 1)).level
    counts = torch.bincount(level_at(level, 1000), minlength=1001)
    assert torch.equal(counts[1:], torch.ones(1000).long())  # one in each of a thousand pieces
    assert level.max() < 1


def test_noise_is_standard_normal():
    eps = drawn(Noise((100,)).draw(2000, generator(0, "n")), torch.zeros(2000, 100)).eps.double()
    # Standard errors of the mean and the variance of 200,000 draws: .0022 and .0032; four of each.
    assert abs(eps.mean()) < 0.009
    assert abs(eps.var() - 1) < 0.013


def test_the_examples_stay_as_they_are():
    x = torch.randn(4, 3, generator=generator(0, "x"))
    noise = Noise((3,))
    assert noise(x, noise.draw(4, generator(0, "n")), 0.0) is x
