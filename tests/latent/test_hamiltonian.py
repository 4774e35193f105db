"""Leapfrog's two properties, and the law that Metropolis' rule keeps."""

import math

import pytest
import torch

from udl_lab.latent.hamiltonian import leapfrog, transition, value_and_slope
from udl_lab.randomness import generator


def normal(*shape, stream):
    return torch.randn(shape, generator=generator(0, "hmc", stream), dtype=torch.float64)


def banana(z):
    """Not normal, and another for each example."""
    bend = torch.tensor([0.0, 0.5, 1.0]).double()
    return -0.5 * z[..., 0].square() - 2 * (z[..., 1] - bend * z[..., 0].square()).square()


def steps(value, n=3):
    return torch.full((n,), value).double()


def test_the_slope_is_the_derivative():
    z = normal(4, 3, 2, stream="z")
    value, slope = value_and_slope(banana, z)
    moved = z.clone()
    moved[..., 1] += 1e-6
    torch.testing.assert_close(slope[..., 1], (banana(moved) - value) / 1e-6, rtol=0, atol=1e-4)
    assert not (value.requires_grad or slope.requires_grad)


def test_leapfrog_is_reversed_by_reversing_the_momentum():
    z, p = normal(5, 3, 2, stream="z"), normal(5, 3, 2, stream="p")
    end, arrived, before, after = leapfrog(banana, z, p, steps(0.05), 20)
    back, returned, _, _ = leapfrog(banana, end, -arrived, steps(0.05), 20)
    assert (end - z).abs().max() > 0.3
    torch.testing.assert_close(back, z, rtol=0, atol=1e-10)
    torch.testing.assert_close(-returned, p, rtol=0, atol=1e-10)
    torch.testing.assert_close(before, banana(z))
    torch.testing.assert_close(after, banana(end))


def test_leapfrog_keeps_volume():
    z, p = normal(1, 3, 2, stream="z"), normal(1, 3, 2, stream="p")

    def flow(both):
        # By hand, as the lab's leapfrog takes derivatives inside and gives none.
        z, p = both[:2].reshape(1, 1, 2), both[2:].reshape(1, 1, 2)
        end, arrived, _, _ = leapfrog(
            lambda z: banana(z.expand(1, 3, 2))[:, :1], z, p, steps(0.3, 1), 3
        )
        return torch.cat([end.flatten(), arrived.flatten()])

    start = torch.cat([z[0, 0], p[0, 0]])
    columns = [
        (flow(start + 1e-5 * unit) - flow(start - 1e-5 * unit)) / 2e-5
        for unit in torch.eye(4).double()
    ]
    assert float(torch.stack(columns).det()) == pytest.approx(1, abs=1e-7)


def test_energy_is_kept_to_the_second_order_of_the_step():
    z, p = normal(5, 3, 2, stream="z"), normal(5, 3, 2, stream="p")

    def error(step, n):
        _, arrived, before, after = leapfrog(banana, z, p, steps(step), n)
        return (after - before + 0.5 * (p**2 - arrived**2).sum(-1)).abs().max()

    assert float(error(0.02, 25) / error(0.01, 50)) == pytest.approx(4, rel=0.1)


def test_the_moves_keep_their_target():
    """From exact samples, after long steps of which many are refused: the moments still hold."""
    n = 20_000
    start = normal(n, 3, 2, stream="start")
    bend = torch.tensor([0.0, 0.5, 1.0]).double()
    z = torch.stack([start[..., 0], bend * start[..., 0] ** 2 + 0.5 * start[..., 1]], -1)
    rng = generator(0, "moves")
    for _ in range(3):
        z, accepted = transition(banana, z, steps(0.5), 3, rng)
        assert 0.3 < accepted.mean() < 0.95
    first, second = z[..., 0], z[..., 1] - bend * z[..., 0].square()
    for value, variance in ((first, 1.0), (second, 0.25)):
        assert (value.mean(0).abs() < 5 * math.sqrt(variance / n)).all()
        spread = variance * math.sqrt(2 / n)
        assert ((value.var(0) - variance).abs() < 5 * spread).all()
        fourth = value.pow(4).mean(0)  # its own variance is 96 variance^4
        assert ((fourth - 3 * variance**2).abs() < 5 * math.sqrt(96 / n) * variance**2).all()


def test_the_moves_reach_their_target_from_elsewhere():
    z = 2 + torch.zeros(2000, 3, 2).double()
    rng = generator(0, "far")
    for _ in range(60):
        z, _ = transition(banana, z, steps(0.12), 12, rng)
    assert (z[..., 0].mean(0).abs() < 5 / math.sqrt(2000)).all()
    assert ((z[..., 0].var(0) - 1).abs() < 5 * math.sqrt(2 / 2000)).all()


def test_a_step_that_diverges_is_refused():
    z = normal(10, 3, 2, stream="z")
    after, accepted = transition(banana, z, steps(100.0), 20, generator(0))
    assert torch.equal(after, z)
    assert accepted.max() == 0
