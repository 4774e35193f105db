"""An expectation, its derivative and the spread of their estimators, along a parameter."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_NAMES = {
    "expectation": "mean of f over the draws",
    "reparameterised": "reparameterised",
    "score_function": "score function",
    "with_baseline": "score function, best baseline",
}
_MARKERS = {"score_function": "s", "with_baseline": "^"}


def derivative_by_parameter(table: pd.DataFrame, title: str) -> Figure:
    """E[f(x)], its derivative by φ, and the variance of one draw of each estimator of it.

    Lines are exact and marks are estimates, in the first two panels with 95 % intervals. The third
    is where the estimators differ: their marks coincide in the second.

    Args:
        table: rows with the columns `estimator`, `phi`, `n`, `mean`, `variance`, and the exact
            `mean_exact` and `variance_exact` of one draw; the estimator `expectation` has the first
            panel, all others are of its derivative.
        title: what was drawn.
    """
    figure = Figure(figsize=(15, 5), layout="constrained")
    figure.suptitle(title)
    left, middle, right = figure.subplots(1, 3)
    derivatives = table.query("estimator != 'expectation'")
    _means(left, table.query("estimator == 'expectation'"))
    left.set(title="the expectation (bars: 95 % intervals)", ylabel="E[f(x)]")
    _means(middle, derivatives)
    middle.set(title="its derivative (bars: 95 % intervals)", ylabel="dE[f(x)] / dφ")
    for i, (name, rows) in enumerate(derivatives.groupby("estimator", sort=False)):
        right.plot(rows["phi"], rows["variance_exact"], color=f"C{i}", linewidth=1)
        right.plot(rows["phi"], rows["variance"], color=f"C{i}", **_marks(str(name)))
    right.set(
        title="variance of one draw of the derivative",
        ylabel="variance (lines: exact, marks: of the draws)",
        yscale="log",
    )
    for axes in (left, middle, right):
        axes.set_xlabel("φ")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure


def _means(axes: Axes, table: pd.DataFrame) -> None:
    for i, (name, rows) in enumerate(table.groupby("estimator", sort=False)):
        error = 1.96 * (rows["variance_exact"] / rows["n"]) ** 0.5
        marks = _marks(str(name))
        axes.errorbar(rows["phi"], rows["mean"], error, color=f"C{i}", elinewidth=1, **marks)
    first = table[table["estimator"] == table["estimator"].iloc[0]]
    axes.plot(first["phi"], first["mean_exact"], color="black", linewidth=1, label="exact")


def _marks(name: str) -> dict[str, Any]:
    marker = _MARKERS.get(name, "o")
    return {
        "linestyle": "", "marker": marker, "markersize": 3, "label": _NAMES.get(name, name),
    }  # fmt: skip
