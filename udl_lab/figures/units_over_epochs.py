"""Which latent units a model uses while it trains, beside its bound."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_KL = r"latent/kl_unit\d+"
_ACTIVE = r"latent/active_units(_\w+)?"
_BOUNDS = ("val/elbo", "latent/elbo")  # the first of them that was logged


def units_over_epochs(metrics: pd.DataFrame, title: str) -> Figure | None:
    """KL(q(z|x) ‖ N(0, 1)) of each unit over the epochs; beneath, how many are active, the bound.

    Units are in the order of their last KL, the largest at the top; colours follow the root, or
    the few large ones would hide the rest. What was not logged has no panel.

    Args:
        metrics: a run's `metrics.csv` with what `TrackLatent` logs: `epoch` (from 0), columns
            `latent/kl_unit07` in nats, `latent/active_units` (or one per layer), and `val/elbo`.
        title: what the run is.

    Returns:
        The figure, or nothing when the table says nothing of units.
    """
    kl = _by_epoch(metrics, [c for c in metrics.columns if re.fullmatch(_KL, c)])
    active = _by_epoch(metrics, [c for c in metrics.columns if re.fullmatch(_ACTIVE, c)])
    if kl.empty and active.empty:
        return None
    bound = next((_by_epoch(metrics, [c]) for c in _BOUNDS if c in metrics.columns), pd.DataFrame())
    every = ((3.4, _heat_map, kl), (1.7, _active, active), (1.7, _bound, bound))
    panels = [panel for panel in every if not panel[2].empty]
    heights = [height for height, _, _ in panels]
    figure = Figure(figsize=(8.5, 1 + sum(heights)), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)
    for axes, (_, draw, table) in zip(grid[:, 0], panels, strict=True):
        draw(axes, table)
    grid[-1, 0].set_xlabel("epochs of training")
    return figure


def _by_epoch(metrics: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The last complete row of each epoch, by the number of epochs then done."""
    if not columns:
        return pd.DataFrame()
    found = metrics[["epoch", *columns]].dropna().groupby("epoch").last()
    return found.set_index(found.index + 1)


def _active(axes: Axes, table: pd.DataFrame) -> None:
    for column in table.columns:
        layer = column.removeprefix("latent/active_units").removeprefix("_")
        axes.plot(table.index, table[column], label=layer, **_marker(table))
    if len(table.columns) > 1:
        axes.legend(fontsize=9)
    axes.set_ylabel("active units\n(Var E[z|x] > .01)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _bound(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table.index, table.iloc[:, 0], **_marker(table))
    axes.set_ylabel("ELBO, validation split\n(nats per example)")
    axes.grid(alpha=0.3)


def _marker(table: pd.DataFrame) -> dict[str, str]:
    return {"marker": "."} if len(table) < 40 else {}


def _heat_map(axes: Axes, kl: pd.DataFrame) -> None:
    order = kl.iloc[-1].sort_values(ascending=False).index
    values = kl[order].to_numpy().T
    ranks = np.arange(len(order) + 1) + 0.5
    picture = axes.pcolormesh(
        _edges(kl.index.to_numpy(dtype=float)), ranks, values, cmap="viridis",
        norm=PowerNorm(0.5, vmin=0, vmax=max(float(np.nanmax(values)), 1e-9)), rasterized=True,
    )  # fmt: skip
    axes.figure.colorbar(picture, ax=axes, label="KL of the unit (nats, colour by its root)")
    axes.set_ylim(len(order) + 0.5, 0.5)
    few = len(order) <= 20
    names = [str(int(name.removeprefix("latent/kl_unit"))) for name in order]
    if few:
        axes.set_yticks(np.arange(len(order)) + 1, names)
    axes.set_ylabel("unit, by its last KL" if few else "units in the order of their last KL")


def _edges(epochs: np.ndarray) -> np.ndarray:
    """Where the columns of the map meet: half-way between epochs."""
    if len(epochs) == 1:
        return epochs[0] + np.array([-0.5, 0.5])
    middles = (epochs[1:] + epochs[:-1]) / 2
    return np.concatenate([[2 * epochs[0] - middles[0]], middles, [2 * epochs[-1] - middles[-1]]])
