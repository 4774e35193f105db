"""What a latent model spends on the code, and what it loses in the picture."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def rate_distortion(table: pd.DataFrame, title: str) -> Figure:
    """A point per model in the plane of rate and distortion (Alemi et al. 2018), by β.

    Rate + distortion is −ELBO: all models on a line of slope −1 have one bound, and lower lines are
    better. The line of the best model is drawn full.

    Args:
        table: rows with the columns `beta`, `rate` and `distortion`, both in nats per example; a β
            may have several rows, as for several seeds.
        title: what the models are, and which examples.

    Raises:
        ValueError: for a table without rows.
    """
    if table.empty:
        raise ValueError("0 models make no curve; give a row per model")
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.subplots()
    mean = table.groupby("beta")[["rate", "distortion"]].mean()
    axes.plot(mean["rate"], mean["distortion"], color="C0", linewidth=1, alpha=0.5)
    axes.plot(table["rate"], table["distortion"], "o", color="C0", markersize=5)
    for beta, at in mean.iterrows():
        axes.annotate(f"β = {beta:g}", at, xytext=(6, 5), textcoords="offset points", fontsize=9)
    axes.margins(0.12)
    _equal_bounds(axes, float(-(table["rate"] + table["distortion"]).min()))
    axes.set(
        title=title, xlabel="rate KL(q(z|x) ‖ p(z)) (nats per example)",
        ylabel="distortion −E log p(x|z) (nats per example)",
    )  # fmt: skip
    axes.legend(fontsize=9)
    return figure


def _equal_bounds(axes: Axes, best: float) -> None:
    """The line of the best ELBO, and of round ones below it."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    rates = np.array([left, right])
    label = f"rate + distortion of the best ELBO, {best:.1f} nats".replace("-", "−")
    axes.plot(rates, -best - rates, color="black", linewidth=1.2, label=label, zorder=0)
    worse = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(-best, right + high)
    label = f"of ELBOs {worse[1] - worse[0]:g} nats apart"
    for total in worse[worse > -best]:
        axes.plot(
            rates, total - rates, color="black", linewidth=0.6, linestyle=":", label=label,
            zorder=0,
        )  # fmt: skip
        label = None
    axes.set(xlim=(left, right), ylim=(low, high))
