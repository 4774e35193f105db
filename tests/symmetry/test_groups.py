"""Groups: their laws, their orders, and what their words mean."""

import itertools
import math

import numpy as np
import pytest

from udl_lab.randomness import generator
from udl_lab.symmetry.groups import Cyclic, Dihedral, Shifts, Symmetric, check_group

GROUPS = [
    Cyclic(1),
    Cyclic(2),
    Cyclic(7),
    Dihedral(1),
    Dihedral(2),
    Dihedral(4),
    Dihedral(5),
    Shifts([3, 4]),
    Shifts([1, 5]),
    Shifts([2, 2, 2]),
    Symmetric(1),
    Symmetric(2),
    Symmetric(3),
    Symmetric(4),
]
each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)


def checked(group):
    check_group(group.compose, group.inverse, group.identity, group.elements())


@each_group
def test_the_laws_of_a_group_hold(group):
    checked(group)


def test_the_laws_hold_on_a_group_whose_triples_are_sampled():
    checked(Symmetric(5))


@each_group
def test_all_elements_are_listed_once_and_the_identity_first(group):
    elements = group.elements()
    assert len(elements) == len(set(elements)) == group.order
    assert elements[0] == group.identity
    assert len({group.label(g) for g in elements}) == group.order
    assert group.label(group.identity) == "identity"


@each_group
def test_products_of_the_generators_are_the_whole_group(group):
    reached = {group.identity}
    while True:
        products = {group.compose(g, h) for g in group.generators() for h in reached}
        if products <= reached:
            break
        reached |= products
    assert reached == set(group.elements())
    assert group.identity not in group.generators()


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_dihedral_elements_multiply_as_their_plane_maps(n):
    # Matrices in a frame with y up: turn counter-clockwise after mirroring left-right.
    def matrix(g):
        angle = 2 * math.pi * g[0] / n
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return turn @ np.diag([-1.0 if g[1] else 1.0, 1.0])

    group = Dihedral(n)
    for g, h in itertools.product(group.elements(), repeat=2):
        product = matrix(g) @ matrix(h)  # first h, then g
        np.testing.assert_allclose(product, matrix(group.compose(g, h)), atol=1e-14)


def test_permutations_multiply_as_their_matrices():
    group = Symmetric(4)

    def matrix(g):
        return np.eye(4)[:, list(group.inverse(g))].T  # row g[i] holds a 1 in column i

    g, h = (1, 2, 0, 3), (0, 1, 3, 2)
    assert matrix(g)[2, 1] == 1
    np.testing.assert_array_equal(matrix(g) @ matrix(h), matrix(group.compose(g, h)))
    assert group.compose(g, h) != group.compose(h, g)


def test_permutations_are_labelled_by_their_cycles():
    group = Symmetric(5)
    assert group.label((2, 0, 1, 4, 3)) == "(0 2 1)(3 4)"


@pytest.mark.parametrize("group", [Cyclic(3), Dihedral(2), Shifts([2, 3]), Symmetric(3)], ids=str)
def test_samples_are_uniform_and_depend_on_their_generator_alone(group):
    n = 600 * group.order
    drawn = group.sample(n, generator(0, "sample"))
    assert drawn == group.sample(n, generator(0, "sample"))
    counts = [drawn.count(g) for g in group.elements()]
    assert sum(counts) == n
    # Six standard deviations of a binomial count; the seed is fixed.
    deviation = math.sqrt(600 * (1 - 1 / group.order))
    assert all(abs(count - 600) < 6 * deviation for count in counts)


def test_a_large_symmetric_group_is_sampled_but_not_listed():
    assert len(Symmetric(7).elements()) == 5040
    with pytest.raises(ValueError, match=r"S8 has 40,320 elements.*`sample`"):
        Symmetric(8).elements()
    drawn = Symmetric(30).sample(2, generator(0, "sample"))
    assert drawn[0] != drawn[1] and sorted(drawn[0]) == list(range(30))
    large = Symmetric(30)
    assert large.compose(drawn[0], large.inverse(drawn[0])) == large.identity


@pytest.mark.parametrize("make", [Cyclic, Dihedral, Symmetric, lambda n: Shifts([3, n])])
def test_a_size_under_one_is_refused(make):
    with pytest.raises(ValueError, match=": 0 is no size; use 1 or more"):
        make(0)


@pytest.mark.parametrize(
    ("compose", "inverse", "identity", "elements", "message"),
    [
        (lambda g, h: g + h, lambda g: -g, 0, [0, 1, -1], "1 and then 1 is 2, which is no element"),
        (lambda g, h: (g + h) % 3, lambda g: g, 0, [0, 1, 2], "1 is not the inverse of 1"),
        (lambda g, h: (g + h) % 3, lambda g: -g, 0, [0, 1, 2], "-1 is not the inverse of 1"),
        (lambda g, h: (g + h) % 3, lambda g: -g % 3, 1, [0, 1, 2], "the identity 1 changes 0"),
        (lambda g, h: (g + h) % 3, lambda g: -g % 3, 3, [0, 1, 2], "identity 3 is not among"),
        (lambda g, h: (g + h) % 2, lambda g: g, 0, [0, 1, 1], "1 is listed twice"),
    ],
)
def test_what_is_no_group_is_refused_by_name(compose, inverse, identity, elements, message):
    with pytest.raises(ValueError, match=message):
        check_group(compose, inverse, identity, elements)


@pytest.mark.parametrize("order", [5, 35])
def test_a_loop_that_is_not_associative_is_refused(order):
    # The smallest loop that is no group in which every element undoes itself, times Z_m.
    loop = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    m = order // 5

    def compose(g, h):
        return loop[g[0]][h[0]], (g[1] + h[1]) % m

    elements = list(itertools.product(range(5), range(m)))
    with pytest.raises(ValueError, match="not associative on f = "):
        check_group(compose, lambda g: (g[0], -g[1] % m), (0, 0), elements)
