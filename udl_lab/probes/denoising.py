"""How well a network denoises, level by level, beside what nothing can beat."""

import torch
from torch import Tensor

from udl_lab.data.source import Examples
from udl_lab.diffusion.denoisers import Denoiser, Empirical, GaussianMixture
from udl_lab.diffusion.laws import Law, make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.objectives import irreducible_error
from udl_lab.diffusion.process import diffuse
from udl_lab.diffusion.schedule import Schedule
from udl_lab.probes.statistics import mean
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


class Denoising:
    """The squared error of ε̂ on the test split, averaged over dimensions, at chosen levels.

    Whatever the network predicts, its ε̂ is judged, so networks with different targets compare.
    A row per level (element `t<level>`) and one for their mean, with t intervals over examples:

    - `eps_error`: E‖ε − ε̂‖² per dimension;
    - `floor`: that of E[ε | x_t], where the law of the data is given: no network is better. It is
      the mean of a conditional variance; `eps_error_exact` is the squared error itself on the very
      noise that `eps_error` is of, and the two may be subtracted;
    - `excess`: E‖ε̂ − E[ε | x_t]‖² per dimension, the mean of their difference, measured directly;
    - `excess_empirical`: the same, of a data set that consists of the training examples alone. A
      network that has learned them by heart has little of it; one that has learned the law has
      little `excess`.

    The site `last_weights` marks rows of the last weights, where the others are of their average.
    """

    of_denoisers = True

    def __init__(
        self,
        law: Law | None = None,
        n_levels: Positive = 20,
        n_examples: Positive = 2000,
        empirical: bool = False,
    ) -> None:
        """Say what is measured.

        Args:
            law: of the data, if it is known.
            n_levels: so many levels, evenly spaced, the last among them.
            n_examples: so many examples of the test split, each with its own noise at each level.
            empirical: whether the training examples are compared with as well.
        """
        self.law: Law | None = law
        self.n_levels = n_levels
        self.n_examples = n_examples
        self.empirical = empirical

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure each set of weights.

        Raises:
            ValueError: when the network is no denoiser, or the law is not one of such examples.
        """
        denoisers = subject.denoisers()
        schedule = denoisers[""].schedule
        truths: dict[str, Denoiser] = {}
        if self.law is not None:
            truths["excess"] = law_of(subject.examples.x, self.law, schedule)
        if self.empirical and subject.train is not None:
            truths["excess_empirical"] = Empirical(schedule, subject.train.x)
        rows = []
        for site, denoiser in denoisers.items():
            with evaluating(denoiser.net):
                rows += self._rows(denoiser, truths, subject.sample(self.n_examples), site)
        return rows

    def _rows(
        self, denoiser: Learned, truths: dict[str, Denoiser], examples: Examples, site: str
    ) -> list[Row]:
        schedule = denoiser.schedule
        n = min(self.n_levels, schedule.n_steps)
        levels = [schedule.n_steps * (i + 1) // n for i in range(n)]
        found: dict[str, list[Tensor]] = {}
        for t in levels:
            for name, values in _at_level(denoiser, truths, examples.x, t).items():
                found.setdefault(name, []).append(values)
        rows = []
        for name, by_level in found.items():
            whole = torch.stack(by_level).mean(0)
            note = "squared, per dimension"
            rows.append(row(name, mean(whole.numpy()), len(whole), site=site, note=note))
            rows += [
                row(name, mean(v.numpy()), len(v), site=site, element=f"t{t}", note=note)
                for t, v in zip(levels, by_level, strict=True)
            ]
        return rows


def law_of(x: Tensor, law: Law, schedule: Schedule) -> GaussianMixture:
    """A law by its name, once examples have its dimensions: others would broadcast against it.

    Raises:
        ValueError: when they have not.
    """
    found = make_law(law, schedule)
    if x.shape[1:] != found.means.shape[1:]:
        raise ValueError(
            f"law={law!r} is of vectors of {found.means.shape[1]} numbers, and the examples have "
            f"the shape {tuple(x.shape[1:])}; name the law of the data, or none"
        )
    return found


def _at_level(
    denoiser: Learned, truths: dict[str, Denoiser], x0: Tensor, t: int
) -> dict[str, Tensor]:
    """Each number for each example, in double precision."""
    eps = torch.randn(x0.shape, generator=generator(0, "denoising", t), dtype=x0.dtype)
    x_t = diffuse(denoiser.schedule, x0, t, eps)
    said = denoiser(x_t, t).eps.double()
    found = {"eps_error": _square(eps - said)}
    for name, truth in truths.items():
        found[name] = _square(truth(x_t.double(), t).eps - said)
    if "excess" in truths:
        found["eps_error_exact"] = _square(eps - truths["excess"](x_t.double(), t).eps)
        found["floor"] = irreducible_error(truths["excess"], "eps", x0.double(), t, eps.double())
    return found


def _square(error: Tensor) -> Tensor:
    return error.square().flatten(1).mean(1)
