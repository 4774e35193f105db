"""Draws of known laws as a data set."""

import pytest
import torch

from udl_lab.data.law_samples import law_samples
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.schedule import angle_uniform


@pytest.mark.parametrize("law", ["book", "three_modes", "ring", "spiral"])
def test_draws_have_the_moments_of_the_law(law):
    mixture = make_law(law, angle_uniform(1))
    x = law_samples("", law, 50_000, 10).train.x.double()
    weights, means = mixture.weights[:, None], mixture.means
    mean = (weights * means).sum(0)
    second = (weights * (means.square() + mixture.variances[:, None])).sum(0)
    spread = (second - mean.square()).sqrt()
    # Five standard errors of a mean; of a second moment, whose fourth is under 9 squares.
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=5 * float(spread.max()) / 50_000**0.5)
    assert ((x.square().mean(0) - second).abs() < 5 * 3 * second / 50_000**0.5).all()


def test_training_and_test_draws_differ_and_every_call_gives_the_same():
    first, again = law_samples("", "ring", 100, 100), law_samples("", "ring", 100, 100)
    assert torch.equal(first.train.x, again.train.x)
    assert not torch.equal(first.train.x, first.test.x)


def test_labels_name_the_nearest_mode():
    source = law_samples("", "ring", 1000, 10)
    means = make_law("ring", angle_uniform(1)).means.float()
    apart = torch.cdist(source.train.x, means)
    assert torch.equal(source.train.y, apart.argmin(1))
    # A mode's deviation is .1 and its neighbour more than 1 away: all eight turn up.
    assert source.train.y.bincount(minlength=8).min() > 80
