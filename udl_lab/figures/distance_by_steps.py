"""How far samples lie from the data, against the number of steps that made them."""

import math
import re
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

_UNITS = {
    "w1": "Wasserstein-1 distance to the law (data's unit)",
    "ks": "largest difference of the distribution functions",
    "sliced_w2": "sliced Wasserstein-2 distance (data's unit)",
    "frechet": "Fréchet distance d² (features' unit, squared)",
}
_KINDS = (  # suffix of the metric, its name, and how it is drawn
    ("", "the network, from noise", "-", "o"),
    ("_exact", "the exact score, from noise", "--", "s"),
    ("_true_start", "the exact score, from the true q($x_t$)", ":", "x"),
)
_FLOORS = {
    "_of_draws": "as many draws of the law (chance)",
    "_baseline": "real against real, as many",
}


def distance_by_steps(
    table: pd.DataFrame, title: str, metric: str = "w1", site: str = ""
) -> Figure | None:
    """A distance against the sampler's steps, both logarithmic: a colour per family of samplers.

    Beneath the network's curve stand the ones with the exact score, where the table has them, and
    what chance alone does. Bands are 95 % intervals. Rows whose element names no sampler and its
    steps are left out; so are distances that a logarithm has no place for, which the axis counts.

    Args:
        table: rows of `LineSamples` or of a Fréchet distance, whose elements are samplers.
        title: what the network is.
        metric: the distance, also the beginning of its other curves' names.
        site: which weights; `last_weights` where the others are of their average.

    Returns:
        The figure, or nothing when the table has no such distance for two numbers of steps.
    """
    here = _by_sampler(table[table["site"] == site])
    if here.loc[here["metric"] == metric, "steps"].nunique() < 2:
        return None
    figure = Figure(figsize=(9.5, 5), layout="constrained")
    axes = figure.subplots()
    names = [metric + suffix for suffix, *_ in _KINDS]
    here = here[here["metric"].isin(names)]
    colours = {family: f"C{i}" for i, family in enumerate(dict.fromkeys(here["family"]))}
    kinds = [kind for kind in _KINDS if (here["metric"] == metric + kind[0]).any()]
    for suffix, _, line, marker in kinds:
        for family, rows in here[here["metric"] == metric + suffix].groupby("family", sort=False):
            _curve(axes, rows.sort_values("steps"), colours[str(family)], line, marker)
    floors = _floors(axes, table, metric)
    bands = " (bands: 95 % intervals)" if (here["low"] < here["high"]).any() else ""
    axes.set(title=f"{title}{bands}")
    _axes(axes, here, metric)
    _legends(figure, colours, kinds, floors)
    return figure


def sampler_name(element: str) -> tuple[str, int] | None:
    """A sampler's family in words and its steps: `ddim20_eta0` is ("DDIM, η = 0", 20).

    Nothing for what is no sampler's label (see `diffusion.walks`).
    """
    found = re.fullmatch(r"(ddim|ddpm|heun)(\d+)((?:_.+)?)", element)
    if found is None:
        return None
    kind, steps, options = found.groups()
    words = options.replace("_eta", ", η = ").replace("_noisy", ", noisy to the end")
    words = re.sub(r"_(small|large|optimal|learned)", r", \1 variance", words).replace("_", ", ")
    return {"heun": "Heun"}.get(kind, kind.upper()) + words, int(steps)


def _by_sampler(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of samplers, with their families and steps."""
    found = {element: sampler_name(element) for element in set(table["element"])}
    names = {element: name for element, name in found.items() if name is not None}
    rows = table[table["element"].isin(list(names))]
    return rows.assign(
        family=[names[element][0] for element in rows["element"]],
        steps=[names[element][1] for element in rows["element"]],
    )


def _curve(axes: Axes, rows: pd.DataFrame, colour: str, line: str, marker: str) -> None:
    rows = rows[_can_be_drawn(rows)]
    axes.plot(rows["steps"], rows["estimate"], color=colour, linestyle=line, **_marker(marker))
    axes.fill_between(
        rows["steps"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0
    )


def _can_be_drawn(rows: pd.DataFrame) -> pd.Series:
    return (rows["estimate"] > 0) & (rows["estimate"] < math.inf)


def _marker(marker: str) -> dict[str, Any]:
    """Empty squares with crosses in them show two curves that coincide."""
    return {"marker": marker, "markersize": 7 if marker == "s" else 5} | (
        {"markerfacecolor": "none"} if marker == "s" else {}
    )


def _floors(axes: Axes, table: pd.DataFrame, metric: str) -> list[Line2D]:
    """What chance alone does, as lines across the axes with their intervals; a legend's entries."""
    drawn = {}
    for suffix, label in _FLOORS.items():
        for row in table[table["metric"] == metric + suffix].itertuples():
            if row.estimate > 0:
                drawn[label] = axes.axhline(
                    row.estimate, color="black", linewidth=1, linestyle="-.", label=label
                )
                axes.axhspan(row.low, row.high, color="black", alpha=0.1, linewidth=0)
    return list(drawn.values())


def _legends(
    figure: Figure,
    colours: dict[str, str],
    kinds: list[tuple[str, str, str, str]],
    floors: list[Line2D],
) -> None:
    """What the colours are, and what the lines are, beside the axes, where they hide nothing."""
    families = [Line2D([], [], color=c, linewidth=2, label=f) for f, c in colours.items()]
    styles = [
        Line2D([], [], color="0.3", linestyle=line, label=label, **_marker(marker))
        for _, label, line, marker in kinds
    ]
    for handles, title, corner in (
        (families, "sampler", "upper"),
        (styles + floors, "samples by", "lower"),
    ):
        figure.legend(
            handles=handles, title=title, loc=f"outside right {corner}", alignment="left",
            fontsize=9, frameon=False,
        )  # fmt: skip


def _axes(axes: Axes, here: pd.DataFrame, metric: str) -> None:
    label = _UNITS.get(metric, metric)
    lost = int((~_can_be_drawn(here)).sum())
    if lost:
        label += f"\n({lost} of {len(here)} are not drawn: 0, below or not finite)"
    axes.set(
        xlabel="steps of the sampler"
        + (" (Heun asks the network twice a step)" if _has_heun(here) else ""),
        ylabel=label,
        xscale="log",
    )
    drawn = [y for line in axes.lines for y in line.get_ydata()]
    if drawn:  # a logarithmic scale needs something on it
        axes.set(yscale="log", ylim=(min(drawn) / 1.6, max(drawn) * 1.6))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    ticks: list[int] = []
    for steps in sorted(set(here["steps"])):  # the steps that were taken, where there is room
        if not ticks or steps >= 1.3 * ticks[-1]:
            ticks.append(steps)
    axes.set_xticks(ticks, [f"{steps:,}" for steps in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _has_heun(here: pd.DataFrame) -> bool:
    return any(family.startswith("Heun") for family in here["family"])
