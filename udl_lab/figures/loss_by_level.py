"""How well a network denoises at each level, over what nothing can beat."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INFINITE = {math.inf: math.nan, -math.inf: math.nan}  # of a network that diverged
_WEIGHTS = {"": "network", "last_weights": "network, its last weights (not averaged)"}
_ERROR = r"mean of $|\varepsilon - \hat{\varepsilon}|^2$ per dimension"
_EXCESS = r"mean of $|\hat{\varepsilon} - E[\varepsilon\,|\,x_t]|^2$ per dimension"
_FLOOR = r"floor: the exact $E[\varepsilon\,|\,x_t]$"


def loss_by_level(table: pd.DataFrame, title: str) -> Figure | None:
    """The squared error of ε̂ at each level, and beside it how far it lies above the floor.

    The excess is measured directly, example by example; the difference of the two curves of the
    first panel is noisier than it. Bands are 95 % intervals.

    Args:
        table: rows of `Denoising`, with elements `t<level>`.
        title: what the network is.

    Returns:
        The figure, with one panel when no excess is above 0 or the law is not known; or nothing
        when the table has no error by level.
    """
    errors, floor, excess = (_at_levels(table, m) for m in ("eps_error", "floor", "excess"))
    if errors.empty:
        return None
    drawn = excess.loc[excess["estimate"] > 0]
    n_panels = 1 if drawn.empty else 2
    figure = Figure(figsize=(6 * n_panels, 4.8), layout="constrained")
    figure.suptitle(f"{title} (bands: 95 % intervals)")
    left, *others = figure.subplots(1, n_panels, squeeze=False)[0]
    _curves(left, errors)
    if not floor.empty:
        # One law has one floor: with the same examples it is the same for every set of weights.
        rows = floor[floor["site"] == floor["site"].iloc[0]]
        _curve(left, rows, "black", _FLOOR, "--")
    left.axhline(1, color="black", linewidth=1, linestyle=":", label="predicting 0")
    left.set(title=r"error of $\hat{\varepsilon}$", ylabel=_ERROR)
    left.set_ylim(0, 1.08 * max(1.0, errors["high"].max()))
    for right in others:
        _curves(right, excess)
        right.set(
            title="excess over the floor, measured directly",
            ylabel=_EXCESS,
            yscale="log",
            ylim=(drawn["estimate"].min() / 2, 2 * drawn[["estimate", "high"]].max().max()),
        )
    for axes in (left, *others):
        axes.set_xlim(0, None)
        axes.set_xlabel("level t (0: data, the last: noise)")
        axes.grid(alpha=0.3, which="both")
    handles, _ = left.get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _at_levels(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of single levels, in their order; the mean over levels has no place on the axis."""
    rows = table[(table["metric"] == metric) & table["element"].str.fullmatch(r"t\d+")]
    rows = rows.replace({"estimate": _INFINITE, "low": _INFINITE, "high": _INFINITE})
    return rows.assign(t=rows["element"].str[1:].astype(int)).sort_values("t")


def _curves(axes: Axes, rows: pd.DataFrame) -> None:
    for i, (site, of_one) in enumerate(rows.groupby("site", sort=True)):
        _curve(axes, of_one, f"C{i}", _WEIGHTS.get(str(site), str(site)), "-")


def _curve(axes: Axes, rows: pd.DataFrame, colour: str, label: str, line: str) -> None:
    axes.plot(
        rows["t"], rows["estimate"], color=colour, linestyle=line, marker="o", markersize=3,
        label=label,
    )  # fmt: skip
    axes.fill_between(rows["t"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
