"""The book's table of noise in a network's place: as it should be, and as it was published."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from udl_lab.diffusion import legacy_lookup
from udl_lab.diffusion.denoisers import GaussianMixture
from udl_lab.diffusion.laws import Law, make_law
from udl_lab.diffusion.lookup import fit_lookup
from udl_lab.diffusion.samplers import draw_prior
from udl_lab.diffusion.walks import DDIM, DDPM, Walk, end
from udl_lab.probes.line_samples import Cdf
from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.sample_quality.line import ks_distance, wasserstein_to_law

PUBLISHED: Mapping[str, Callable[..., Tensor]] = {
    "18.3_alpha_t": partial(legacy_lookup.sample_18_3, shift=0),
    "18.3_alpha_t_plus_1": partial(legacy_lookup.sample_18_3, shift=1),
    "18.4_100": legacy_lookup.sample_18_4,
    "18.4_20": partial(legacy_lookup.sample_18_4, n_steps=20, sigma=0.11),
}
# With the formula's own α, and still noise on the last step.
MENDED_BY_HALF = {"18.4_100_alpha_t": partial(legacy_lookup.sample_18_4, shift=0)}


class LookupSamples:
    """How far samplers end from a law on the line with a table of noise, counted on fresh draws.

    Nothing of the subject is looked at but its schedule. The seed draws the examples, the noise of
    the table, the starts from N(0, 1) and the noise on the way; distances are of these samples, to
    the law itself. Rows by sampler (element):

    - `w1`, `ks`: Wasserstein's and Kolmogorov's distance with the table of `diffusion.lookup`;
    - `w1` at the site `legacy`: with the notebooks' tables and samplers, defects and all, and the
      book's T = 100 and β = .01511 whatever the schedule (see `diffusion.legacy_lookup`);
    - `share_nan` at the same site: samples lost when 18.4 is given the right α and keeps its noise
      on the last step.
    """

    of_denoisers = True

    def __init__(
        self,
        law: Law = "book",
        seed: int = 0,
        n_train: Positive = 100_000,
        n: Positive = 100_000,
        samplers: Sequence[Walk] = (DDPM(100, "large"), DDPM(100), DDIM(100), DDIM(20)),
    ) -> None:
        """Say what is measured.

        Args:
            law: of the data, on the line.
            seed: of every draw.
            n_train: how many examples a table is counted on.
            n: how many walks each sampler takes.
            samplers: those walked with the table; the large variance at all levels is the book's
                fixed σ = √β, but for the last step, which has no noise.
        """
        self.law: Law = law
        self.seed = seed
        self.n_train = n_train
        self.n = n
        self.samplers = list(samplers)

    def __call__(self, subject: Subject) -> list[Row]:
        """Count both tables and walk.

        Raises:
            ValueError: when the network is no denoiser, or the law is not on a line.
        """
        oracle = make_law(self.law, subject.denoisers()[""].schedule)
        if oracle.means.shape[1] != 1:
            raise ValueError(f"law={self.law!r} is not on a line; take book or three_modes")
        examples = oracle.sample(self.n_train, generator(self.seed, "lookup", "examples"))
        return self._table(oracle, examples) + self._published(oracle, examples[:, 0])

    def _table(self, oracle: GaussianMixture, examples: Float64[Tensor, "example 1"]) -> list[Row]:
        noise = generator(self.seed, "lookup", "noise")
        table, cdf = fit_lookup(oracle.schedule, examples, noise), Cdf(oracle)
        rows = []
        for sampler in self.samplers:
            stream = generator(self.seed, "lookup", sampler.label)
            samples = end(sampler, table, self._start(), stream)[:, 0]
            found = {
                "w1": wasserstein_to_law(samples, cdf),
                "ks": ks_distance(samples, cdf),
            }
            rows += [self._row(name, value, sampler.label) for name, value in found.items()]
        return rows

    def _published(
        self, oracle: GaussianMixture, examples: Float64[Tensor, " example"]
    ) -> list[Row]:
        noise = generator(self.seed, "lookup", "published noise")
        said = legacy_lookup.answers(legacy_lookup.train(examples, noise))

        def end(name: str, sampler: Callable[..., Tensor]) -> Tensor:
            return sampler(said, self._start()[:, 0], generator(self.seed, "lookup", name))

        rows = []
        for name, sampler in PUBLISHED.items():
            value = wasserstein_to_law(end(name, sampler), Cdf(oracle))
            rows.append(self._row("w1", value, name, "legacy"))
        for name, sampler in MENDED_BY_HALF.items():
            value = float(end(name, sampler).isnan().double().mean())
            rows.append(self._row("share_nan", value, name, "legacy"))
        return rows

    def _start(self) -> Float64[Tensor, "sample 1"]:
        return draw_prior(self.n, (1,), generator(self.seed, "lookup", "start"), torch.float64)

    def _row(self, metric: str, value: float, element: str, site: str = "") -> Row:
        note = "in the data's unit" if metric == "w1" else ""
        return row(metric, Interval.alone(value), self.n, site=site, element=element, note=note)
