"""Permutations of sets."""

import math

import pytest
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.groups import check_group
from udl_lab.symmetry.sets import Permutations


def test_what_is_at_place_i_goes_to_place_g_of_i():
    x = torch.randn(3, 6, 2, generator=generator(0, "sets"))
    action = Permutations(6, 4)
    for g in action.elements():
        y = action.apply(x, g, 0.0)
        for i in range(6):
            assert torch.equal(y[:, g[i]], x[:, i])
    words = torch.arange(12).reshape(2, 6)  # sets of words or digits are whole numbers
    assert action.apply(words, action.elements()[0], 0.0).dtype == torch.int64


def test_composition_is_first_h_then_g():
    x = torch.randn(3, 6, 2, generator=generator(0, "sets"))
    action = Permutations(6, 4)
    g, h = action.elements()[:2]
    both = action.apply(x, action.compose(g, h), 0.0)
    assert torch.equal(action.apply(action.apply(x, h, 0.0), g, 0.0), both)
    assert not torch.equal(action.apply(x, action.compose(h, g), 0.0), both)


def test_a_sum_over_the_set_does_not_move_and_a_weighted_sum_does():
    x = torch.randint(-9, 10, (4, 6, 3), generator=generator(0)).float()
    weight = torch.arange(6.0)[:, None]
    action = Permutations(6, 8)
    for g in action.elements():
        y = action.apply(x, g, 0.0)
        assert torch.equal(y.sum(1), x.sum(1))
        assert not torch.equal((weight * y).sum(1), (weight * x).sum(1))


def test_permutations_are_distinct_and_drawn_by_their_seed():
    drawn = Permutations(5, 50).elements()
    assert len(set(drawn)) == 50 and tuple(range(5)) not in drawn
    assert drawn == Permutations(5, 50).elements()
    assert drawn != Permutations(5, 50, seed=1).elements()
    assert Permutations(5, 10).elements() == drawn[:10]
    assert Permutations(5, 10) == Permutations(5, 10) != Permutations(5, 11)


def test_the_first_permutation_is_uniform_on_all_but_the_identity():
    first = [Permutations(3, 1, seed=s).elements()[0] for s in range(500)]
    counts = [first.count(g) for g in Permutations(3, 5).elements()]
    # Six standard deviations of a binomial count with probability 1/5.
    assert all(abs(count - 100) < 6 * math.sqrt(500 * 0.2 * 0.8) for count in counts)


def test_the_whole_of_s3_is_a_group_and_a_part_of_it_is_recognised():
    action = Permutations(3, 5)
    assert action.is_group
    check_group(action.compose, action.inverse, action.identity, [(0, 1, 2), *action.elements()])
    exchange = next(s for s in range(20) if Permutations(3, 1, seed=s).elements()[0] == (1, 0, 2))
    assert Permutations(3, 1, seed=exchange).is_group
    assert not Permutations(3, 3).is_group and not Permutations(6, 5, seed=1).is_group


def test_permutations_are_numbered_and_others_are_named_by_their_cycles():
    action = Permutations(4, 2)
    assert [action.label(g) for g in action.elements()] == ["permutation0", "permutation1"]
    other = next(g for g in Permutations(4, 23).elements() if g not in action.elements())
    assert action.label(other).startswith("(")


def test_sets_have_no_layers_of_a_stride():
    action = Permutations(4, 2)
    with pytest.raises(ValueError, match="stride 2"):
        action.restrict(action.elements()[0], 2)


@pytest.mark.parametrize(
    ("n_elements", "n_permutations", "message"),
    [
        (1, 1, "n_elements: 1 leaves nothing"),
        (3, 6, "n_permutations: 6, but sets of 3 have 5"),
        (3, 0, "use 1 to 5"),
    ],
)
def test_counts_that_make_no_family_are_refused(n_elements, n_permutations, message):
    with pytest.raises(ValueError, match=message):
        Permutations(n_elements, n_permutations)


def test_sets_of_another_size_are_refused():
    action = Permutations(4, 2)
    with pytest.raises(ValueError, match=r"sets of 5 elements .* n_elements: 4; set it to 5"):
        action.apply(torch.zeros(2, 5, 3), action.elements()[0], 0.0)
