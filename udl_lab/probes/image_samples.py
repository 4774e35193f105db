"""Samples of digits against real ones: in features, by class, and against the training set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.samplers import draw_prior
from udl_lab.diffusion.walks import DDIM, Walk, end
from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.probes.vector_samples import copied
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.sample_quality.class_histogram import class_histogram
from udl_lab.sample_quality.features import FeatureNet, mnist_features
from udl_lab.sample_quality.frechet import frechet_distance, matched_baseline
from udl_lab.sample_quality.kernel_distance import kernel_distance


class ImageSamples:
    """How far samplers end from test digits, in the lab's own pinned features.

    Rows by sampler (element):

    - `frechet`: the Fréchet distance of the features, biased upward by the number of samples;
    - `kernel`: the unbiased kernel distance of the features, ± 2 standard errors;
    - `class_variation`: total variation between the classes' shares and the whole test split's, all
      as the features' own classifier names them, so that its errors cancel;
    - `share_copied`: samples under a third as far from a training image as from the next one
      (Wilson interval).

    And what real images of the same number score: `frechet_baseline`, the mean over 20 random pairs
    of disjoint sets of test images (their range is in its note), `class_variation_baseline`, by
    chance, and `share_copied_baseline`, of the test images. Distances have no interval but the
    kernel's.

    Distances in these features compare with nothing outside the lab.
    """

    of_denoisers = True

    def __init__(
        self,
        samplers: Sequence[Walk] = (DDIM(20),),
        n: Positive = 1000,
        n_train: Positive = 10_000,
    ) -> None:
        """Say what is measured.

        Args:
            samplers: each starts from the same noise.
            n: samples of each sampler, and test images; at most half of these.
            n_train: training images that samples are compared with one by one.
        """
        self.samplers = list(samplers)
        self.n = n
        self.n_train = n_train

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure each set of weights.

        Raises:
            ValueError: when the network is no denoiser of 28 × 28 images.
        """
        denoisers = subject.denoisers()
        assert subject.train is not None
        features = mnist_features()
        real = subject.sample(self.n).x
        held_out = features.features(subject.examples.x)
        reference = features.features(real)
        n = len(reference)
        note = f"features {features.fingerprint}, n = {n}"
        shares = torch.bincount(features.classes_of(held_out), minlength=10) / len(held_out)
        rows = [_baseline(held_out, n, note)]
        train = subject.train.x[: self.n_train]
        rows.append(row("share_copied_baseline", copied(real, train), n, note=note))
        noise = draw_prior(n, tuple(real.shape[1:]), generator(0, "sampled noise"))
        for site, denoiser in denoisers.items():
            for sampler in self.samplers:
                samples = _end(sampler, denoiser, noise)
                found = _distances(samples, features, reference, shares, train)
                rows += [
                    row(name, interval, n, site=site, element=sampler.label, note=note)
                    for name, interval in found.items()
                ]
        return rows


def _distances(
    samples: Tensor, features: FeatureNet, reference: Tensor, shares: Tensor, train: Tensor
) -> dict[str, Interval]:
    seen = features.features(samples)
    kernel = kernel_distance(seen, reference)
    value, error = kernel.mmd_squared, kernel.standard_error
    classes = class_histogram(features.classes_of(seen), shares)
    return {
        "frechet": Interval.alone(frechet_distance(seen, reference)),
        "kernel": Interval(value, value - 2 * error, value + 2 * error),
        "class_variation": Interval.alone(classes.total_variation),
        "class_variation_baseline": Interval.alone(classes.total_variation_by_chance),
        "share_copied": copied(samples, train),
    }


def _end(sampler: Walk, denoiser: Learned, noise: Tensor) -> Tensor:
    with evaluating(denoiser.net):
        return end(sampler, denoiser, noise, generator(0, "sampler noise", sampler.label))


def _baseline(held_out: Tensor, n: int, note: str, pairs: int = 20) -> Row:
    streams = (generator(0, "real against real", i) for i in range(pairs))
    found = [matched_baseline(held_out, n, stream) for stream in streams]
    note = f"{note}, {pairs} pairs from {min(found):.1f} to {max(found):.1f}"
    return row("frechet_baseline", Interval.alone(sum(found) / pairs), n, note=note)
