"""A measured number against the depth of the layer, drawn from the table alone."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_FLOOR = 1e-3  # where a logarithmic axis shows all that is less: exact up to rounding, or nearly


def index_by_depth(table: pd.DataFrame, title: str) -> Figure | None:
    """The invariance index of every layer, trained and untrained, with 95 % intervals.

    Args:
        table: rows of `Layerwise`.
        title: what was measured.

    Returns:
        The figure, or nothing when the table has no index.
    """
    sites = _sites(table, "index")
    if not sites:
        return None
    figure, axes = _layers(sites, title)
    _line(axes, table, "index_untrained", sites, "untrained network", "C1", "s")
    _line(axes, table, "index", sites, "trained network", "C0", "o")
    axes.set(
        ylim=(-0.03, 1.06),
        ylabel="index: share of variance between orbits\n(1: invariant)",
    )
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.legend(frameon=False, fontsize=9)
    return figure


def bracket_by_depth(table: pd.DataFrame, title: str) -> Figure | None:
    """The bracket of every layer: sorted ≤ best shared permutation ≤ known action.

    Each is the root mean square over the action's elements, on a logarithmic axis whose foot stands
    for a thousandth and all that is less.

    Returns:
        The figure, or nothing when the table has no bracket.
    """
    sites = _sites(table, "bracket_sorted")
    if not sites:
        return None
    figure, axes = _layers(sites, title)
    curves = (
        ("bracket_control", "the permutation, another image", "C7", "x"),
        ("bracket_known", "the known action", "C3", "v"),
        ("bracket_permutation", "best shared permutation (held out)", "C0", "o"),
        ("bracket_sorted", "sorted: a permutation for each image", "C2", "^"),
    )
    for metric, label, colour, marker in curves:
        rows = table[table["metric"] == metric]
        squares = rows.assign(square=rows["estimate"] ** 2).groupby("site")["square"].mean()
        values = [np.sqrt(squares.get(site, np.nan)) for site in sites]
        drawn = np.maximum(values, _FLOOR)
        axes.plot(range(len(sites)), drawn, marker=marker, color=colour, label=label)
    axes.set(
        yscale="log",
        ylim=(_FLOOR / 1.4, 3),
        ylabel="relative error |f(gx) − R f(x)| / |f(x)|\n(foot: exact up to rounding)",
    )
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.axhspan(_FLOOR / 1.4, _FLOOR * 1.4, color="black", alpha=0.07, linewidth=0)
    axes.legend(frameon=False, fontsize=9)
    return figure


def channel_heat_map(table: pd.DataFrame, title: str) -> Figure | None:
    """The index of every channel of every layer: which are invariant, and which are not.

    Returns:
        The figure, or nothing when the table has no channels.
    """
    rows = table[table["metric"] == "index_channel"]
    if rows.empty:
        return None
    sites = list(dict.fromkeys(rows["site"]))
    figure = Figure(figsize=(9, 1.6 + 0.32 * len(sites)), layout="constrained")
    axes = figure.subplots()
    picture = None
    for i, site in enumerate(sites):
        values = rows.loc[rows["site"] == site, "estimate"].dropna().sort_values().to_numpy()
        if len(values):
            edges = np.linspace(0, 1, len(values) + 1)
            picture = axes.pcolormesh(
                edges, [i - 0.42, i + 0.42], values[None, ::-1].astype(float), vmin=0, vmax=1
            )
        axes.text(1.01, i, f"{len(values)}", va="center", fontsize=8)
    axes.set_yticks(range(len(sites)), sites, fontsize=9)
    axes.invert_yaxis()
    axes.set(
        title=title,
        xlabel="share of the channels that are not constant (their number at the right),\n"
        "the most invariant first",
    )
    if picture is not None:
        figure.colorbar(picture, ax=axes, label="index of the channel (1: invariant)", pad=0.08)
    return figure


def _sites(table: pd.DataFrame, metric: str) -> list[str]:
    return list(dict.fromkeys(table.loc[table["metric"] == metric, "site"]))


def _layers(sites: list[str], title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(6.5, 0.75 * len(sites)), 5), layout="constrained")
    axes = figure.subplots()
    axes.set_xticks(
        range(len(sites)), sites, rotation=45, ha="right", rotation_mode="anchor", fontsize=9
    )
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure, axes


def _line(
    axes: Axes,
    table: pd.DataFrame,
    metric: str,
    sites: list[str],
    label: str,
    colour: str,
    marker: str,
):
    rows = table[table["metric"] == metric].set_index("site").reindex(sites)
    at = range(len(sites))
    axes.plot(at, rows["estimate"], marker=marker, color=colour, label=label)
    axes.fill_between(at, rows["low"], rows["high"], color=colour, alpha=0.25, linewidth=0)
