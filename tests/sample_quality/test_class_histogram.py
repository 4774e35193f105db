"""Class counts against scipy's chi-square test and a sum over the binomial law."""

import pytest
import torch
from scipy import stats

from udl_lab.randomness import generator
from udl_lab.sample_quality.class_histogram import class_histogram

SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def draw(n, *name):
    return torch.multinomial(SHARES, n, replacement=True, generator=generator(0, *name))


def test_chi_square_and_p_are_scipys():
    predicted = draw(80, "classes")
    found = class_histogram(predicted, SHARES)
    peer = stats.chisquare(found.counts.numpy(), (80 * SHARES).numpy())
    assert found.counts.tolist() == [int((predicted == c).sum()) for c in range(3)]
    assert found.chi_square == pytest.approx(float(peer.statistic), abs=1e-12)
    assert found.p_value == pytest.approx(float(peer.pvalue), abs=1e-12)


def test_total_variation_is_the_largest_difference_over_sets_of_classes():
    # Counts 10, 30, 60 of 100: shares .1, .3, .6 against .5, .3, .2; the set {2} differs by .4.
    predicted = torch.tensor([0] * 10 + [1] * 30 + [2] * 60)
    assert class_histogram(predicted, SHARES).total_variation == pytest.approx(0.4, abs=1e-15)


def test_counts_as_expected_are_at_distance_zero():
    found = class_histogram(torch.tensor([0] * 50 + [1] * 30 + [2] * 20), SHARES)
    assert found.chi_square == pytest.approx(0, abs=1e-25)
    assert found.total_variation == pytest.approx(0, abs=1e-15)
    assert found.p_value == 1


@pytest.mark.parametrize("n", [25, 77, 1000])
def test_total_variation_by_chance_is_the_sum_over_the_binomial(n):
    k = torch.arange(n + 1).double()
    deviations = [
        float((stats.binom.pmf(k, n, p) * (k - n * p).abs().numpy()).sum()) for p in SHARES.tolist()
    ]
    found = class_histogram(draw(n, "classes"), SHARES).total_variation_by_chance
    assert found == pytest.approx(sum(deviations) / (2 * n), rel=1e-10)


def test_p_values_of_the_expected_shares_are_uniform():
    p = [class_histogram(draw(400, "run", i), SHARES).p_value for i in range(300)]
    assert stats.kstest(p, stats.uniform.cdf).pvalue > 0.01


def test_a_missing_class_is_seen():
    predicted = draw(200, "classes")
    found = class_histogram(predicted[predicted != 2], SHARES)
    assert found.counts[2] == 0
    assert found.p_value < 1e-6


def test_shares_in_float32_are_taken_as_what_they_mean():
    found = class_histogram(draw(100, "classes"), torch.full((10,), 0.1))
    assert found.counts.tolist()[3:] == [0] * 7


def test_too_few_samples_are_refused_with_the_number_needed():
    with pytest.raises(ValueError, match=r"expect 4\.8 of the rarest class.*at least 25 samples"):
        class_histogram(draw(24, "classes"), SHARES)
    class_histogram(draw(25, "classes"), SHARES)


@pytest.mark.parametrize("shares", [[0.5, 0.4], [1.0, 0.0], [1.0], [1.5, -0.5]])
def test_what_are_no_shares_is_refused(shares):
    with pytest.raises(ValueError, match="expected shares"):
        class_histogram(draw(100, "classes"), torch.tensor(shares))


@pytest.mark.parametrize("outside", [-1, 3])
def test_a_class_without_a_share_is_refused_by_name(outside):
    predicted = torch.cat([draw(50, "classes"), torch.tensor([outside])])
    with pytest.raises(ValueError, match=f"holds the class {outside}, .* 0 to 2"):
        class_histogram(predicted, SHARES)
