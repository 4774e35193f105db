"""Pairs that share no image, and the coverage that is lost when they do."""

from collections import Counter

import numpy as np
import pytest
import torch

from udl_lab.probes.pairing import disjoint_pairs, same_class_pairs
from udl_lab.probes.statistics import mean
from udl_lab.randomness import generator


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_disjoint_pairs_use_every_index_once_but_for_an_odd_one(n):
    pairs = disjoint_pairs(n, generator(0, "pairs"))
    assert pairs.shape == (n // 2, 2)
    members = pairs.flatten().tolist()
    assert len(set(members)) == 2 * (n // 2)
    assert set(members) <= set(range(n))


def test_all_pairings_are_equally_likely():
    # 5 indices: 5 to leave out, times 3 pairings of the other four.
    g = generator(1, "pairs")
    drawn = Counter(
        frozenset(frozenset(pair) for pair in disjoint_pairs(5, g).tolist()) for _ in range(3000)
    )
    assert len(drawn) == 15
    # 200 expected of each, binomial sd 13.7; 4 sd.
    assert all(abs(count - 200) < 55 for count in drawn.values())


def test_the_generator_decides_the_pairs():
    first, again, other = (disjoint_pairs(20, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_make_no_pair(n):
    with pytest.raises(ValueError, match=f"{n} images make no pair"):
        disjoint_pairs(n, generator(0))


def test_same_class_pairs_stay_in_their_class_and_use_all_but_the_odd_one_of_each():
    labels = torch.tensor([7, 7, 7, 3, 3, 9, 7, 7, 3, 3])  # 7: five, 3: four, 9: one
    labels = labels[torch.randperm(10, generator=generator(2))]
    pairs = same_class_pairs(labels, generator(3))
    classes = labels[pairs]
    assert torch.equal(classes[:, 0], classes[:, 1])
    assert Counter(classes[:, 0].tolist()) == {7: 2, 3: 2}
    assert len(pairs.unique()) == pairs.numel()


def test_same_class_pairs_mix_the_members_of_a_class():
    g = generator(4)
    partners = Counter()
    for _ in range(3000):
        partners.update(map(frozenset, same_class_pairs(torch.zeros(3).long(), g).tolist()))
    # One of the three pairs at a time: 1000 expected of each, binomial sd 25.8; 4 sd.
    assert len(partners) == 3
    assert all(abs(count - 1000) < 104 for count in partners.values())


def test_labels_may_be_any_integers():
    labels = torch.tensor([0, 1, 0, 1], dtype=torch.uint8)
    assert {frozenset(p) for p in same_class_pairs(labels, generator(5)).tolist()} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }


@pytest.mark.parametrize("labels", [[], [4], [1, 2, 3]])
def test_labels_without_two_images_of_a_class_are_refused(labels):
    with pytest.raises(ValueError, match=f"no class has two of the {len(labels)} images"):
        same_class_pairs(torch.tensor(labels, dtype=torch.int64), generator(0))


def test_disjoint_pairs_keep_the_level_of_an_interval_and_shared_members_lose_it():
    # Images at a random radius in directions that are all orthogonal: squared distances are
    # r_i^2 + r_j^2 exactly, with mean 2. In a cycle i, i + 1 neighbours correlate by 1/2, the
    # variance of the mean doubles, and coverage is P(|z| < 1.96 / sqrt(2)) = 83.4 %.
    squared_radius = np.random.default_rng(6).chisquare(1, size=(1000, 200))
    g = generator(7, "pairs")
    cyclic = covered = 0
    for r2 in squared_radius:
        interval = mean(r2 + np.roll(r2, 1))
        cyclic += interval.low <= 2 <= interval.high
        interval = mean(r2[disjoint_pairs(200, g).numpy()].sum(axis=1))
        covered += interval.low <= 2 <= interval.high
    # Binomial sd 1.2 % and 0.7 %: 3 sd, and 1 % below for the skewness of chi-square.
    assert abs(cyclic / 1000 - 0.834) < 0.036
    assert 0.92 < covered / 1000 < 0.971
