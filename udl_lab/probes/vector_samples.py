"""Samples of vectors or signals against real ones that the network was not trained on."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.laws import Law
from udl_lab.diffusion.samplers import draw_prior
from udl_lab.diffusion.walks import DDIM, Walk, end, suits_oracles
from udl_lab.probes.denoising import law_of
from udl_lab.probes.statistics import Interval, proportion
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.sample_quality.memorisation import nearest_ratio, share_closer_to_train, share_copied
from udl_lab.sample_quality.mmd import two_sample_test
from udl_lab.sample_quality.sliced import sliced_wasserstein


class VectorSamples:
    """How far samplers end from held-out examples.

    Rows by sampler (element):

    - `sliced_w2`: root mean squared W2 over 256 directions, in the data's unit;
    - `mmd2`, `mmd_p`: unbiased squared MMD, median kernel, and the p-value of "the same law";
    - `share_copied`: samples under a third as far from a training example as from the next one
      (Wilson interval);
    - `share_closer_to_train`: samples nearer to the training set than to held-out examples of the
      same number, ½ for fresh ones (Wilson interval, by an effective number of samples); of a
      training set smaller than n, against as few held-out examples;
    - with a law: `sliced_w2_exact`, the same sampler with the exact score (which says no variance:
      not with `variance=learned`).

    And for scale `sliced_w2_baseline`, as many training examples (or all there are) against the
    same held-out ones, and `share_copied_baseline`, of the held-out ones: in few dimensions a third
    is often reached by chance. Distances have no interval.
    """

    of_denoisers = True

    def __init__(
        self,
        samplers: Sequence[Walk] = (DDIM(20), DDIM(100)),
        law: Law | None = None,
        n: Positive = 1000,
    ) -> None:
        """Say what is measured.

        Args:
            samplers: each starts from the same noise.
            law: of the data, if it is known.
            n: samples of each sampler, and held-out examples; fewer if there are no more of these.
        """
        self.samplers = list(samplers)
        self.law: Law | None = law
        self.n = n

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure each set of weights.

        Raises:
            ValueError: when the network is no denoiser, or the law is not one of such examples.
        """
        denoisers = subject.denoisers()
        assert subject.train is not None
        real = subject.sample(self.n).x
        n = len(real)
        mixed = torch.randperm(len(subject.train.x), generator=generator(0, "training examples"))
        train = subject.train.x[mixed]
        alike = subject.sample(min(n, len(train))).x
        oracle = None if self.law is None else law_of(real, self.law, denoisers[""].schedule)
        rows = [self._row("sliced_w2_baseline", _sliced(train[:n], real), len(train[:n]))]
        rows.append(row("share_copied_baseline", copied(real, train), n))
        noise = draw_prior(n, tuple(real.shape[1:]), generator(0, "sampled noise"))
        for site, denoiser in denoisers.items():
            with evaluating(denoiser.net):
                for sampler in self.samplers:
                    samples = _end(sampler, denoiser, noise)
                    rows += self._distances(samples, real, site, sampler.label)
                    rows += self._memory(samples, train, alike, site, sampler.label)
        if oracle is not None:
            for sampler in filter(suits_oracles, self.samplers):
                exact = _end(sampler, oracle, noise.double())
                value = _sliced(exact, real)
                rows.append(self._row("sliced_w2_exact", value, n, element=sampler.label))
        return rows

    def _distances(self, samples: Tensor, real: Tensor, site: str, element: str) -> list[Row]:
        stream = generator(0, "permuted samples", element)
        test = two_sample_test(samples.flatten(1), real.flatten(1), stream)
        found = {
            "sliced_w2": _sliced(samples, real),
            "mmd2": test.mmd_squared,
            "mmd_p": test.p_value,
        }
        return [self._row(name, found[name], len(samples), site, element) for name in found]

    def _memory(
        self, samples: Tensor, train: Tensor, held_out: Tensor, site: str, element: str
    ) -> list[Row]:
        """Of a training set in random order, and held-out examples that are no more than these."""
        n, flat, known = len(samples), samples.flatten(1), train.flatten(1)
        closer = share_closer_to_train(flat, known[: len(held_out)], held_out.flatten(1))
        interval = Interval(closer.estimate, closer.low, closer.high)
        return [
            row("share_copied", copied(samples, train), n, site=site, element=element),
            row("share_closer_to_train", interval, n, site=site, element=element),
        ]

    def _row(self, metric: str, value: float, n: int, site: str = "", element: str = "") -> Row:
        return row(metric, Interval.alone(value), n, site=site, element=element)


def copied(x: Tensor, train: Tensor) -> Interval:
    """The share of examples that are copies of training examples."""
    n = len(x)
    share = share_copied(nearest_ratio(x.flatten(1), train.flatten(1)))
    return proportion(round(share * n), n)


def _end(sampler: Walk, denoiser: Denoiser, noise: Tensor) -> Float[Tensor, " sample *shape"]:
    return end(sampler, denoiser, noise, generator(0, "sampler noise", sampler.label))


def _sliced(a: Tensor, b: Tensor) -> float:
    return sliced_wasserstein(a.flatten(1), b.flatten(1), generator(0, "directions"))
