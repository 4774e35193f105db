"""Sets of digits, their sizes and sums."""

import pytest
import torch

from udl_lab.data.digit_sums import digit_sets, digit_sums
from udl_lab.data.resident import ResidentData
from udl_lab.data.source import fingerprint
from udl_lab.errors import UsageError
from udl_lab.randomness import generator


@pytest.fixture(scope="module")
def source():
    return digit_sums("")


def test_the_parts_have_the_sizes_and_types_of_a_source(source):
    for part, n in ((source.train, 100_000), (source.test, 10_000)):
        assert part.x.shape == (n, 9)
        assert part.x.dtype == torch.float32
        assert part.y.dtype == torch.int64


def test_labels_are_the_sums_and_the_padding_stands_behind_digits_from_1_to_9(source):
    for x, y in zip(source.test.x[:2000].tolist(), source.test.y[:2000].tolist(), strict=True):
        digits = [int(value) for value in x if value]
        assert x == [*digits, *[0] * (9 - len(digits))]
        assert digits and min(digits) >= 1 and max(digits) <= 9
        assert sum(digits) == y


def test_sizes_and_digits_are_equally_likely(source):
    """Chi-square with 8 degrees of freedom: above 26.12 with probability .001."""
    x = source.train.x
    for values in ((x > 0).sum(1), x[x > 0].long()):
        counts = torch.bincount(values, minlength=10)
        assert counts[0] == 0 and len(counts) == 10
        expected = len(values) / 9
        assert ((counts[1:] - expected) ** 2 / expected).sum() < 26.12


def test_the_sets_are_the_same_every_time_and_the_parts_differ(source):
    again = digit_sums("", n_train=100_000)
    assert fingerprint(again.train) == fingerprint(source.train)
    assert not torch.equal(source.train.x[:100], source.test.x[:100])


def test_numbers_of_sets_and_the_longest_can_be_chosen():
    small = digit_sums("", n_train=50, n_test=20, longest=3)
    assert small.train.x.shape == (50, 3)
    assert small.test.x.shape == (20, 3)
    assert sorted(set((small.train.x > 0).sum(1).tolist())) == [1, 2, 3]


def test_sets_of_one_size_have_it():
    x = digit_sets(200, 30, generator(0))
    assert x.shape == (200, 30)
    assert x.min() == 1 and x.max() == 9


def test_the_resident_data_leave_digits_digits(source):
    data = ResidentData(digit_sums, "", 128, 0, 0.0, 1.0, seed=0)
    data.setup()
    assert torch.equal(data.train.x, source.train.x)
    assert data.background == 0
    with pytest.raises(UsageError, match="n_validation"):
        ResidentData(digit_sums, "", 128, 100_000, 0.0, 1.0, seed=0).setup()
