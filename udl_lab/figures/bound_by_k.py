"""Bounds on log p(x) against the number of samples that each is made of."""

import pandas as pd
from matplotlib.figure import Figure


def bound_by_k(
    table: pd.DataFrame,
    title: str,
    exact: float | None = None,
    bars: str = "95 % intervals of the levels",
) -> Figure | None:
    """The ladder of bounds L_K with 95 % intervals, K logarithmic: a curve per model.

    An interval is that of a level. Where all K share their examples, the step from one K to the
    next is known far better than the levels; so is the distance from an exact log p(x).

    Args:
        table: rows with the metric `bound`, elements `k<K>`, and the model as site.
        title: what is bounded, and of which examples.
        exact: log p(x) in nats, where it is known.
        bars: what the table's intervals are.

    Returns:
        The figure, or nothing when the table has no bound.
    """
    rows = table[(table["metric"] == "bound") & table["element"].str.fullmatch(r"k\d+")]
    if rows.empty:
        return None
    rows = rows.assign(k=rows["element"].str[1:].astype(int)).sort_values("k")
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    models = rows.groupby("site", sort=False)
    for i, (model, of_one) in enumerate(models):
        sides = [of_one["estimate"] - of_one["low"], of_one["high"] - of_one["estimate"]]
        axes.errorbar(
            of_one["k"], of_one["estimate"], yerr=sides, color=f"C{i}", marker="o", markersize=4,
            linewidth=1, capsize=3, label=str(model).replace("_", " ") or "bound",
        )  # fmt: skip
    if exact is not None:
        axes.axhline(exact, color="black", linewidth=1, linestyle="--", label="exact log p(x)")
    ks = sorted(set(rows["k"]))
    axes.set(
        title=title, xscale="log", xlabel="K, samples of z in each bound",
        ylabel="bound on log p(x) (nats per example)",
    )  # fmt: skip
    axes.set_xticks(ks, [f"{k:,}" for k in ks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(
        loc="outside lower center", ncols=3, fontsize=9, frameon=False,
        title=f"bars: {bars}", title_fontsize=9,
    )  # fmt: skip
    return figure
