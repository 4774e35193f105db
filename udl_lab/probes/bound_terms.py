"""What test examples cost under a diffusion model by the variational bound, term by term."""

import math
from copy import deepcopy
from dataclasses import replace
from typing import Literal

from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.variational_bound import bits_per_dimension, variational_bound
from udl_lab.probes.statistics import mean
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive, PositiveFloat


class BoundTerms:
    """A bound on −log p of test examples (Ho et al. 2020, eq. 5), with t intervals over examples.

    - `bound`, in nats per example: the whole, and its parts `bound@prior`, `bound@steps` and
      `bound@reconstruction`;
    - `bits_per_dimension`, of the whole.

    One draw of noise per example and step, the same for every set of weights; computed in double
    precision.
    """

    of_denoisers = True

    def __init__(
        self,
        n: Positive = 50,
        steps: Positive | None = None,
        variance: Literal["small", "large", "learned"] = "small",
        bin_width: PositiveFloat | None = None,
    ) -> None:
        """Say what is measured.

        Args:
            n: so many test examples.
            steps: of the ancestral sampler whose bound it is; all levels if `None`.
            variance: of its steps.
            bin_width: of pixels in [-1, 1], 2/255 for 8 bits: −log p is then a probability's, and a
                density's if `None`.
        """
        self.n = n
        self.steps = steps
        self.variance: Literal["small", "large", "learned"] = variance
        self.bin_width = bin_width

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure each set of weights.

        Raises:
            ValueError: when the network is no denoiser, or learned no variance and should have.
        """
        rows = []
        for site, denoiser in subject.denoisers().items():
            rows += self._of(denoiser, subject, site)
        return rows

    def _of(self, denoiser: Learned, subject: Subject, site: str) -> list[Row]:
        x0 = subject.sample(self.n).x
        plan = make_plan(denoiser.schedule, self.steps or denoiser.schedule.n_steps)
        exact = replace(denoiser, net=deepcopy(denoiser.net).double())
        noise = generator(0, "bound")
        with evaluating(exact.net):
            bound = variational_bound(exact, plan, x0, noise, self.variance, self.bin_width)
        parts = {
            "": bound.total,
            "prior": bound.prior,
            "steps": bound.steps.sum(0),
            "reconstruction": bound.reconstruction,
        }
        bits = bits_per_dimension(bound.total, math.prod(x0.shape[1:]))
        rows = [
            row("bound", mean(nats.numpy()), len(x0), site=site, element=name, note="nats")
            for name, nats in parts.items()
        ]
        return [*rows, row("bits_per_dimension", mean(bits.numpy()), len(x0), site=site)]
