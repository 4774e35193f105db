"""Samples of a law on the line, against the law itself: distances without sampling noise."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import ndtr, ndtri
from torch import Tensor

from udl_lab.diffusion.denoisers import Denoiser, GaussianMixture
from udl_lab.diffusion.error_budget import error_budget
from udl_lab.diffusion.laws import Law, make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.walks import DDIM, Walk, end, suits_oracles
from udl_lab.probes.statistics import Interval, mean
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.sample_quality.line import ks_distance, midpoints, wasserstein_to_law


class LineSamples:
    """How far samplers end from a law on the line, with the network and with the exact score.

    Walks start from the quantiles of N(0, 1), not from draws of it: a deterministic sampler has no
    sampling noise then, and its distance to the law is exact up to the grid of quantiles. A random
    sampler draws its steps' noise, from the same stream for every run. Rows by sampler (element):

    - `w1`, `ks`: Wasserstein's and Kolmogorov's distance of the network's samples to the law;
    - `w1_exact`: W1 with the exact score in the network's place;
    - `w1_true_start`: the same, started from the true q(x_t); as `w1_exact` not where
      the network says the variance (`variance=learned`);
    - for `budget`, the shares of the error (`budget_<share>`, see `diffusion.error_budget`).

    And `w1_of_draws`: the mean W1 of as many fresh draws of the law, what chance alone does, with a
    t interval over five such sets. Deterministic samplers are exact, random ones have no interval.
    """

    of_denoisers = True

    def __init__(
        self,
        law: Law,
        samplers: Sequence[Walk] = (DDIM(20), DDIM(100)),
        budget: Walk | None = None,
        n: Positive = 20_000,
    ) -> None:
        """Say what is measured.

        Args:
            law: of the data, on the line.
            samplers: each is walked three times.
            budget: a deterministic sampler whose error is taken apart; `None` for none.
            n: how many walks each sampler takes.
        """
        self.law: Law = law
        self.samplers = list(samplers)
        self.budget = budget
        self.n = n

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure each set of weights.

        Raises:
            ValueError: when the network is no denoiser, or the law is not on a line.
        """
        denoisers = subject.denoisers()
        oracle = make_law(self.law, denoisers[""].schedule)
        if oracle.means.shape[1] != 1:
            raise ValueError(f"law={self.law!r} is not on a line; take book or three_modes")
        rows = [row("w1_of_draws", self._of_draws(oracle), self.n, note="in the data's unit")]
        for site, denoiser in denoisers.items():
            with evaluating(denoiser.net):
                for sampler in self.samplers:
                    rows += self._rows(denoiser, sampler, oracle, site)
                if self.budget is not None:
                    rows += self._budget(denoiser, self.budget, oracle, site)
        return rows

    def _rows(
        self, denoiser: Learned, sampler: Walk, oracle: GaussianMixture, site: str
    ) -> list[Row]:
        plan = make_plan(oracle.schedule, sampler.steps, sampler.spacing)
        noise, start = self._starts(oracle, plan.start)
        cdf = Cdf(oracle)

        def ends(of: Denoiser, x: Tensor) -> Tensor:
            stream = generator(0, "line samples", sampler.label)
            return end(sampler, of, x, stream)[:, 0].double()

        samples = ends(denoiser, noise.float())
        found = {
            "w1": wasserstein_to_law(samples, cdf),
            "ks": ks_distance(samples, cdf),
        }
        if suits_oracles(sampler):
            found["w1_exact"] = wasserstein_to_law(ends(oracle, noise), cdf)
            found["w1_true_start"] = wasserstein_to_law(ends(oracle, start), cdf)
        return self._of_sampler(found, sampler, site)

    def _budget(
        self, denoiser: Learned, sampler: Walk, oracle: GaussianMixture, site: str
    ) -> list[Row]:
        plan = make_plan(oracle.schedule, sampler.steps, sampler.spacing)
        noise, start = self._starts(oracle, plan.start)
        cdf = Cdf(oracle)
        found = error_budget(
            denoiser,
            oracle,
            lambda of, levels, x: sampler.along(of, levels, x, generator(0, "budget")),
            plan,
            noise,
            start,
            lambda x: wasserstein_to_law(x[:, 0].double(), cdf),
        )
        shares = {f"budget_{name}": value for name, value in vars(found).items()}
        return self._of_sampler(shares, sampler, site)

    def _starts(self, oracle: GaussianMixture, t: int) -> tuple[Tensor, Tensor]:
        """The quantiles of N(0, 1) and of q(x_t), a column each."""
        u = midpoints(self.n)
        noise = torch.from_numpy(ndtri(u.numpy()))
        return noise.unsqueeze(1), quantiles(oracle, u, t).unsqueeze(1)

    def _of_draws(self, oracle: GaussianMixture, repeats: int = 5) -> Interval:
        cdf = Cdf(oracle)
        streams = (generator(0, "line draws", i) for i in range(repeats))
        draws = [oracle.sample(self.n, stream)[:, 0] for stream in streams]
        return mean(np.array([wasserstein_to_law(x, cdf) for x in draws]))

    def _of_sampler(self, found: dict[str, float], sampler: Walk, site: str) -> list[Row]:
        interval = Interval.alone if sampler.random else Interval.exact
        return [
            row(
                name,
                interval(value),
                self.n,
                site=site,
                element=sampler.label,
                note="" if name == "ks" else "in the data's unit",
            )
            for name, value in found.items()
        ]


class Cdf:
    """The distribution function of a mixture on the line, at a level."""

    def __init__(self, mixture: GaussianMixture, t: int = 0) -> None:
        alpha_bar = float(mixture.schedule.at(t))
        self.weights = mixture.weights.numpy()
        self.means = math.sqrt(alpha_bar) * mixture.means[:, 0].numpy()
        self.deviations = np.sqrt(alpha_bar * mixture.variances.numpy() + 1 - alpha_bar)

    def __call__(self, x: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """P(X ≤ x)."""
        z = (x.numpy()[..., None] - self.means) / self.deviations
        return torch.from_numpy(ndtr(z) @ self.weights)


def quantiles(
    mixture: GaussianMixture, u: Float64[Tensor, " quantile"], t: int = 0
) -> Float64[Tensor, " quantile"]:
    """The values that x_t is below with these probabilities, by bisection to 1e-12.

    Args:
        mixture: on the line.
        u: probabilities between 0 and 1.
        t: the level.
    """
    cdf = Cdf(mixture, t)
    reach = 40 * cdf.deviations.max() + np.abs(cdf.means).max()
    low, high = torch.full_like(u, -reach), torch.full_like(u, reach)
    for _ in range(math.ceil(math.log2(2 * reach / 1e-12))):
        middle = (low + high) / 2
        below = cdf(middle) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
