"""Rows for networks whose samples are known images, of scikit-learn's digits."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.data.digits import digits
from udl_lab.data.source import Examples
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.schedule import cosine
from udl_lab.diffusion.walks import DDIM, DDPM
from udl_lab.probes.image_samples import ImageSamples
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator
from udl_lab.sample_quality.features import mnist_features
from udl_lab.sample_quality.frechet import frechet_distance
from udl_lab.sample_quality.kernel_distance import kernel_distance

N = 100
EACH = ["frechet", "kernel", "class_variation", "class_variation_baseline", "share_copied"]
TRAIN, TEST = (Examples(2 * part.x - 1, part.y) for part in digits(""))


class Fixed(nn.Module):
    """Says the same clean images whatever it sees, so every walk ends with them."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def forward(self, x, share):
        return self.images[: len(x)]


def subject(images, unaveraged=None, test=TEST):
    net, last = (
        None if x is None else Learned(Fixed(x), cosine(20), "x0") for x in (images, unaveraged)
    )
    return Subject(net.net, net.net, test, -1.0, TRAIN, net, last)


def measured(images, unaveraged=None, **settings):
    settings = {"samplers": [DDIM(2)], "n": N, **settings}
    rows = ImageSamples(**settings)(subject(images, unaveraged))
    return {r.key.removeprefix("/"): r for r in rows}


@pytest.fixture(scope="module")
def features():
    return mnist_features()


@pytest.fixture(scope="module")
def reference():
    """The test images that samples are compared with."""
    return subject(TEST.x).sample(N).x


@pytest.fixture(scope="module")
def copies():
    """A network that gives back training images."""
    return measured(TRAIN.x[:N])


@pytest.fixture(scope="module")
def noise():
    """One that gives noise of each pixel's mean and deviation."""
    drawn = torch.randn(N, 1, 28, 28, generator=generator(0, "noise"))
    return measured(TRAIN.x.mean(0) + TRAIN.x.std(0) * drawn)


def test_there_is_a_baseline_and_rows_for_each_sampler_of_each_set_of_weights(features):
    found = measured(TRAIN.x[:N], TEST.x[:N], samplers=[DDIM(1), DDPM(2)])
    labels = ["@ddim1_eta0", "@ddpm2_small", "/last_weights@ddim1_eta0"]
    wanted = [f"{name}{where}" for where in [*labels, "/last_weights@ddpm2_small"] for name in EACH]
    assert list(found) == ["frechet_baseline", "share_copied_baseline", *wanted]
    # The walks end with the same images by any sampler, and with others by other weights.
    for name in EACH:
        ends = [found[f"{name}{where}"].estimate for where in labels]
        assert ends[0] == ends[1]
    assert found["frechet@ddim1_eta0"].estimate != found["frechet/last_weights@ddim1_eta0"].estimate
    for row in found.values():
        assert row.n == N
        assert row.note.startswith(f"features {features.fingerprint}, n = {N}")


def test_real_images_are_as_far_from_real_ones_as_the_baseline_says(copies):
    """Two sets of a hundred are at 9 to 23, nearly all of it bias, which both have (16)."""
    baseline = copies["frechet_baseline"].estimate
    assert baseline / 3 < copies["frechet@ddim2_eta0"].estimate < 3 * baseline
    row = copies["kernel@ddim2_eta0"]
    assert row.low < 0 < row.high


def test_noise_is_further_by_every_distance(copies, noise):
    assert noise["frechet_baseline"] == copies["frechet_baseline"]
    baseline = noise["frechet_baseline"].estimate
    assert noise["frechet@ddim2_eta0"].estimate > 3 * baseline > 0
    assert noise["kernel@ddim2_eta0"].low > copies["kernel@ddim2_eta0"].high
    assert noise["class_variation@ddim2_eta0"].estimate > 0.3


def test_distances_are_those_of_the_features_to_a_sample_of_the_test_images(
    features, reference, noise, copies
):
    known, seen = features.features(reference), features.features(TRAIN.x[:N])
    assert copies["frechet@ddim2_eta0"].estimate == frechet_distance(seen, known)
    row, kernel = copies["kernel@ddim2_eta0"], kernel_distance(seen, known)
    assert row.estimate == kernel.mmd_squared
    assert row.high - row.estimate == pytest.approx(2 * kernel.standard_error)
    assert row.estimate - row.low == pytest.approx(2 * kernel.standard_error)


def test_the_test_images_themselves_are_at_no_distance(reference):
    found = measured(reference)
    # The eigenvalues' roots: √1e-16 times a trace of some tens.
    assert found["frechet@ddim2_eta0"].estimate < 1e-6
    # Unbiased, so below 0 by what the pairs of an image with itself are worth.
    assert found["kernel@ddim2_eta0"].estimate < 0
    assert found["share_copied@ddim2_eta0"].estimate < 0.05


def test_a_network_that_knows_one_digit_is_off_by_the_share_of_the_others(features):
    """As the classifier names the test split's: what it gets wrong is wrong in both."""
    threes = TRAIN.x[:N][features.classes(TRAIN.x[:N]) == 3]
    found = measured(threes.repeat(N, 1, 1, 1)[:N])
    share = (features.classes(TEST.x) == 3).double().mean()
    assert abs(share - (TEST.y == 3).double().mean()) > 0.04  # of which it makes too many
    assert found["class_variation@ddim2_eta0"].estimate == pytest.approx(1 - float(share))


def test_what_chance_alone_does_to_the_shares_is_known(features, copies):
    """By drawing: the mean total variation of a hundred draws from the test split's shares."""
    shares = np.bincount(features.classes(TEST.x).numpy(), minlength=10) / len(TEST.y)
    counts = np.random.default_rng(0).multinomial(N, shares, 4000)
    drawn = np.abs(counts / N - shares).sum(1) / 2
    baseline = copies["class_variation_baseline@ddim2_eta0"].estimate
    assert baseline == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 4000**0.5)
    # Training images are such draws, but for the difference of the splits.
    found = copies["class_variation@ddim2_eta0"].estimate
    assert found == pytest.approx(baseline, abs=4 * drawn.std())


def test_copies_are_counted_among_so_many_training_images(copies, noise):
    assert copies["share_copied@ddim2_eta0"].estimate == 1
    assert noise["share_copied@ddim2_eta0"].estimate == 0
    assert measured(TRAIN.x[:N], n_train=60)["share_copied@ddim2_eta0"].estimate < 0.65


def test_more_than_half_of_the_test_images_are_refused():
    with pytest.raises(ValueError, match=r"two disjoint sets of 181 .* give n from 2 to 180"):
        measured(TRAIN.x[:N], n=181)


def test_images_of_another_size_are_refused():
    small = Examples(TEST.x[:, :, ::2, ::2], TEST.y)
    with pytest.raises(ValueError, match=re.escape("(100, 1, 14, 14); the features are of grey")):
        ImageSamples(n=N)(subject(TRAIN.x, test=small.rows(slice(0, N))))


def test_images_in_another_range_are_refused():
    raw = Examples((TEST.x + 1) / 2, TEST.y)
    with pytest.raises(ValueError, match=r"the features are of pixels in \[-1, 1\]"):
        ImageSamples(n=N)(subject(TRAIN.x, test=raw))


def test_a_network_that_is_no_denoiser_is_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="Linear is no denoiser; measure a run with model=diff"):
        ImageSamples()(Subject(net, net, TEST, -1.0, TRAIN))
