"""A measured number against the transformation that it was measured under."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def rho_by_element(table: pd.DataFrame, measure: str, site: str, title: str) -> Figure:
    """Draw ρ and the accuracy of each element of an action, with intervals and controls.

    Args:
        table: a run's results, a row per estimate.
        measure: the entry of the configuration that made the rows, e.g. `rotation`.
        site: the layer whose ρ is drawn.
        title: what the run is.
    """
    here = table[table["measure"] == measure]
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _curve(left, here, "rho", site, "transformed copy", "C0")
    _curve(left, here, "rho", "pixels", "the same, in the pixels", "C7")
    _curve(left, here, "rho_round_trip", site, "there and back (resampling, lost pixels)", "C2")
    _level(left, here, "rho_untrained", site, "untrained network, mean", "C1")
    left.axhline(1, color="black", linewidth=0.8, linestyle=":")
    left.annotate(
        "another image", (0.01, 1), (0, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=8,
    )  # fmt: skip
    left.set(xlabel=_axis(measure), ylabel=f"ρ at {site}", ylim=(0, None))
    left.legend(fontsize=8)
    _curve(right, here, "accuracy", "", "transformed test images", "C0")
    _level(right, here, "accuracy", "", "upright test images", "C3", element="identity")
    chance = table.loc[table["metric"] == "accuracy_of_commonest_class", "estimate"]
    if len(chance):
        right.axhline(float(chance.iloc[0]), color="black", linewidth=0.8, linestyle=":")
        right.annotate(
            "always the commonest class", (0.01, float(chance.iloc[0])), (0, 2),
            xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8,
        )  # fmt: skip
    right.set(xlabel=_axis(measure), ylabel="accuracy", ylim=(0, 1))
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _axis(measure: str) -> str:
    return "rotation (degrees, counter-clockwise)" if measure == "rotation" else measure


def _curve(axes: Axes, table: pd.DataFrame, metric: str, site: str, label: str, colour: str):
    rows = table[
        (table["metric"] == metric)
        & (table["site"] == site)
        & ~table["element"].isin(["", "identity"])
    ]
    if rows.empty:
        return
    elements = rows["element"].tolist()
    angles = all(e.lstrip("+-").replace(".", "").isdigit() for e in elements)
    if angles:
        rows = rows.assign(at=[float(e) for e in elements]).sort_values("at")
        at = rows["at"]
        axes.set_xticks(range(-180, 181, 60))
    else:
        at = range(len(rows))
        axes.set_xticks(list(at), elements, rotation=60, ha="right", fontsize=8)
    line = "-" if angles else ""
    axes.plot(at, rows["estimate"], line, marker="o", markersize=3, color=colour, label=label)
    if angles:
        axes.fill_between(at, rows["low"], rows["high"], color=colour, alpha=0.25, linewidth=0)
    else:
        axes.vlines(at, rows["low"], rows["high"], color=colour)


def _level(
    axes: Axes,
    table: pd.DataFrame,
    metric: str,
    site: str,
    label: str,
    colour: str,
    element: str = "",
):
    rows = table[
        (table["metric"] == metric) & (table["site"] == site) & (table["element"] == element)
    ]
    if rows.empty:
        return
    first = rows.iloc[0]
    axes.axhline(first["estimate"], color=colour, linestyle="--", label=label)
    axes.axhspan(first["low"], first["high"], color=colour, alpha=0.2, linewidth=0)
