"""The features of levels follow their formula and tell all levels apart; labels stand beside."""

import math

import pytest
import torch

from udl_lab.nets.embedding import Condition, fourier_features
from udl_lab.randomness import generator, seeded

THOUSAND = torch.arange(1, 1001, dtype=torch.float64) / 1000


def condition(*args):
    with seeded(0, "condition"):
        return Condition(*args)


def test_the_features_are_the_sines_and_cosines_of_the_paper_at_position_1000_t():
    n = 6
    t = torch.rand(5, generator=generator(0, "t"), dtype=torch.float64)
    expected = []
    for position in (1000 * t).tolist():
        angles = [position / 10000 ** (2 * i / n) for i in range(n // 2)]
        expected.append([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    # An angle of up to 1000 rounds by 1e-13.
    torch.testing.assert_close(
        fourier_features(t, n), torch.tensor(expected, dtype=t.dtype), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_clean_level_has_sines_zero_and_cosines_one_in_its_precision(dtype):
    features = fourier_features(torch.zeros(1, dtype=dtype), 4)
    assert torch.equal(features, torch.tensor([[0, 0, 1, 1]], dtype=dtype))


@pytest.mark.parametrize("n", [16, 64])
def test_the_distance_of_two_levels_is_that_of_their_difference(n):
    """Points on n/2 unit circles: chords of length 2 sin(angle / 2), whatever the first level."""
    levels = torch.rand(50, generator=generator(0, "levels"), dtype=torch.float64)
    features = fourier_features(levels, n)
    gaps = (levels[:, None] - levels).flatten()
    speeds = [1000 / 10000 ** (2 * i / n) for i in range(n // 2)]
    chords = sum((2 * torch.sin(gaps * speed / 2)) ** 2 for speed in speeds).sqrt()
    distances = (features[:, None] - features).square().sum(2).sqrt().flatten()
    torch.testing.assert_close(distances, chords, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [16, 64])
def test_a_thousand_levels_have_distinct_features_in_single_precision(n):
    features = fourier_features(THOUSAND.float(), n)
    apart = torch.pdist(features)
    # Neighbours are a chord of one radian apart on the fastest circle alone; so is every pair.
    assert apart.min() > 2 * math.sin(1 / 2)


def test_an_odd_number_of_features_is_refused():
    with pytest.raises(ValueError, match="n_features 7 is odd; use 8"):
        fourier_features(THOUSAND, 7)


def test_the_condition_is_the_features_and_the_label_s_vector_side_by_side():
    told = condition(4, 3)
    t = torch.tensor([0.2, 0.9])
    y = torch.tensor([2, 0])
    rows = told(t, y)
    assert rows.shape == (2, told.size) == (2, 8)
    assert torch.equal(rows[:, :4], fourier_features(t, 4))
    assert torch.equal(rows[:, 4:], told.label.weight[y])


def test_without_labels_the_condition_is_the_features():
    told = condition(4)
    t = torch.tensor([0.2, 0.9])
    assert told.size == 4
    assert torch.equal(told(t, None), fourier_features(t, 4))
    assert list(told.parameters()) == []


def test_leaving_the_labels_out_says_no_label_for_every_row():
    told = condition(4, 3)
    t = torch.tensor([0.2, 0.9])
    assert torch.equal(told(t, None), told(t, torch.tensor([3, 3])))
    assert not torch.equal(told(t, None), told(t, torch.tensor([3, 2])))


def test_labels_are_refused_by_a_network_without_them():
    with pytest.raises(ValueError, match="without labels; build it with n_classes"):
        condition(4)(torch.tensor([0.2]), torch.tensor([0]))
