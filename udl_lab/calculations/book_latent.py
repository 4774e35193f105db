"""UDL, notebook 17.1: a latent model with nothing to learn, its density and posterior exactly."""

import math
import sys
from collections.abc import Iterator, Sequence
from functools import cache

import pandas as pd
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from scipy import integrate
from torch import Tensor

from udl_lab.calculations.estimator_rows import ManyDraws, estimator_rows
from udl_lab.calculations.result import Result
from udl_lab.closed_form.moments import CHUNK, Moments, Running
from udl_lab.figures.bound_by_k import bound_by_k
from udl_lab.figures.curve_over_density import curve_over_density
from udl_lab.figures.posterior_and_prior import posterior_and_prior
from udl_lab.latent import bounds
from udl_lab.latent.book_curve import (
    VARIANCE,
    curve,
    log_likelihood,
    log_marginal,
    posterior,
    sample,
)
from udl_lab.latent.quadrature import log_evidence
from udl_lab.probes import statistics
from udl_lab.probes.statistics import Interval
from udl_lab.probes.table import Row, records, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive

_SPACING = 0.05  # of the grid over x: a quarter of the noise's deviation
_COARSE = 401  # points of z where log p(x) is wanted of many x: it is right to 2e-9 nats
_DRAWN = 500  # samples in the figure, as in the notebook
_X2_OF_THE_TEXT = math.sin(2) * math.exp(-(2.85**2) / 2)  # E[x2], were it the sine


class BookLatent:
    """The marginal, the posterior at a point and ancestral samples of `latent.book_curve`.

    Numbers by quadrature, each beside what draws say of it (`estimator_rows`): the mean of x1 and
    x2, the mean log p(x) of samples, and p(x) at the point as the mean likelihood of draws of z
    from the prior. The logarithm of such a mean of k draws is a bound on log p(x), in rows `bound`.
    Rows with the element `notebook` and `text` are what the notebook computes and what it says.
    """

    def __init__(
        self,
        point: Sequence[float] = (0.9, -0.9),
        n: ManyDraws = 1_000_000,
        ks: Sequence[Positive] = (10, 100, 1000, 10_000),
    ) -> None:
        """Say what is calculated.

        Args:
            point: where density and posterior are wanted, (x1, x2).
            n: ancestral samples, and as many draws of z from the prior.
            ks: draws behind each bound on log p(point); the n draws make n // k bounds.

        Raises:
            ValueError: for a point not of the plane or too far from the curve, or a k over n.
        """
        if len(point) != 2 or not all(math.isfinite(x) for x in point):
            raise ValueError(f"point={list(point)}: give two finite numbers, x1 and x2")
        if max(ks, default=0) > n:
            raise ValueError(f"ks={list(ks)}: a bound needs k draws and n={n}; choose k up to {n}")
        self.point = torch.tensor([list(point)], dtype=torch.float64)
        # Further out p(x|z)⁴ rounds to 0, and soon p(x|z) itself: all draws are then equal.
        if not _raw_moments(self.point)[-1] >= sys.float_info.min:
            log_p = float(log_marginal(self.point).log_prob)
            raise ValueError(
                f"point={list(point)}: p(x) = e^({log_p:.4g}) is so small that the fourth moment "
                "of its likelihood is 0 in double precision; take a point within 3 of the curve, "
                "which lies in [0.18, 1.36] x [-1, 1]"
            )
        self.n = n
        self.ks = list(ks)

    def __call__(self, seed: int) -> Result:
        """Integrate, and draw."""
        prior_draws, rungs = self._prior_draws(seed)
        rows = [*self._exact(), *self._notebook(), *self._drawn(seed), *prior_draws, *rungs]
        return Result(rows, self._figures(seed, rungs))

    def _figures(self, seed: int, rungs: Sequence[Row]) -> dict[str, Figure]:
        where = "({:g}, {:g})".format(*self.point[0].tolist()).replace("-", "−")
        z = torch.linspace(-3, 3, 601, dtype=torch.float64)
        drawn = sample(_DRAWN, generator(seed, "book_latent", "figure"))[1]
        _, x1, x2 = _grid()
        grid = posterior(self.point)
        exact = float(log_marginal(self.point).log_prob)
        figures = {
            "curve_over_density": curve_over_density(
                x1, x2, _plane().exp(), z, curve(z), drawn, self.point[0],
                "x = (exp(sin(2 + 3.675 z)) / 2, cos(2 + 2.85 z)) + noise of variance "
                f"{VARIANCE:g}, z ~ N(0, 1); seed {seed}",
            ),
            "posterior": posterior_and_prior(
                grid.axis, grid.density[:, 0], f"What x = {where} says about z"
            ),
        }  # fmt: skip
        title = f"log p(x) at x = {where} from draws of the prior, seed {seed}"
        ladder = bound_by_k(pd.DataFrame(records(rungs)), title, exact) if rungs else None
        return figures if ladder is None else {**figures, "bound_by_k": ladder}

    def _exact(self) -> list[Row]:
        """What has no error but rounding: integrals over z and over the plane."""
        log_prob = log_marginal(self.point).log_prob
        fine = posterior(self.point, 16_001)
        density = fine.density[:, 0]
        peak = int(density.argmax())
        moments = fine.moments()
        numbers = {
            ("density", "point"): log_prob.exp(),
            ("log_density", "point"): log_prob,
            ("mass", "marginal"): _plane().exp().sum() * _SPACING**2,
            # By another rule than the one that it is normalised with.
            ("mass", "posterior"): integrate.simpson(density.numpy(), x=fine.axis.numpy()),
            ("peak", "posterior"): density[peak],
            ("mode", "posterior"): fine.axis[peak],
            ("mean", "posterior"): moments.mean,
            ("std", "posterior"): moments.log_std.exp(),
            ("effective_share", "prior_draws"): _likelihood(self.point).effective_share,
        }
        return [_row(*where, float(value)) for where, value in numbers.items()]

    def _notebook(self) -> list[Row]:
        """The same as the notebook computes it, and as its text says."""
        z = torch.arange(-300, 300, dtype=torch.float64) / 100
        prior = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
        joint = log_likelihood(self.point, z)[:, 0].exp() * prior
        numbers = {
            ("mass", "marginal", "notebook"): prior.sum() * 0.01,
            ("density", "point", "notebook"): joint.sum() * 0.01,
            ("density", "point", "text"): joint.sum() / 0.01,  # "divide by the z-increment"
            ("peak", "posterior", "notebook"): (joint / joint.sum()).max(),
            ("mean_exact", "x2", "text"): _X2_OF_THE_TEXT,
        }
        return [_row(metric, site, float(v), name) for (metric, site, name), v in numbers.items()]

    def _drawn(self, seed: int) -> list[Row]:
        """Ancestral samples beside the moments of the law that they should follow."""
        found: dict[str, Running] = {}
        for x in _samples(self.n, generator(seed, "book_latent", "samples")):
            values = {
                "x1": x[:, 0],
                "x2": x[:, 1],
                "log_density": log_marginal(x, _COARSE).log_prob,
            }
            for name, part in values.items():
                new = Running.of(part)
                found[name] = found[name].plus(new) if name in found else new
        truths = {"x1": _coordinate(0), "x2": _coordinate(1), "log_density": _log_density()}
        rows = [
            r for name, drawn in found.items()
            for r in estimator_rows(name, "samples", drawn, truths[name])
        ]  # fmt: skip
        x2 = found["x2"]
        off = (x2.mean - _X2_OF_THE_TEXT) / x2.standard_error
        z = Interval(off, off - 1.96, off + 1.96)
        return [*rows, row("z", z, self.n, site="x2", element="text", note="in standard errors")]

    def _prior_draws(self, seed: int) -> tuple[list[Row], list[Row]]:
        """The point's likelihood at draws from the prior: their mean, and bounds from k of them."""
        noise = generator(seed, "book_latent", "prior")
        z = torch.randn(self.n, generator=noise, dtype=torch.float64)
        log_weights = log_likelihood(self.point, z)[:, 0]
        drawn, truth = Running.of(log_weights.exp()), _likelihood(self.point)
        rungs = []
        for k in self.ks:
            each = bounds.iwae_of_groups(log_weights[:, None], k)[:, 0]
            where = {"site": "prior_draws", "element": f"k{k}"}
            rungs.append(row("bound", statistics.mean(each.numpy()), len(each), **where))
        return estimator_rows("density", "prior_draws", drawn, truth), rungs


def _row(metric: str, site: str, value: float, element: str = "") -> Row:
    return row(metric, Interval.exact(value), 1, site=site, element=element)


def _samples(n: int, noise: torch.Generator) -> Iterator[Float64[Tensor, "n 2"]]:
    """Ancestral samples, some at a time: their log-densities take 400 numbers each."""
    for start in range(0, n, CHUNK // 4):
        yield sample(min(CHUNK // 4, n - start), noise)[1]


def _grid() -> tuple[Tensor, Tensor, Tensor]:
    """Points of the plane that hold all but 1e-15 of x, with their two axes.

    They reach eight deviations of the noise beyond the curve.
    """
    x1 = torch.arange(-1.45, 3, _SPACING, dtype=torch.float64)
    x2 = torch.arange(-2.6, 2.62, _SPACING, dtype=torch.float64)
    return torch.cartesian_prod(x1, x2), x1, x2


@cache
def _plane() -> Float64[Tensor, "x1 x2"]:
    """The exact log p(x) on the grid."""
    points, x1, x2 = _grid()
    return log_marginal(points).log_prob.reshape(len(x1), len(x2))


def _log_density() -> Moments:
    """The exact moments of log p(x) for x ~ p: its mean is minus the entropy."""
    log_p = _plane()
    weight = log_p.exp() * _SPACING**2
    mean = float((weight * log_p).sum())
    return Moments(mean, *(float((weight * (log_p - mean) ** r).sum()) for r in (2, 4)))


def _coordinate(i: int) -> Moments:
    """The exact moments of x1 or x2: those of the curve under the prior, and the noise's."""
    z = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    weight = (-0.5 * z.square()).exp() * (0.01 / math.sqrt(2 * math.pi))
    on_curve = curve(z)[:, i]
    mean = float((weight * on_curve).sum())
    second, fourth = (float((weight * (on_curve - mean) ** r).sum()) for r in (2, 4))
    # (a + b)^4 of independent a and b of mean 0: a^4 + 6 a^2 b^2 + b^4, and b^4 is 3 VARIANCE^2.
    of_sum = fourth + 6 * second * VARIANCE + 3 * VARIANCE**2
    return Moments(mean, second + VARIANCE, of_sum)


def _likelihood(x: Float64[Tensor, "1 2"]) -> Moments:
    """The exact moments of p(x | z) for z ~ N(0, 1); their mean is p(x)."""
    m1, m2, m3, m4 = _raw_moments(x)
    return Moments(m1, m2 - m1**2, m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4)


def _raw_moments(x: Float64[Tensor, "1 2"]) -> list[float]:
    """E[p(x | z)^r] for r of 1 to 4."""
    return [
        # A power of the likelihood is narrower by its root: four times the points of z.
        float(log_evidence(lambda z, r=r: r * log_likelihood(x, z[:, 0]), 1, 6401).log_prob.exp())
        for r in (1, 2, 3, 4)
    ]
