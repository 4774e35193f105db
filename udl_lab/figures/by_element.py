"""A measured number against the transformation that it was measured under."""

import re

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_MOVED, _UNTRAINED, _RETURNED, _PIXELS = "C0", "C1", "C2", "C7"


def rho_by_element(table: pd.DataFrame, measure: str, site: str, title: str) -> Figure:
    """Draw ρ and the accuracy of each element of an action, with intervals and controls.

    Angles are drawn as a curve, with the identity in its place; other transformations as points.

    Args:
        table: a run's results, a row per estimate.
        measure: the entry of the configuration that made the rows, e.g. `rotation`.
        site: the layer whose ρ is drawn.
        title: what the run is.
    """
    here = table[table["measure"] == measure]
    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.suptitle(f"{title} (bands and bars: 95 % intervals)")
    left, right = figure.subfigures(1, 2)
    for part, draw in ((left, _rho), (right, _accuracy)):
        axes = part.subplots()
        draw(axes, table, here, site)
        axes.set_title(f"{axes.get_title()} {measure}")
        axes.set_xlabel(_axis(here, measure))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:  # under the axes, where it hides nothing
            part.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def _rho(axes: Axes, table: pd.DataFrame, here: pd.DataFrame, site: str):
    _elements(axes, here, "rho", site, "trained network", _MOVED)
    _level(axes, here, "rho_untrained", site, "", "untrained network (mean)", _UNTRAINED)
    _elements(axes, here, "rho", "pixels", "the pixels themselves", _PIXELS)
    _elements(
        axes,
        here,
        "rho_round_trip",
        site,
        "there and back (resampling, lost pixels)",
        _RETURNED,
    )
    axes.axhline(1, color="black", linewidth=1, linestyle=":", label="another test image")
    axes.set(
        title=f"How far the layer “{site}” moves under",
        ylabel="ρ (0: invariant, 1: as far as to another image)",
        ylim=(-0.03, max(1.12, axes.get_ylim()[1])),
    )


def _accuracy(axes: Axes, table: pd.DataFrame, here: pd.DataFrame, site: str):
    _elements(axes, here, "accuracy", "", "transformed test images", _MOVED)
    _level(axes, here, "accuracy", "", "identity", "the same images, upright", "C3")
    chance = table.loc[table["metric"] == "accuracy_of_commonest_class", "estimate"]
    if len(chance):
        axes.axhline(
            float(chance.iloc[0]), color="black", linewidth=1, linestyle=":",
            label="always naming the commonest class",
        )  # fmt: skip
    axes.set(
        title="How often the network is right under",
        ylabel="accuracy (share of images)",
        ylim=(-0.03, 1.03),
    )


def _axis(here: pd.DataFrame, measure: str) -> str:
    elements = _named(here)["element"].tolist()
    if _are_angles(elements):
        return f"{measure} (degrees, counter-clockwise)"
    moves = elements and all(re.fullmatch(r"((left|right|up|down)\d+)+", e) for e in elements)
    return f"{measure} (pixels)" if moves else measure


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of single elements: not the mean over all of them, and not the identity."""
    return table[~table["element"].isin(["", "identity"])]


def _are_angles(elements: list[str]) -> bool:
    return bool(elements) and all(_is_number(element) for element in elements)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _elements(axes: Axes, here: pd.DataFrame, metric: str, site: str, label: str, colour: str):
    """Estimates and 95 % intervals, one per element."""
    chosen = here[(here["metric"] == metric) & (here["site"] == site)]
    rows = _named(chosen)
    if rows.empty:
        return
    elements = rows["element"].tolist()
    if _are_angles(elements):
        rows = _with_identity(rows.assign(at=[float(e) for e in elements]), chosen, metric)
        at = rows["at"]
        axes.plot(at, rows["estimate"], marker="o", markersize=3, color=colour, label=label)
        axes.fill_between(at, rows["low"], rows["high"], color=colour, alpha=0.25, linewidth=0)
        axes.set_xticks(range(-180, 181, 60) if at.abs().max() > 60 else sorted(at))
    else:
        at = range(len(rows))
        axes.plot(at, rows["estimate"], "o", markersize=5, color=colour, label=label)
        axes.vlines(at, rows["low"], rows["high"], color=colour)
        long = max(map(len, elements)) * len(elements) > 40
        turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if long else {}
        axes.set_xticks(list(at), elements, fontsize=9, **turned)


def _with_identity(rows: pd.DataFrame, chosen: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The curve with angle 0, where ρ is 0 by definition, and closed: -180° and 180° are one."""
    identity = chosen[chosen["element"] == "identity"].assign(at=0.0)
    if metric != "accuracy":
        identity = rows.iloc[:1].assign(at=0.0, estimate=0.0, low=0.0, high=0.0)
    ends = rows[rows["at"].abs() == 180]
    if len(ends) == 1:
        rows = pd.concat([rows, ends.assign(at=-ends["at"])])
    return pd.concat([rows, identity]).sort_values("at")


def _level(
    axes: Axes, here: pd.DataFrame, metric: str, site: str, element: str, label: str, colour: str
):
    """One estimate and its 95 % interval, across the axes."""
    rows = here[(here["metric"] == metric) & (here["site"] == site) & (here["element"] == element)]
    if rows.empty:
        return
    first = rows.iloc[0]
    axes.axhline(first["estimate"], color=colour, linestyle="--", label=label)
    axes.axhspan(first["low"], first["high"], color=colour, alpha=0.2, linewidth=0)
