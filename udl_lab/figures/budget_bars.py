"""The error of a sampler taken apart, as bars."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udl_lab.figures.distance_by_steps import sampler_name

_BARS = {
    "budget_total": ("total: the sampler as it is", "0.25"),
    "budget_score_error": ("score error\n(network → exact score)", "C0"),
    "budget_discretisation": ("discretisation\n(its steps → very many)", "C1"),
    "budget_prior_gap": ("prior gap\n(start N(0, 1) → true q($x_t$))", "C2"),
    "budget_float_error": ("float error\n(single → double precision)", "C4"),
    "budget_perfect": ("perfect: what is left\nwith all four replaced", "0.6"),
}
_CAPTION = (
    "Coloured: what goes away when that one ingredient alone is replaced (→); below 0, errors "
    "cancelled.\nReplaced one at a time, so the shares need not add up to the total."
)


def budget_bars(table: pd.DataFrame, title: str) -> Figure | None:
    """The shares of a sampler's error, a panel per sampler and set of weights.

    Args:
        table: rows `budget_…` of `LineSamples` (see `diffusion.error_budget`).
        title: what the network is.

    Returns:
        The figure, or nothing when the table has no budget.
    """
    rows = table[table["metric"].isin(_BARS)]
    if rows.empty:
        return None
    budgets = list(rows.groupby(["element", "site"], sort=False))
    figure = Figure(figsize=(3.6 + 4.6 * len(budgets), 5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(budgets), squeeze=False, sharex=True, sharey=True)[0]
    for axes, ((element, site), shares) in zip(panels, budgets, strict=True):
        _bars(axes, shares.set_index("metric"))
        axes.set_title(_heading(str(element), str(site)), fontsize=10)
    panels[0].set_yticks(range(len(_BARS)), [name for name, _ in _BARS.values()], fontsize=9)
    panels[0].invert_yaxis()
    panels[0].margins(x=0.25)  # room for the numbers
    figure.supxlabel(f"Wasserstein-1 distance to the law (data's unit)\n{_CAPTION}", fontsize=9)
    return figure


def _heading(element: str, site: str) -> str:
    known = sampler_name(element)
    words = element if known is None else f"{known[0]}, {known[1]:,} steps"
    return f"{words} ({site.replace('_', ' ')})" if site else words


def _bars(axes: Axes, shares: pd.DataFrame) -> None:
    for i, (metric, (_, colour)) in enumerate(_BARS.items()):
        if metric not in shares.index:
            continue
        value, low, high = shares.loc[metric, ["estimate", "low", "high"]].astype(float)
        shown = value if math.isfinite(value) else 0.0  # a sampler that diverged
        axes.barh(i, shown, color=colour, height=0.7)
        if low < high:
            axes.hlines(i, low, high, color="black", linewidth=1)
        is_share = metric not in ("budget_total", "budget_perfect")
        end = max(shown, high) if shown > 0 else min(shown, low) if shown < 0 else 0.0
        axes.annotate(
            f"{value:{'+' if is_share else ''}#.2g}".replace("-", "−"), (end, i),
            xytext=(4 if shown >= 0 else -4, 0), textcoords="offset points", va="center",
            ha="left" if shown >= 0 else "right", fontsize=9,
        )  # fmt: skip
    for line in (0.5, len(_BARS) - 1.5):  # the shares, apart from what is no share
        axes.axhline(line, color="black", linewidth=0.5, linestyle=":")
    axes.axvline(0, color="black", linewidth=1)
    axes.grid(alpha=0.3, axis="x")
