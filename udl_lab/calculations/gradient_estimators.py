"""UDL, notebook 17.2: the derivative of an expectation, by two estimators and beside the truth."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import pandas as pd
from annotated_types import Ge, Le

from udl_lab.calculations.estimator_rows import ManyDraws, estimator_rows, ratio_rows
from udl_lab.calculations.result import Result
from udl_lab.closed_form.gradient_estimators import (
    LARGEST_PHI,
    best_baseline,
    exact,
    reparameterised,
    score_function,
    values,
)
from udl_lab.closed_form.moments import Draws, Moments, Running, stream
from udl_lab.figures.derivative_by_parameter import derivative_by_parameter
from udl_lab.probes.table import Row
from udl_lab.randomness import generator

PHIS = [step / 20 for step in range(-30, 30)]  # the notebook's curve: -1.5, -1.45, … 1.45

Phi = Annotated[float, Ge(-LARGEST_PHI), Le(LARGEST_PHI)]


class GradientEstimators:
    """E[f(x)] and dE/dφ of `closed_form.gradient_estimators`, from draws.

    Rows by estimator (site) and φ (element): those of `estimator_rows` for the `expectation`, for
    the derivative `reparameterised`, by `score_function` and the same `with_baseline`, the best
    constant one; and of `ratio_rows`, of the last two over `reparameterised`.
    """

    def __init__(
        self,
        phis: Sequence[Phi] = (0.3, 0.5),
        n: ManyDraws = 10_000_000,
        n_curve: ManyDraws = 100_000,
    ) -> None:
        """Say what is estimated.

        Args:
            phis: where the rows stand.
            n: draws behind each of their estimates.
            n_curve: draws behind each of the figure's.
        """
        self.phis = list(phis)
        self.n = n
        self.n_curve = n_curve

    def __call__(self, seed: int) -> Result:
        """Draw."""
        rows = [row for phi in self.phis for row in _rows(phi, self.n, seed)]
        curve = pd.DataFrame(
            {
                "estimator": name,
                "phi": phi,
                "n": drawn.count,
                "mean": drawn.mean,
                "mean_exact": truth.mean,
                "variance": drawn.variance,
                "variance_exact": truth.variance,
            }
            for phi in PHIS
            for name, (drawn, truth) in _estimated(phi, self.n_curve, seed, "curve").items()
        )
        law = "f(x) = x² + sin x, x ~ N(φ³, $e^{2φ}$)"
        title = f"{law}: {self.n_curve:,} draws at each φ, seed {seed}"
        return Result(rows, {"derivative_by_phi": derivative_by_parameter(curve, title)})


def _rows(phi: float, n: int, seed: int) -> list[Row]:
    element = f"phi{phi:g}"
    found = _estimated(phi, n, seed, "rows")
    rows = [r for name, one in found.items() for r in estimator_rows(name, element, *one)]
    for name in ("score_function", "with_baseline"):
        rows += ratio_rows(name, element, found[name], found["reparameterised"])
    return rows


def _estimated(phi: float, n: int, seed: int, part: str) -> dict[str, tuple[Running, Moments]]:
    """Every estimator's draws, each from a stream of its own, and their exact moments."""
    estimators = {
        "expectation": values,
        "reparameterised": reparameterised,
        "score_function": score_function,
        "with_baseline": partial(score_function, baseline=best_baseline(phi)),
    }
    found = {}
    for name, estimator in estimators.items():
        noise = generator(seed, "gradient_estimators", part, name, f"{phi:g}")
        draws: Draws = partial(estimator, phi)
        found[name] = (stream(draws, n, noise), exact(estimator, phi))
    return found
