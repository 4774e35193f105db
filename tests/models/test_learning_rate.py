"""Rates by epoch."""

import udl_lab.runs  # noqa: F401  # isort: skip

import math

import pytest

from udl_lab.models.learning_rate import learning_rate

COSINE = {"name": "cosine", "last_lr": 1e-4, "epochs": 10}


def test_the_stages_of_the_iwae_paper_have_3280_epochs():
    rates = [learning_rate({"name": "burda2015"}, 1e-4, epoch) for epoch in range(3280)]
    factors = [10.0, 7.2, 5.2, 3.7, 2.7, 1.9, 1.4, 1.0]  # rounded 10^(1 − (i − 1)/7)
    expected = [1e-4 * factor for i, factor in enumerate(factors) for _ in range(3**i)]
    assert rates == expected
    assert learning_rate({"name": "burda2015"}, 1e-4, 10_000) == 1e-4


def test_a_cosine_falls_from_first_to_last_and_stays():
    rates = [learning_rate(COSINE, 1e-3, epoch) for epoch in range(12)]
    assert rates[10:] == [1e-4, 1e-4]
    assert rates[:10] == sorted(rates[:10], reverse=True)
    # Its mean is that of its ends, and pairs from both ends have that mean.
    for early, late in zip(rates[:5], rates[9:4:-1], strict=True):
        assert math.isclose(early + late, 1.1e-3, rel_tol=1e-12)
    # sin²(π/40) from the first: half an epoch of twenty halves.
    assert math.isclose(rates[0], 1e-3 - 9e-4 * math.sin(math.pi / 40) ** 2, rel_tol=1e-12)


def test_a_constant_is_one():
    assert {learning_rate({"name": "constant"}, 0.2, epoch) for epoch in range(5)} == {0.2}


@pytest.mark.parametrize("missing", ["last_lr", "epochs"])
def test_a_cosine_says_where_and_when_it_ends(missing):
    with pytest.raises(ValueError, match=r"last_lr and epochs.*max_epochs"):
        learning_rate({k: v for k, v in COSINE.items() if k != missing}, 1e-3, 0)
