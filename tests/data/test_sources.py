"""Data sets that need no network, and the identity of data."""

import random

import numpy as np
import pytest
import torch
from mnist1d.data import get_dataset_args, make_dataset
from sklearn.datasets import load_digits

from udl_lab.data.digits import digits
from udl_lab.data.mnist1d import mnist1d
from udl_lab.data.source import Examples, fingerprint
from udl_lab.randomness import generator


@pytest.fixture(scope="module")
def handwriting():
    return digits("")


@pytest.fixture(scope="module")
def signals():
    return mnist1d("")


def as_set(examples):
    return {(row.numpy().tobytes(), int(y)) for row, y in zip(*examples, strict=True)}


def test_digits_have_mnists_format(handwriting):
    for part, n in ((handwriting.train, 1437), (handwriting.test, 360)):
        assert part.x.shape == (n, 1, 28, 28)
        assert part.x.dtype == torch.float32
        assert part.y.dtype == torch.int64
        assert part.x.min() == 0
        assert 0.99 < part.x.max() <= 1  # bilinear interpolation makes no pixel brighter


def test_digits_leave_a_frame_of_4_pixels_empty(handwriting):
    for part in handwriting:
        frame = torch.ones(28, 28, dtype=torch.bool)
        frame[4:24, 4:24] = False
        assert not part.x[:, :, frame].any()


def interpolation_matrix(n_out, n_in):
    """Linear interpolation between pixel centres at (i + 1/2) / n, clamped to the outermost."""
    at = ((torch.arange(n_out).double() + 0.5) * n_in / n_out - 0.5).clamp(0, n_in - 1)
    return (1 - (at[:, None] - torch.arange(n_in)).abs()).clamp(min=0)


def test_digits_are_scikit_learns_arrays_interpolated(handwriting):
    """The interpolation is a matrix on each side.

    Solved for the 64 values that went in, it gives every published image with its label back;
    applied to them, it gives the pixels.
    """
    m = interpolation_matrix(20, 8)
    inverse = torch.linalg.pinv(m)
    x = torch.cat([part.x for part in handwriting])[:, 0, 4:24, 4:24].double()
    y = torch.cat([part.y for part in handwriting])
    levels = (inverse @ x @ inverse.T * 16).round().long()
    # Source coordinates up to 8 pixels are computed in float32, in two roundings of at most 2^-22
    # on each side, and neighbours differ by at most 1.
    torch.testing.assert_close(m @ (levels / 16).double() @ m.T, x, rtol=0, atol=4 * 2**-22)
    arrays = load_digits()
    found = sorted(zip(levels.flatten(1).tolist(), y.tolist(), strict=True))
    published = arrays.images.reshape(-1, 64).astype(int).tolist()
    assert found == sorted(zip(published, arrays.target.tolist(), strict=True))


def test_the_test_set_of_digits_never_changes(handwriting):
    """Frozen when it was chosen: with another one, old and new results could not be compared."""
    # Interpolation weights are multiples of .1 on each side and grey levels of 1/16, so 1600 times
    # a pixel is a whole number, which no machine's rounding changes.
    levels = (handwriting.test.x * 1600).round()
    assert fingerprint(Examples(levels, handwriting.test.y)) == "9ded0f97121b3dde"
    assert handwriting.test.y[:12].tolist() == [2, 7, 9, 0, 2, 2, 8, 2, 8, 2, 9, 1]


def test_no_test_digit_is_a_training_digit(handwriting):
    assert as_set(handwriting.train).isdisjoint(as_set(handwriting.test))


def test_every_class_of_digits_is_in_both_parts(handwriting):
    for part in handwriting:
        assert torch.bincount(part.y, minlength=10).min() >= len(part.y) / 20


def test_the_configured_mean_and_deviation_of_digits_are_those_of_its_training_pixels(handwriting):
    """`configs/data/digits.yaml` says .1556 and .2774."""
    assert round(handwriting.train.x.double().mean().item(), 4) == 0.1556
    assert round(handwriting.train.x.double().std().item(), 4) == 0.2774


def test_signals_are_4000_and_1000_of_40_samples(signals):
    for part, n in ((signals.train, 4000), (signals.test, 1000)):
        assert part.x.shape == (n, 1, 40)
        assert part.x.dtype == torch.float32
        assert part.y.dtype == torch.int64
        assert sorted(part.y.unique().tolist()) == list(range(10))


def test_signals_are_the_packages_whatever_the_global_seeds_which_stay_as_they_were(signals):
    def states():
        kind, keys, *rest = np.random.get_state()
        return random.getstate(), (kind, keys.tolist(), *rest), torch.get_rng_state().tolist()

    begin = np.random.get_state(), random.getstate()
    try:
        np.random.seed(99)
        random.seed(99)
        before = states()
        again = mnist1d("")
        assert states() == before
        theirs = make_dataset(get_dataset_args())  # which reseeds both
    finally:
        np.random.set_state(begin[0])
        random.setstate(begin[1])
    for part, other in zip(signals, again, strict=True):
        assert fingerprint(part) == fingerprint(other)
    assert np.array_equal(signals.test.x[:, 0].numpy(), theirs["x_test"].astype(np.float32))
    assert np.array_equal(signals.test.y.numpy(), theirs["y_test"])


def test_no_test_signal_is_a_training_signal(signals):
    assert as_set(signals.train).isdisjoint(as_set(signals.test))


EXAMPLES = Examples(
    torch.randn(6, 1, 4, 4, generator=generator(0, "fingerprint")), torch.tensor([0, 1, 2, 3, 4, 5])
)


def test_equal_examples_have_the_same_fingerprint_however_they_lie_in_memory():
    copy = Examples(
        EXAMPLES.x.clone().transpose(2, 3).contiguous().transpose(2, 3), EXAMPLES.y.clone()
    )
    assert fingerprint(copy) == fingerprint(EXAMPLES)
    assert len(fingerprint(EXAMPLES)) == 16
    int(fingerprint(EXAMPLES), 16)


def test_any_changed_value_or_label_changes_the_fingerprint():
    seen = {fingerprint(EXAMPLES)}
    for i in range(EXAMPLES.x.numel()):
        x = EXAMPLES.x.clone()
        x.view(-1)[i] = torch.nextafter(x.view(-1)[i], torch.tensor(9.0))  # by the least there is
        seen.add(fingerprint(Examples(x, EXAMPLES.y)))
    for i in range(6):
        y = EXAMPLES.y.clone()
        y[i] += 1
        seen.add(fingerprint(Examples(EXAMPLES.x, y)))
    assert len(seen) == 1 + 96 + 6


def test_a_changed_shape_order_or_number_changes_the_fingerprint():
    others = [
        Examples(EXAMPLES.x.reshape(6, 1, 2, 8), EXAMPLES.y),
        Examples(EXAMPLES.x.reshape(6, 16), EXAMPLES.y),
        Examples(EXAMPLES.x.reshape(3, 2, 4, 4), EXAMPLES.y),
        EXAMPLES.rows(torch.tensor([1, 0, 2, 3, 4, 5])),
        EXAMPLES.rows(slice(0, 5)),
        EXAMPLES.rows(slice(0, 0)),
    ]
    assert len({fingerprint(EXAMPLES), *map(fingerprint, others)}) == 7
