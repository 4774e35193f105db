"""UDL, notebook 17.3: Monte Carlo and importance sampling of two means, beside the truth."""

import math
from functools import partial

import pandas as pd

from udl_lab.calculations.estimator_rows import ManyDraws, estimator_rows, ratio_rows
from udl_lab.calculations.result import Result
from udl_lab.closed_form.importance_sampling import (
    COMMON,
    ONE,
    RARE,
    Bump,
    Normal,
    P,
    effective_share,
    exact,
    importance_sampled,
)
from udl_lab.closed_form.moments import Draws, means, stream
from udl_lab.figures.spread_by_draws import spread_by_draws
from udl_lab.probes.statistics import Interval
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import PositiveFloat

# The notebook's, for its figure.
COUNTS = [*range(1, 11), 15, 20, 25, 30, 45, *range(50, 101, 10), *range(150, 501, 50)]

BUMPS = {"common": COMMON, "rare": RARE}

# Draws must be worth so many of the best density's: n times their effective share. By Cauchy and
# Schwarz a draw is above 0 with at least that share as probability, so that all of them round to 0
# in fewer than e^-10 of the tries. And the interval of a ratio of variances, which reaches up by e
# to the power of their relative error, does not overflow: that is 12 for q_std=.5 and the 6e7 draws
# that it then needs, and 5e56 for q_std=.2 and 100 draws.
_WORTH = 10


class ImportanceSampling:
    """E[f(y)] of `closed_form.importance_sampling` for y ~ p = N(0, 1), from draws of p and of q.

    The notebook's two f are `common`, large where p is, and `rare`, large where p seldom draws.
    Rows by f (site) and by what was drawn from (element, `p` or `q`): those of `estimator_rows`;
    of `ratio_rows`, of p over q; and the exact `effective_share` of the draws, with the site
    `weights` for that of the weights p/q alone.
    """

    def __init__(
        self,
        q_mean: float = 3.0,
        q_std: PositiveFloat = 1.0,
        n: ManyDraws = 10_000_000,
        repeats: ManyDraws = 10_000,
    ) -> None:
        """Say what is estimated.

        Args:
            q_mean: of the normal density that importance sampling draws from.
            q_std: its standard deviation.
            n: draws behind each row.
            repeats: of each estimate in the figure.

        Raises:
            ValueError: for a q from which an estimate has no variance to speak of, or so few draws
                that they say nothing of it.
        """
        self.q = Normal(q_mean, q_std)
        self.n = n
        self.repeats = repeats
        for name, f in BUMPS.items():
            if not math.isfinite(exact(f, self.q).fourth):
                raise ValueError(
                    f"q_mean={q_mean}, q_std={q_std}: the moments of the {name} f's estimate are "
                    "infinite in double precision; take a wider q"
                )
            for density in (P, self.q):
                share = effective_share(f, density)
                if n * share < _WORTH:
                    raise ValueError(
                        f"n={n}: so many draws of N({density.mean:g}, {density.std:g}²) are worth "
                        f"{n * share:.3g} for the {name} f, and {_WORTH} are needed to tell their "
                        f"variance; take n={1.01 * _WORTH / share:.3g} or a q nearer to f p"
                    )

    def __call__(self, seed: int) -> Result:
        """Draw."""
        rows = [row for name, f in BUMPS.items() for row in self._rows(name, f, seed)]
        weights = Interval.exact(effective_share(ONE, self.q))
        rows.append(row("effective_share", weights, 1, site="weights", element="q"))
        densities = f"p = N(0, 1), q = N({self.q.mean:g}, {self.q.std:g}²)"
        title = (
            f"Estimates of E[f(y)], y ~ p; {densities}\nf is large where p draws often (common) "
            f"or seldom (rare); {self.repeats:,} estimates each, seed {seed}"
        )
        figure = spread_by_draws(self._spread(seed), title)
        return Result(rows, {"spread_by_draws": figure})

    def _rows(self, name: str, f: Bump, seed: int) -> list[Row]:
        found = {}
        rows = []
        for element, density in self._densities().items():
            noise = generator(seed, "importance_sampling", name, element)
            drawn = stream(_draws(f, density), self.n, noise)
            found[element] = (drawn, exact(f, density))
            rows += estimator_rows(name, element, *found[element])
            share = Interval.exact(effective_share(f, density))
            rows.append(row("effective_share", share, 1, site=name, element=element))
        return rows + ratio_rows(name, "p_over_q", found["p"], found["q"])

    def _spread(self, seed: int) -> pd.DataFrame:
        """Standard deviations of repeated estimates, by their numbers of draws.

        Their intervals come from the exact fourth moment, as in `estimator_rows`.
        """
        found = []
        for name, f in BUMPS.items():
            for element, density in self._densities().items():
                truth = exact(f, density)
                for n in COUNTS:
                    noise = generator(seed, "importance_sampling", "repeats", name, element, n)
                    sd = float(means(_draws(f, density), n, self.repeats, noise).std())
                    law = truth.of_mean(n)
                    # Of a deviation, half the relative error of its square.
                    reach = 1.96 * law.variance_error(self.repeats) / (2 * law.std)
                    found.append(
                        {
                            "estimator": f"{name} f, draws of {element}",
                            "n": n,
                            "sd": sd,
                            "low": sd - reach,
                            "high": sd + reach,
                            "sd_exact": law.std,
                        }
                    )
        return pd.DataFrame(found)

    def _densities(self) -> dict[str, Normal]:
        return {"p": P, "q": self.q}


def _draws(f: Bump, density: Normal) -> Draws:
    """Draws of f p / density, of f itself for p."""
    return partial(importance_sampled, f, density)
