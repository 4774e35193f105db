"""Signal and noise of a gradient: known where the estimator is a known variable."""

import pytest
import torch

from udl_lab.data.source import Examples
from udl_lab.latent.mlp_vae import MLPVAE
from udl_lab.probes.gradient_noise import GradientNoise, _ratio
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded


def test_the_ratio_of_normal_gradients_is_that_of_mean_and_deviation():
    """A thousand parameters of mean .3 and deviation 2, and a hundred of mean 0."""
    n, mean, std = 50, 0.3, 2.0
    draws = torch.randn(n, 1100, generator=generator(0, "gradients"), dtype=torch.float64) * std
    draws[:, :1000] += mean
    found = _ratio([draws.sum(0)], [draws.square().sum(0)], n)
    wanted = (1000 * mean**2 / (1100 * std**2)) ** 0.5
    # The signal's square is known to 2 std² √(1100) / n of 90, that is 6 %.
    assert found == pytest.approx(wanted, rel=0.1)


def test_noise_alone_has_next_to_no_signal():
    draws = torch.randn(50, 1000, generator=generator(0, "noise"), dtype=torch.float64)
    assert _ratio([draws.sum(0)], [draws.square().sum(0)], 50) < 0.05


def test_there_is_a_row_for_each_part_estimator_and_number_of_samples():
    with seeded(0, "net"):
        net = MLPVAE((1, 4, 4), 2, (8,))
    x = (torch.rand(30, 1, 4, 4, generator=generator(0, "x")) < 0.5).float()
    subject = Subject(net, net, Examples(x, torch.zeros(30, dtype=torch.int64)), 0.0)
    found = {r.key: r.estimate for r in GradientNoise(ks=[1, 4], n=5, repeats=20)(subject)}
    assert list(found) == [
        f"/snr/{part}@{name}_k{k}"
        for name in ("iwae", "dreg")
        for k in (1, 4)
        for part in ("encoder", "decoder")
    ]
    again = {r.key: r.estimate for r in GradientNoise(ks=[1, 4], n=5, repeats=20)(subject)}
    assert found == again and all(value > 0 for value in found.values())
    assert all(p.grad is None for p in net.parameters())


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="there is no estimator 'reinforce'"):
        GradientNoise(estimators=["reinforce"])
    with pytest.raises(ValueError, match="have no spread"):
        GradientNoise(repeats=1)


def test_the_variance_of_two_gradients_is_without_bias():
    """1 and 3: mean 2 and variance 2, whose half is noise in the square of the mean."""
    assert _ratio([torch.tensor([4.0])], [torch.tensor([10.0])], 2) == pytest.approx((3 / 2) ** 0.5)


def test_the_ratio_does_not_depend_on_the_global_generator():
    with seeded(0, "net"):
        net = MLPVAE((1, 4, 4), 2, (8,))
    x = (torch.rand(5, 1, 4, 4, generator=generator(0, "x")) < 0.5).float()
    subject = Subject(net, net, Examples(x, torch.zeros(5, dtype=torch.int64)), 0.0)
    found = []
    for seed in (0, 1):
        with seeded(seed, "elsewhere"):
            before = torch.get_rng_state()
            found.append([r.estimate for r in GradientNoise(ks=[2], n=5, repeats=3)(subject)])
            assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
