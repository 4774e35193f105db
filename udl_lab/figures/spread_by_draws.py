"""How far an estimate spreads, against the number of draws that it is made of."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

_MARKERS = "os^Dvx"


def spread_by_draws(table: pd.DataFrame, title: str) -> Figure:
    """Standard deviations of means of n draws over the exact law σ / √n, both logarithmic.

    A colour per estimator; the vertical distance of two lines is the root of how many draws of the
    one are worth a draw of the other.

    Args:
        table: rows with the columns `estimator` (in words, for the legend), `n`, `sd` (measured),
            `low` and `high` (its 95 % interval), and the exact `sd_exact`.
        title: what is estimated, and from how many repetitions the points are.
    """
    figure = Figure(figsize=(9.5, 5), layout="constrained")
    axes = figure.subplots()
    handles = []
    for i, (name, rows) in enumerate(table.groupby("estimator", sort=False)):
        style = {"color": f"C{i}", "marker": _MARKERS[i % len(_MARKERS)], "markersize": 4}
        axes.plot(rows["n"], rows["sd_exact"], color=f"C{i}", linewidth=1, zorder=1)
        bars = [rows["sd"] - rows["low"], rows["high"] - rows["sd"]]
        axes.errorbar(
            rows["n"], rows["sd"], yerr=bars, linestyle="", elinewidth=1.2, zorder=2, **style
        )
        one = float((rows["sd_exact"] * rows["n"] ** 0.5).iloc[0])
        handles.append(Line2D([], [], label=f"{name}\n(one draw: σ = {one:.3g})", **style))
    axes.set(
        title=title, xlabel="n, draws in each estimate", xscale="log", yscale="log",
        ylabel="standard deviation of the estimate",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")
    point = {"color": "0.3", "marker": "o", "markersize": 4, "linestyle": ""}
    styles = [
        Line2D([], [], color="0.3", label="exact: σ / √n"),
        Line2D([], [], label="measured (bars: 95 % intervals)", **point),
    ]
    for lines, heading, corner in ((handles, "estimator", "upper"), (styles, "drawn", "lower")):
        figure.legend(
            handles=lines, title=heading, loc=f"outside right {corner}", alignment="left",
            fontsize=9, frameon=False,
        )  # fmt: skip
    return figure
