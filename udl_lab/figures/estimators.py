"""Estimates by chance beside what they estimate, and how far they spread."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_NAMES = {
    "expectation": "mean of f",
    "reparameterised": "reparameterised",
    "score_function": "score function",
    "with_baseline": "score function, best baseline",
}


def derivative_by_parameter(table: pd.DataFrame, title: str) -> Figure:
    """An expectation, its derivative, and the variances of their estimators, along a parameter φ.

    Lines are exact and marks are estimates, in the first two panels with 95 % intervals.

    Args:
        table: rows with the columns `estimator`, `phi`, `n`, `mean`, `variance`, and the exact
            `mean_exact` and `variance_exact` of one draw; the estimator `expectation` has the first
            panel, all others are of its derivative.
        title: what was drawn.
    """
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    figure.suptitle(title)
    left, middle, right = figure.subplots(1, 3)
    derivatives = table.query("estimator != 'expectation'")
    _means(left, table.query("estimator == 'expectation'"))
    left.set(title="expectation", ylabel="E[f(x)]")
    _means(middle, derivatives)
    middle.set(title="its derivative", ylabel="dE[f(x)]/dφ")
    for i, (name, rows) in enumerate(derivatives.groupby("estimator", sort=False)):
        right.plot(rows["phi"], rows["variance_exact"], color=f"C{i}")
        right.plot(rows["phi"], rows["variance"], color=f"C{i}", **_marks(name))
    right.set(title="variance of one draw of the derivative", ylabel="variance", yscale="log")
    for axes in (left, middle, right):
        axes.set_xlabel("φ")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure


def _means(axes: Axes, table: pd.DataFrame) -> None:
    for i, (name, rows) in enumerate(table.groupby("estimator", sort=False)):
        error = 1.96 * (rows["variance_exact"] / rows["n"]) ** 0.5
        marks = _marks(name)
        axes.errorbar(rows["phi"], rows["mean"], error, color=f"C{i}", elinewidth=1, **marks)
    first = table[table["estimator"] == table["estimator"].iloc[0]]
    axes.plot(first["phi"], first["mean_exact"], color="black", linewidth=1, label="exact")


def _marks(name: object) -> dict[str, Any]:
    label = _NAMES.get(str(name), str(name))
    return {"linestyle": "", "marker": ".", "markersize": 5, "label": label}


def spread_by_draws(table: pd.DataFrame, title: str) -> Figure:
    """The mean and twice the standard deviation of estimates, by how many draws each is made of.

    Args:
        table: rows with the columns `estimator`, `n`, `mean`, `sd`, and the exact `mean_exact` and
            `sd_exact` of a mean of n draws.
        title: what was repeated.
    """
    panels = list(table.groupby("estimator", sort=False))
    figure = Figure(figsize=(1 + 3.6 * len(panels), 4.6), layout="constrained")
    figure.suptitle(title)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, rows) in zip(all_axes, panels, strict=True):
        n, mean, sd = rows["n"], rows["mean"], rows["sd"]
        axes.fill_between(
            n, mean - 2 * sd, mean + 2 * sd, color="C0", alpha=0.25, linewidth=0,
            label="estimates: mean ± 2 sd",
        )  # fmt: skip
        axes.plot(n, mean, color="C0")
        for sign, label in ((1, "exact: mean ± 2 σ/√n"), (-1, None)):
            edge = rows["mean_exact"] + 2 * sign * rows["sd_exact"]
            axes.plot(n, edge, color="black", linestyle="--", linewidth=1, label=label)
        axes.plot(n, rows["mean_exact"], color="black", linewidth=1)
        axes.set(title=str(name), xscale="log", xlabel="draws in each estimate")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("estimate of the mean")
    handles, _ = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure
