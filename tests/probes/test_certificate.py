"""Certificates of planted representations, and refusals of impostors."""

import numpy as np
import pytest

from udl_lab.probes.bracket import Permutation
from udl_lab.probes.certificate import certify
from udl_lab.probes.statistics import Interval
from udl_lab.symmetry.groups import Symmetric

QUARTERS = [1, 2, 3]


def recovered(index, error=0.0):
    return Permutation(
        np.asarray(index), Interval(error, error, error), Interval(1.0, 1.0, 1.0), 1.0
    )


def certified(*indices, error=0.0):
    permutations = [recovered(index, error) for index in indices]
    return certify(QUARTERS, permutations, lambda g, h: (g + h) % 4, 0)


def turned(k, blocks=2):
    """Orientation r sees after k turns what r - k saw before, in each block of four channels."""
    return [4 * b + (r - k) % 4 for b in range(blocks) for r in range(4)]


def test_free_orbits_are_the_regular_representation():
    found = certified(turned(1), turned(2), turned(3))
    assert found.granted
    assert found.orbits == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found.representation.startswith("regular: 2 free orbits of 4")


def test_channels_that_never_move_are_complex_cells():
    found = certified(range(3), range(3), range(3))
    assert found.granted
    assert found.representation.startswith("trivial")


def test_a_mixture_is_counted():
    found = certified(*([*turned(k, 1), 4] for k in QUARTERS))
    assert "1 invariant channels, 1 free orbits of 4, 0 of other sizes" in found.representation


def test_a_broken_law_is_refused_however_small_the_error():
    found = certified(turned(1), turned(1), turned(3), error=1e-9)
    assert not found.granted
    # g = h = 1 gives P_1 P_1 = turned(2), not turned(1): all 8 channels differ; and so on.
    assert found.law > 0
    assert "law" in found.representation


def test_a_consistent_permutation_that_misses_new_images_is_refused():
    found = certified(turned(1), turned(2), turned(3), error=0.3)
    assert found.law == 0
    assert not found.granted
    assert "misses" in found.representation


def test_the_law_counts_the_channels_that_disagree():
    swapped = [1, 0, 2, 3]
    found = certified(swapped, range(4), swapped)
    # A representation of C4 that factors through C2: lawful, with an orbit of two.
    assert found.law == 0
    assert [len(orbit) for orbit in found.orbits] == [2, 1, 1]


def test_the_law_is_that_of_the_group_where_the_order_of_two_elements_matters():
    """Three channels that S3 permutes: what is at place i goes to place g[i], by hand."""
    group = Symmetric(3)
    elements = [g for g in group.elements() if g != group.identity]
    came_from = [[g.index(place) for place in range(3)] for g in elements]
    found = certify(elements, [recovered(p) for p in came_from], group.compose, group.identity)
    assert found.law == 0 and found.granted
    # Elements in the place of their inverses multiply in the wrong order.
    other = certify(elements, [recovered(g) for g in elements], group.compose, group.identity)
    assert other.law > 0 and not other.granted


def test_the_error_is_that_of_the_element_that_misses_most():
    errors = [0.0, 0.3, 1e-9]
    permutations = [recovered(turned(k), error) for k, error in zip(QUARTERS, errors, strict=True)]
    found = certify(QUARTERS, permutations, lambda g, h: (g + h) % 4, 0)
    assert found.error.estimate == 0.3
    assert not found.granted


def test_only_a_whole_group_is_certified():
    with pytest.raises(ValueError, match="whole group"):
        certify([1], [recovered([0])], lambda g, h: (g + h) % 4, 0)
