"""Simple cells are permuted by the group and complex cells are invariant to it, exactly."""

import inspect
import itertools

import pytest
import torch

from udl_lab.nets.cortex import ComplexCells, Cortex
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.square import D4, SUBGROUPS, mirror_and_turn

NONLINEARITIES = {
    "square": lambda s: s * s,
    "relu": lambda s: s * (s > 0),
    "abs": lambda s: torch.maximum(s, -s),
}

every_group = pytest.mark.parametrize("group", SUBGROUPS)
every_nonlinearity = pytest.mark.parametrize("nonlinearity", NONLINEARITIES)


def build(in_shape=(2, 6, 6), **settings):
    with seeded(0, "cortex"):
        return Cortex(in_shape, 3, n_templates=5, **settings).double()


def whole_numbers(*shape):
    return torch.randint(-5, 6, shape, generator=generator(0, "images")).double()


def with_whole_numbers(net):
    """The integer-valued lift: sums are then exact in any order, so symmetry is bitwise."""
    with torch.no_grad():
        net.simple.template.mul_(20).round_()
    return net


def assert_permuted(net, x, element):
    moved = mirror_and_turn(x, net.group[element])
    permuted = net.simple(x)[:, net.orbit_permutation(element)]
    assert torch.equal(net.simple(moved), permuted)


@every_group
def test_an_element_permutes_the_simple_cells_of_each_template_bit_for_bit(group):
    net = with_whole_numbers(build(group=group))
    x = whole_numbers(4, 2, 6, 6)
    n = len(SUBGROUPS[group])
    for element in range(n):
        assert_permuted(net, x, element)
        permutation = net.orbit_permutation(element).reshape(5, n)
        for i in range(5):  # within the orbit of each template
            assert sorted(permutation[i].tolist()) == list(range(i * n, (i + 1) * n))


@every_group
def test_the_permutations_compose_as_the_elements_do(group):
    """s(gh x) = s(hx)[P_g] = s(x)[P_h][P_g]: the known action is a representation."""
    net = build(group=group)
    elements = SUBGROUPS[group]
    for (a, g), (b, h) in itertools.product(enumerate(elements), repeat=2):
        both = net.orbit_permutation(elements.index(D4.compose(g, h)))
        assert torch.equal(both, net.orbit_permutation(b)[net.orbit_permutation(a)])


@every_group
@every_nonlinearity
def test_complex_cells_are_invariant_bit_for_bit(group, nonlinearity):
    net = with_whole_numbers(build(group=group, nonlinearity=nonlinearity))
    x = whole_numbers(4, 2, 6, 6)
    cells = net.complex(net.simple(x))
    assert cells.std() > 1
    for g in SUBGROUPS[group]:
        assert torch.equal(net.complex(net.simple(mirror_and_turn(x, g))), cells)


@every_nonlinearity
def test_outputs_of_real_images_are_invariant_to_rounding(nonlinearity):
    net = build(group="d4", nonlinearity=nonlinearity)
    x = torch.randn(4, 2, 6, 6, generator=generator(0, "real"), dtype=torch.float64)
    for g in net.group:
        # Sums of 72 products around 1 and then of 8: fewer than a thousand roundings of 2^-53.
        torch.testing.assert_close(net(mirror_and_turn(x, g)), net(x), rtol=0, atol=1000 * 2**-53)


@pytest.mark.parametrize(("group", "missing"), [("flip", 1), ("c4", 0), ("c4", 2), ("d4", 5)])
@every_nonlinearity
def test_a_missing_element_breaks_both(group, missing, nonlinearity):
    net = with_whole_numbers(build(group=group, without=[missing], nonlinearity=nonlinearity))
    x = whole_numbers(4, 2, 6, 6)
    for element, g in enumerate(SUBGROUPS[group]):
        if element == 0:
            continue
        with pytest.raises(ValueError, match=f"element {element} takes a copy to one .* left out"):
            net.orbit_permutation(element)
        simple, moved = net.simple(x), net.simple(mirror_and_turn(x, g))
        assert not torch.equal(simple.sort().values, moved.sort().values)
        change = net.complex(moved) - net.complex(simple)
        # Not rounding: the cells that are lost and won weigh as much as the others.
        assert change.square().mean() > 0.1 * net.complex(simple).var()


def test_what_is_left_may_be_a_group_again():
    """Half turns and the identity: invariant to half turns, not to quarter turns."""
    net = with_whole_numbers(build(group="c4", without=[1, 3]))
    x = whole_numbers(4, 2, 6, 6)
    assert_permuted(net, x, 2)
    half, quarter = (net.complex(net.simple(x.rot90(turns, (-2, -1)))) for turns in (2, 1))
    assert torch.equal(half, net.complex(net.simple(x)))
    assert not torch.equal(quarter, net.complex(net.simple(x)))
    with pytest.raises(ValueError, match="element 1"):
        net.orbit_permutation(1)


@every_nonlinearity
def test_the_outputs_are_the_formula_cell_by_cell(nonlinearity):
    """c_i = sum over j of nonlinearity(<x, g_j w_i>), with g_j by indices."""
    net = build(group="d4", without=[3], nonlinearity=nonlinearity)
    x = torch.randn(2, 2, 6, 6, generator=generator(0, "formula"), dtype=torch.float64)
    rows = torch.arange(6)
    turn = (rows, 5 - rows[:, None])  # pixel (i, j) of the turned image is (j, 5 - i)
    copies = []
    for mirrored in (False, True):
        w = net.simple.template
        if mirrored:
            w = w[..., 5 - rows]
        for turns in range(4):
            if mirrored or turns != 3:
                copies.append(w)
            w = w[..., *turn]
    simple = torch.zeros(2, 5 * 7, dtype=torch.float64)
    for b, i, j in itertools.product(range(2), range(5), range(7)):
        simple[b, i * 7 + j] = (x[b] * copies[j][i]).sum()
    cells = NONLINEARITIES[nonlinearity](simple).reshape(2, 5, 7).sum(2)
    torch.testing.assert_close(net.simple(x), simple, rtol=0, atol=1e-13)
    torch.testing.assert_close(
        net(x), cells @ net.output.weight.T + net.output.bias, rtol=0, atol=1e-12
    )


def test_only_the_templates_and_the_readout_are_stored():
    net = Cortex((1, 28, 28), 10, n_templates=64, group="d4")
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == {
        "simple.template": (64, 1, 28, 28),
        "output.weight": (10, 64),
        "output.bias": (10,),
    }


def test_images_around_1_give_simple_cells_around_1():
    with seeded(0, "scale"):
        net = Cortex((1, 28, 28), 10, n_templates=64)
    x = torch.randn(64, 1, 28, 28, generator=generator(0, "images"))
    # 64 templates and 64 images: a variance of 1 to about sqrt(2 / 64), one standard error.
    assert abs(net.simple(x).square().mean() - 1) < 5 * (2 / 64) ** 0.5


def test_frozen_templates_get_no_gradient_and_trainable_ones_do():
    for trainable in (True, False):
        net = build(trainable=trainable)
        net(whole_numbers(4, 2, 6, 6)).sum().backward()
        assert (net.simple.template.grad is not None) == trainable
        assert net.output.weight.grad.any()


def test_the_sites_have_the_names_that_the_recorder_is_told():
    assert {"simple", "complex", "output"} <= set(dict(build().named_modules()))


def test_oblong_images_are_taken_where_no_quarter_turn_is():
    for group in ("identity", "flip"):
        net = with_whole_numbers(build((1, 4, 7), group=group))
        x = whole_numbers(3, 1, 4, 7)
        assert_permuted(net, x, len(net.group) - 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_shape": (1, 40)}, r"no \(channels, height, width\)"),
        ({"in_shape": (1, 4, 7)}, "c4 need square images, not 4 x 7.*use group 'flip'"),
        ({"without": [4]}, r"without \[4\]: the elements of c4 are 0 to 3"),
        ({"group": "flip", "without": [0, 1]}, "nothing is left of flip; keep an element"),
        ({"group": "d3"}, "no group 'd3'; choose from: c4, d4"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_remedy(settings, message):
    unchecked = inspect.unwrap(Cortex.__init__)  # as users call it, without the type checker
    with pytest.raises(ValueError, match=message):
        unchecked(Cortex.__new__(Cortex), **{"in_shape": (2, 6, 6), "out_features": 3} | settings)


def test_an_unknown_nonlinearity_is_refused_with_the_nearest():
    unchecked = inspect.unwrap(ComplexCells.__init__)
    with pytest.raises(ValueError, match="no nonlinearity 'squared'; did you mean 'square'"):
        unchecked(ComplexCells.__new__(ComplexCells), 4, "squared")


def test_an_element_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no element 4; give 0 to 3"):
        build().orbit_permutation(4)
