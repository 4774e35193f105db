"""Copies, generalisation and everything between, with the interval's own coverage."""

import itertools
import math

import pytest
import torch
from scipy import stats

from udl_lab.randomness import generator
from udl_lab.sample_quality.memorisation import (
    nearest_ratio,
    share_closer_to_train,
    share_copied,
)


def normal(n, dim, *name):
    return torch.randn(n, dim, dtype=torch.float64, generator=generator(0, *name))


def test_the_ratio_is_nearest_over_second_nearest():
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]])
    samples = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert nearest_ratio(samples, train).tolist() == pytest.approx([1 / 3, 1, 0])


def test_an_exact_copy_has_ratio_zero_even_of_an_example_held_twice():
    train = torch.tensor([[0.0], [0.0], [4.0]])
    assert nearest_ratio(torch.tensor([[0.0]]), train).tolist() == [0]


def test_the_ratio_has_no_unit():
    samples, train = normal(20, 3, "samples"), normal(30, 3, "train")
    assert torch.allclose(
        nearest_ratio(7 * samples, 7 * train), nearest_ratio(samples, train), rtol=1e-12
    )


def test_ratios_in_many_dimensions_follow_the_law_of_near_points():
    # Near a point the numbers of examples within r grow as r^dim, so (d1/d2)^dim is uniform and
    # P(ratio < c) = c^dim, here c = 1/3 in the plane: 1/9. Examples are dense at the centre.
    train = 20 * torch.rand(8000, 2, dtype=torch.float64, generator=generator(0, "train")) - 10
    samples = 16 * torch.rand(1500, 2, dtype=torch.float64, generator=generator(0, "samples")) - 8
    found = share_copied(nearest_ratio(samples, train))
    assert abs(found - 1 / 9) < 3 * math.sqrt(8 / 81 / 1500)


def test_the_share_counts_ratios_under_the_threshold():
    ratios = torch.tensor([0.0, 0.2, 1 / 3, 0.5, 1.0]).double()
    assert share_copied(ratios, below=0.5) == pytest.approx(3 / 5)
    assert share_copied(torch.tensor([0.33, 0.34]).double()) == 0.5
    with pytest.raises(ValueError, match="no ratios"):
        share_copied(ratios[:0])


def test_a_model_that_copies_is_always_closer_to_train():
    train, held_out = normal(200, 3, "train"), normal(200, 3, "held out")
    found = share_closer_to_train(train + 1e-6, train, held_out)
    z = stats.norm.ppf(0.975)
    assert (found.estimate, found.high, found.n_effective) == (1, 1, 200)
    # Wilson at n of n: n / (n + z^2).
    assert found.low == pytest.approx(200 / (200 + z**2), abs=1e-12)


def test_copies_of_one_example_are_one_sample():
    train, held_out = normal(20, 3, "train"), normal(20, 3, "held out")
    found = share_closer_to_train(train[:1].repeat(50, 1), train, held_out)
    assert found.n_effective == 1
    assert found.low < 0.5


def test_the_share_is_counted_by_hand_on_the_line():
    train, held_out = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [20.0]])
    # 0.2 near train 0; .8 near held out 1; 9 near train 10; .5 half way: a half. 2.5 of 4.
    found = share_closer_to_train(torch.tensor([[0.2], [0.8], [9.0], [0.5]]), train, held_out)
    assert found.estimate == 2.5 / 4


def test_the_effective_number_gives_the_variance_over_all_splits_of_the_examples():
    examples = normal(6, 2, "examples")
    samples = examples[[0, 0, 0, 0, 1, 1, 2]] + 1e-3  # unequal, so more than chance would share
    runs = []
    for half in itertools.combinations(range(6), 3):
        rest = [i for i in range(6) if i not in half]
        runs.append(share_closer_to_train(samples, examples[list(half)], examples[rest]))
    shares = torch.tensor([r.estimate for r in runs]).double()
    assert runs[0].n_effective < 7
    assert float(shares.var(correction=0)) == pytest.approx(1 / (4 * runs[0].n_effective), rel=1e-6)


def test_the_interval_is_wilsons_where_no_two_samples_share_a_neighbour():
    train = torch.arange(0.0, 40.0)[:, None].double()
    held_out = train + 0.5
    samples = torch.cat([train[:30], held_out[:10]])
    found = share_closer_to_train(samples, train, held_out, level=0.9)
    peer = stats.binomtest(30, 40).proportion_ci(0.9, method="wilson")
    assert found.n_effective == 40
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_samples_that_share_few_neighbours_do_not_make_a_sure_interval():
    # Seven of eight samples near one corner, where few examples are: counted as independent they
    # would cover .5 in fewer than half of the runs.
    def run(i):
        samples = normal(160, 2, "s", i)
        samples[20:] = 2.5 + 0.3 * samples[20:]
        return share_closer_to_train(samples, normal(50, 2, "t", i), normal(50, 2, "h", i))

    runs = [run(i) for i in range(300)]
    covered = sum(r.low <= 0.5 <= r.high for r in runs) / 300
    # A few shared labels are no normal number, so not .95 itself: above .9 less 3 binomial sd.
    assert covered > 0.9 - 3 * math.sqrt(0.9 * 0.1 / 300)
    naive = [stats.binomtest(round(160 * r.estimate), 160).pvalue > 0.05 for r in runs]
    assert sum(naive) / 300 < 0.5


def test_the_interval_covers_one_half_at_its_level_for_samples_of_the_data():
    runs = [
        share_closer_to_train(normal(150, 2, "s", i), normal(50, 2, "t", i), normal(50, 2, "h", i))
        for i in range(300)
    ]
    covered = sum(r.low <= 0.5 <= r.high for r in runs) / 300
    # 3 sd of the binomial about .95.
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 300)


def test_sets_of_unequal_size_are_refused_with_the_smaller():
    with pytest.raises(ValueError, match="give 5 of each"):
        share_closer_to_train(normal(3, 2, "s"), normal(9, 2, "t"), normal(5, 2, "h"))


def test_a_level_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"level 95\.0 is not a probability"):
        share_closer_to_train(normal(3, 2, "s"), normal(5, 2, "t"), normal(5, 2, "h"), level=95.0)
