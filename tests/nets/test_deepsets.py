"""Deep Sets against sums by hand, and equivariant layers against permutation matrices."""

import inspect
from itertools import permutations

import pytest
import torch

from udl_lab.nets.deepsets import DeepSets, EquivariantBlock, EquivariantLayer, digits_of, pool
from udl_lab.randomness import generator, seeded

EVERY_POOLING = pytest.mark.parametrize("pooling", ["sum", "mean", "max"])


def whole_numbers(*shape, name="x"):
    """Whole numbers in float64, whose sums and products are exact in any order."""
    return torch.randint(-9, 10, shape, generator=generator(0, name)).double()


def layer(n_in, n_out, pooling, whole=True):
    with seeded(0, "layer"):
        made = EquivariantLayer(n_in, n_out, pooling).double()
    for name, weight in made.named_parameters():
        if whole:
            weight.data = whole_numbers(*weight.shape, name=name)
    return made


def all_present(x):
    return torch.ones(x.shape[:2], dtype=torch.bool)


def matrix_of(function, n):
    """The matrix of a linear map of n elements with one channel, column by column."""
    columns = torch.eye(n, dtype=torch.float64).unsqueeze(2)
    return function(columns, all_present(columns)).detach().squeeze(2).T


def test_with_one_channel_and_the_sum_it_is_lambda_identity_plus_gamma_ones():
    made = layer(1, 1, "sum")
    made.own.bias.data.zero_()
    λ, γ = made.own.weight.item(), made.pooled.weight.item()
    expected = λ * torch.eye(5, dtype=torch.float64) + γ * torch.ones(5, 5, dtype=torch.float64)
    assert torch.equal(matrix_of(made, 5), expected)


def test_those_are_all_the_linear_maps_that_commute_with_every_permutation():
    """The commutant of S_4 by brute force: its dimension is 2, that of λ and γ."""
    eye = torch.eye(4, dtype=torch.float64)
    swapped = [eye[list(p)] for p in permutations(range(4))]
    conditions = torch.cat(
        [torch.kron(p, eye) - torch.kron(eye, p.T.contiguous()) for p in swapped]
    )
    assert 16 - torch.linalg.matrix_rank(conditions).item() == 2
    made = layer(1, 1, "sum")
    made.own.bias.data.zero_()
    assert not (conditions @ matrix_of(made, 4).flatten()).any()
    generic = whole_numbers(16, name="generic")
    assert (conditions @ generic).any()


@EVERY_POOLING
def test_a_layer_commutes_with_permutations_bit_for_bit_on_whole_numbers(pooling):
    made = layer(3, 4, pooling)
    # Eight elements, so that the mean of whole numbers is exact too.
    x = whole_numbers(2, 8, 3)
    order = torch.randperm(8, generator=generator(0, "order"))
    assert not torch.equal(x[:, order], x)
    assert torch.equal(made(x[:, order], all_present(x)), made(x, all_present(x))[:, order])


@EVERY_POOLING
def test_a_layer_is_two_matrix_products_and_a_bias(pooling):
    made = layer(3, 4, pooling, whole=False)
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator(0, "x"))
    by_hand = torch.empty(2, 5, 4, dtype=torch.float64)
    for b in range(2):
        total = sum(x[b, e] for e in range(5))
        largest = torch.stack([max(x[b, :, c]) for c in range(3)])
        told = {"sum": total, "mean": total / 5, "max": largest}[pooling]
        for e in range(5):
            by_hand[b, e] = made.own.weight @ x[b, e] + made.pooled.weight @ told + made.own.bias
    torch.testing.assert_close(made(x, all_present(x)), by_hand.detach(), rtol=0, atol=1e-14)


@EVERY_POOLING
def test_absent_elements_have_no_effect_on_those_present(pooling):
    block = EquivariantBlock(3, 4, pooling, "tanh").double()
    x = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator(0, "x"))
    present = torch.tensor([[True, False, True, True, False, False], [True] * 6])
    alone = block(x[:1, [0, 2, 3]], present[:1, [0, 2, 3]])
    x[0, [1, 4, 5]] = 1e6
    # Zeros take part in the sums, so they may be added in another order.
    torch.testing.assert_close(block(x, present)[:1, [0, 2, 3]], alone, rtol=1e-14, atol=1e-14)


@EVERY_POOLING
def test_a_set_without_elements_pools_to_0(pooling):
    x = whole_numbers(2, 3, 4)
    present = torch.tensor([[False] * 3, [True] * 3])
    assert not pool(x, present, pooling)[0].any()
    assert pool(x, present, pooling)[1].any()
    assert not pool(x[:, :0], present[:, :0], "sum").any()


def test_means_and_maxima_do_not_grow_with_the_set_and_sums_do():
    x = whole_numbers(1, 4, 3).repeat(1, 8, 1)
    for pooling, factor in (("sum", 8), ("mean", 1), ("max", 1)):
        small = pool(x[:, :4], all_present(x[:, :4]), pooling)
        assert torch.equal(pool(x, all_present(x), pooling), factor * small)


def deep_sets(**changed):
    with seeded(0, "net"):
        return DeepSets([9], 2, **changed).double()


def sets(n=6, size=9, name="sets"):
    return torch.randint(1, 10, (n, size), generator=generator(0, name)).double()


def test_the_output_is_the_sum_of_what_each_digit_gives():
    """Counted by hand: a table of nine digits, and how often each is in the set."""
    net = deep_sets()
    table = torch.tanh(net.embedding.weight @ net.phi[0].linear.weight.T + net.phi[0].linear.bias)
    x = sets()
    x[0, 3:] = 0
    counts = torch.stack([(x == digit).sum(1) for digit in range(1, 10)], dim=1).double()
    expected = counts @ table[1:] @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-13)


EVERY_KIND = pytest.mark.parametrize(
    "changed",
    [{}, {"equivariant": [7, 5], "pooling": "max"}, {"equivariant": [8], "rho": [6], "phi": []}],
)


@EVERY_KIND
def test_neither_order_nor_padding_changes_the_output(changed):
    net = deep_sets(**changed)
    x = sets()
    order = torch.rand(x.shape, generator=generator(0, "orders")).argsort(1)
    padded = torch.cat([torch.zeros(6, 4).double(), x.gather(1, order), torch.zeros(6, 3)], dim=1)
    assert (net(x)[0] - net(x)[1]).abs().max() > 1e-3
    # Sums of at most 9 numbers below 1 in each of up to 30 channels, in float64.
    torch.testing.assert_close(net(padded), net(x), rtol=0, atol=1e-13)


@EVERY_KIND
def test_sets_of_any_size_are_taken(changed):
    net = deep_sets(**changed)
    for size in (1, 2, 100):
        assert net(sets(size=size)).isfinite().all()


def test_equivariant_layers_tell_an_element_of_the_others():
    """Without them, the outputs of two sets add up to that of both, but for one bias."""
    x, y = sets(name="x"), sets(name="y")
    for equivariant, additive in (([], True), ([7], False)):
        net = deep_sets(equivariant=equivariant)
        surplus = net(torch.cat([x, y], dim=1)) - net(x) - net(y) + net.output.bias
        assert (surplus.abs().max() < 1e-13) == additive


def test_sites_have_the_names_that_the_recorder_is_told():
    names = dict(deep_sets(equivariant=[7, 5], rho=[4]).named_modules())
    for site in ("embedding", "equivariant.1.linear", "equivariant.0.activation", "phi.0.linear",
                 "phi.0.activation", "rho.0.linear", "output"):  # fmt: skip
        assert site in names


def test_the_network_of_the_text_setting_has_the_parameters_of_its_layers():
    """10 · 100 embedded digits, 100 · 30 + 30, 30 + 1; theirs has one more digit."""
    assert sum(p.numel() for p in DeepSets([9], 1).parameters()) == 4061


@pytest.mark.parametrize("bad", [-1.0, 0.5, 10.0, float("nan"), float("inf")])
def test_what_is_no_digit_is_refused_by_its_value(bad):
    x = sets()
    x[2, 3] = bad
    with pytest.raises(ValueError, match=f"{bad} is no digit from 1 to 9"):
        digits_of(x, 9)


def test_an_image_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 28, 28\) is no \(elements,\)"):
        DeepSets([1, 28, 28], 10)


def test_an_unknown_pooling_is_refused_with_the_nearest():
    unchecked = inspect.unwrap(pool)  # as users call it, without the tests' type checker
    with pytest.raises(ValueError, match="no pooling 'men'; did you mean 'mean'"):
        unchecked(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), "men")
