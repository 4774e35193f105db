"""The measurement on networks whose numbers are known, and the original's test beside it."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.data.digit_sums import digit_sets
from udl_lab.data.source import Examples
from udl_lab.nets.deepsets import DeepSets
from udl_lab.probes.set_sums import (
    SetSums,
    affine_residual,
    permuted,
    relative_error,
    sum_probabilities,
)
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded


class Adder(nn.Module):
    """Adds, then errs by so much for each element."""

    def __init__(self, off=0.0):
        super().__init__()
        self.off = off

    def forward(self, x):
        return (x + self.off * (x > 0)).sum(1, keepdim=True)


class Weighted(nn.Module):
    """Adds with the weight 2 for the first element."""

    def forward(self, x):
        return x.sum(1, keepdim=True) + x[:, :1]


def measured(net, **settings):
    settings = {"lengths": [3, 20], "n_sets": 60, "n_permuted": 30, **settings}
    x = digit_sets(40, 5, generator(0, "examples"))
    subject = Subject(net, net, Examples(x, x.sum(1).long()), 0.0)
    return {row.key.removeprefix("/"): row for row in SetSums(**settings)(subject)}


def test_a_network_that_adds_is_right_and_exactly_invariant():
    rows = measured(Adder())
    for where in ("", "@length3", "@length20"):
        assert rows[f"accuracy{where}"].estimate == 1
        assert rows[f"mae{where}"].estimate == 0
    assert rows["permutation_error@length20"].estimate == 0
    assert rows["accuracy"].n == 40 and rows["accuracy@length3"].n == 60


def test_a_small_error_a_digit_is_a_large_one_in_a_long_set():
    """.04 for each of 3 rounds away, for each of 20 it does not."""
    rows = measured(Adder(0.04))
    assert rows["accuracy@length3"].estimate == 1
    assert rows["accuracy@length20"].estimate == 0
    assert rows["mae@length3"].estimate == pytest.approx(0.12, abs=1e-5)  # float32 sums to 180
    assert rows["mae@length20"].estimate == pytest.approx(0.8, abs=1e-4)


def test_the_permutation_error_is_the_largest_change_over_the_largest_output():
    """With each set permuted often, the extremes of 30 sets of 3 digits are met by hand."""
    rows = measured(Weighted(), n_permutations=60)
    x = digit_sets(60, 3, generator(0, "set sums", 3))[:30].double()
    largest = (x.sum(1) + x[:, 0]).max()
    # The output changes with the first element alone.
    change = torch.maximum(x.amax(1) - x[:, 0], x[:, 0] - x.amin(1)).max()
    error = rows["permutation_error@length3"].estimate
    assert error == pytest.approx(float(change / largest), abs=1e-15)


def net_with_layers():
    with seeded(0, "net"):
        return DeepSets([9], 1, equivariant=[6, 5])


def test_equivariant_blocks_are_equivariant_to_rounding_and_others_are_not():
    net = net_with_layers()
    blocks = ["equivariant.0", "equivariant.1", "phi.0"]
    rows = measured(net, blocks=blocks)
    for block in blocks:
        assert rows[f"equivariance_error/{block}@length20"].estimate < 1e-14
        assert 1e-3 < rows[f"affine_residual/{block}@length20"].estimate < 1
    assert rows["permutation_error@length20"].estimate < 1e-14

    class Positional(nn.Module):
        def forward(self, h):
            return torch.tanh(h) * torch.linspace(1, 1.5, h.shape[1])[:, None]

    net.equivariant[0].activation = Positional()
    rows = measured(net, blocks=blocks)
    for block in blocks:
        assert rows[f"equivariance_error/{block}@length20"].estimate > 1e-3
    assert rows["permutation_error@length20"].estimate > 1e-6


def test_the_share_in_the_curved_range_counts_pre_activations():
    net = net_with_layers()
    recorded = []
    net.phi[0].linear.register_forward_hook(lambda m, i, o: recorded.append(o))
    row = measured(net, blocks=["phi.0"])["share_in_curved_range/phi.0@length3"]
    z = next(z for z in recorded if z.dtype == torch.float64).flatten().tolist()
    assert row.estimate == sum(abs(value) <= 2 for value in z) / len(z)


def test_measuring_changes_neither_network_nor_results():
    net = net_with_layers().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rows = measured(net, blocks=["phi.0"])
    assert rows == measured(net, blocks=["phi.0"])
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_probabilities_of_sums_are_those_of_counting():
    for length in (1, 2, 4):
        counts = torch.bincount(
            torch.tensor([sum(digits) for digits in product(range(1, 10), repeat=length)])
        )
        expected = counts.double() / 9**length
        torch.testing.assert_close(sum_probabilities(length), expected, rtol=0, atol=1e-15)


def test_the_likeliest_of_sums_of_100_is_near_the_normal_density():
    """Variance 100 · 20/3; the next term of the Edgeworth series is of order 1/100."""
    found = float(sum_probabilities(100).max())
    assert found == pytest.approx((2 * np.pi * 100 * 20 / 3) ** -0.5, rel=0.01)
    assert found == pytest.approx(0.0154272, abs=1e-7)  # the claims quote it
    rows = measured(Adder(), lengths=[100])
    assert rows["accuracy_of_commonest_sum@length100"].estimate == found


def test_the_affine_residual_is_one_minus_the_squared_correlation_in_each_channel():
    z = torch.randn(500, 2, 3, dtype=torch.float64, generator=generator(0, "z"))
    h = torch.relu(z) * torch.tensor([1.0, -2, 0.5])
    unexplained, total = 0.0, 0.0
    for c in range(3):
        a, b = z[..., c].flatten().numpy(), h[..., c].flatten().numpy()
        unexplained += (1 - np.corrcoef(a, b)[0, 1] ** 2) * b.var()
        total += b.var()
    assert affine_residual(z, h) == pytest.approx(unexplained / total, rel=1e-12)


def test_affine_functions_and_constants_leave_no_residual():
    z = torch.randn(50, 3, dtype=torch.float64, generator=generator(0, "z"))
    assert affine_residual(z, 3 * z + 5) < 1e-28
    assert affine_residual(z, torch.ones_like(z)) == 0
    assert affine_residual(torch.ones_like(z), z) == pytest.approx(1)


def test_the_residual_of_tanh_on_minus_1_to_1_is_the_claims_bound():
    """In closed form: with slope b = cov / var z, the residual is 1 − 3 E[z tanh z]² / E[tanh² z].

    E[tanh² z] = 1 − tanh 1; E[z tanh z] by quadrature on other nodes.
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    moment = float((weights * nodes * np.tanh(nodes)).sum() / 2)
    closed = 1 - 3 * moment**2 / (1 - np.tanh(1))
    z = torch.linspace(-1, 1, 100_001, dtype=torch.float64).unsqueeze(1)
    assert affine_residual(z, z.tanh()) == pytest.approx(closed, rel=1e-3)
    assert closed == pytest.approx(0.00497, abs=5e-6)  # the claims quote it


# Lab 07: Mish(x (λI + γ11ᵀ)) on x ~ U(0, 1)^200 with λ = .25 and γ = .4, sorted outputs compared.


def lab07_inputs():
    x = torch.rand(1, 200, 1, dtype=torch.float64, generator=generator(0, "lab 07"))
    return x, torch.rand(1, 200, generator=generator(0, "order")).argsort(1)


def theta(x):
    return 0.25 * x + 0.4 * x.sum(1, keepdim=True)


def mish(z):
    return z * torch.tanh(nn.functional.softplus(z, threshold=100))


def bent_by_place(z):
    """No pointwise function: every place bends below 20 in its own way, and is Mish above."""
    low = torch.linspace(0, 1, z.shape[1], dtype=torch.float64)[:, None]
    return torch.where(z > 20, mish(z), low * z)


def sorted_test_passes(function, x, order):
    """The original's: the same values in any order (with a tolerance for the order of sums)."""
    before, after = function(x), function(permuted(x, order))
    return torch.allclose(before.sort(1).values, after.sort(1).values, rtol=0, atol=1e-9)


def aligned_error(function, x, order):
    return relative_error(function(permuted(x, order)), permuted(function(x), order))


def test_the_originals_layer_is_equivariant_and_its_sorted_test_refuses_a_generic_matrix():
    x, order = lab07_inputs()
    generic = torch.randn(200, 200, dtype=torch.float64, generator=generator(0, "generic"))
    assert sorted_test_passes(lambda x: mish(theta(x)), x, order)
    assert aligned_error(lambda x: mish(theta(x)), x, order) < 1e-13
    assert not sorted_test_passes(lambda x: mish(generic @ x), x, order)


def test_the_originals_sorted_test_passes_a_map_that_sorts_and_an_aligned_one_does_not():
    x, order = lab07_inputs()

    def sorts(x):
        return mish(theta(x)).sort(1).values

    assert sorted_test_passes(sorts, x, order)
    assert aligned_error(sorts, 100 * (x - x.mean()), order) > 0.1


def test_on_the_originals_inputs_mish_is_the_identity_so_any_nonlinearity_passes():
    x, order = lab07_inputs()
    z = theta(x)
    assert z.min() > 35 and z.max() - z.min() < 0.25  # 200 / 2 · .4 = 40 on average
    assert torch.equal(mish(z), z)
    assert affine_residual(z, mish(z)) < 1e-28
    # So even aligned outputs say nothing of the nonlinearity: this one is not equivariant.
    assert sorted_test_passes(lambda x: bent_by_place(theta(x)), x, order)
    assert aligned_error(lambda x: bent_by_place(theta(x)), x, order) < 1e-13


def test_where_the_nonlinearity_acts_the_aligned_test_tells_them_apart():
    x, order = lab07_inputs()
    x = 8 * (x - x.mean())  # pre-activations of ±1, since they sum to 0
    z = theta(x)
    assert (z.abs() <= 2).all()
    assert affine_residual(z, mish(z)) > 0.01
    assert aligned_error(lambda x: mish(theta(x)), x, order) < 1e-13
    assert aligned_error(lambda x: bent_by_place(theta(x)), x, order) > 0.1
