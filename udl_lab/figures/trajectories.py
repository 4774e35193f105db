"""Samplers on simple laws: their paths over the law's density, and where they end."""

import math

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.diffusion.denoisers import GaussianMixture
from udl_lab.diffusion.samplers import Trajectory
from udl_lab.ranges import Positive

_DATA, _SAMPLES = "0.45", "C3"
_N_LEVELS, _N_PLACES = 200, 400  # of the heat map: finer than the print
_N_BINS = 80


def density_and_trajectories(
    mixture: GaussianMixture, trajectory: Trajectory, title: str, most: Positive = 15
) -> Figure:
    """The density of x_t at every level with paths of a sampler over it, and where they all end.

    Time runs as a sampler walks: pure noise at the left, data at the right. Colours follow the root
    of the density, or narrow modes would hide the rest.

    Args:
        mixture: the law of the data, on the line.
        trajectory: a recorded walk down to level 0.
        title: what the sampler is.
        most: so many paths are drawn, evenly spaced over the batch; the histogram counts them all.

    Raises:
        ValueError: for a law not on the line, or a walk that has no state at level 0.
    """
    if mixture.means.shape[1] != 1:
        raise ValueError(
            f"a law in {mixture.means.shape[1]} dimensions has no heat map over t; draw it with "
            "plane_samples"
        )
    if 0 not in trajectory.levels:
        raise ValueError(
            f"the walk visits levels {trajectory.levels}; record one that ends at level 0"
        )
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.4, 1])
    reach = _reach(mixture)
    _heat_map(left, mixture, reach)
    _paths(left, trajectory, most)
    _ends(right, mixture, trajectory, reach)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _reach(mixture: GaussianMixture) -> float:
    """How far from 0 the density has anything to show, of the data or of the noise."""
    deviations = mixture.variances.sqrt()
    return max(3.6, float((mixture.means[:, 0].abs() + 3.3 * deviations).max()))


def _heat_map(axes: Axes, mixture: GaussianMixture, reach: float) -> None:
    last = mixture.schedule.n_steps
    levels = np.linspace(0, last, _N_LEVELS + 1)
    places = torch.linspace(-reach, reach, _N_PLACES + 1, dtype=torch.float64)
    columns = [mixture.log_prob(places[:, None], float(t)).exp() for t in levels]
    density = torch.stack(columns, 1).numpy()
    picture = axes.pcolormesh(
        levels, places.numpy(), density, norm=PowerNorm(0.5, vmin=0), cmap="Blues",
        shading="gouraud", rasterized=True,
    )  # fmt: skip
    axes.figure.colorbar(
        picture, ax=axes, location="left", pad=0.02, label="density of $x_t$ (colour by its root)"
    )
    axes.set(
        title="density of $x_t$ and paths of the sampler",
        xlim=(last, 0),
        ylim=(-reach, reach),
        xlabel=f"level t: noise (T = {last}) at the left, data (0) at the right; samplers walk →",
        ylabel="$x_t$ (data's unit)",
    )


def _paths(axes: Axes, trajectory: Trajectory, most: int) -> None:
    x = trajectory.x[:, :, 0].double().cpu().numpy()
    n = x.shape[1]
    # Of quantiles the middle ones of equal parts; of independent draws these are draws as well.
    chosen = np.unique((np.arange(most) + 0.5) * n // most).astype(int)
    few = len(trajectory.levels) <= 30
    style = {"marker": ".", "linewidth": 1} if few else {"marker": None, "linewidth": 0.7}
    for i, path in enumerate(x[:, chosen].T):
        axes.plot(
            trajectory.levels, path, color="C1", markersize=4, **style,
            label="" if i else f"{len(chosen)} of {n:,} paths",
        )  # fmt: skip


def _ends(axes: Axes, mixture: GaussianMixture, trajectory: Trajectory, reach: float) -> None:
    ends = trajectory.x[trajectory.levels.index(0), :, 0].double().cpu().numpy()
    edges = np.linspace(-reach, reach, _N_BINS + 1)
    counts = np.histogram(ends, edges)[0]
    counted = _counted(len(ends), int(counts.sum()), "samples")
    axes.stairs(
        counts / (len(ends) * (edges[1] - edges[0])), edges, orientation="horizontal", fill=True,
        color="C1", alpha=0.6, label=f"ends at level 0: {counted}",
    )  # fmt: skip
    places = torch.linspace(-reach, reach, 4 * _N_BINS + 1, dtype=torch.float64)
    density = mixture.log_prob(places[:, None]).exp()
    axes.plot(density.numpy(), places.numpy(), color="black", linewidth=1.2, label="data's density")
    axes.set(title="where they end", xlabel="density (per data's unit)", xlim=(0, None))
    axes.grid(alpha=0.3)


def line_samples(samples: Float[Tensor, " sample"], title: str) -> Figure:
    """A histogram of numbers; far ones, and ones that are not finite, are counted beside it."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    values = samples.detach().double().cpu()
    low, high = _bulk(values)
    edges = np.linspace(low, high, _N_BINS + 1)
    counts = np.histogram(values.numpy(), edges)[0]
    axes.stairs(counts / (max(1, len(values)) * (edges[1] - edges[0])), edges, fill=True, alpha=0.6)
    axes.set(title=title, xlim=(low, high), ylim=(0, None), ylabel="density (per data's unit)")
    axes.set_xlabel(f"value (data's unit): {_counted(len(values), int(counts.sum()), 'samples')}")
    axes.grid(alpha=0.3)
    return figure


def plane_samples(
    real: Float[Tensor, "example 2"] | None, panels: dict[str, Float[Tensor, "_ 2"]], title: str
) -> Figure:
    """Samples in the plane, a panel per sampler, each over the data and in the same axes.

    Args:
        real: the data, drawn alone in the first panel and beneath the samples in the others; they
            set the axes. `None` where they are not at hand.
        panels: samples by the sampler's name.
        title: what the law is.

    Raises:
        ValueError: with nothing to draw.
    """
    clouds = ([("data", real)] if real is not None else []) + list(panels.items())
    if not clouds:
        raise ValueError("neither data nor samples to draw; give one of them")
    columns = min(4, len(clouds))
    rows = math.ceil(len(clouds) / columns)
    size = max(5.5, 3.3 * columns), 3.4 * rows + 0.9 + 1.5 * (len(clouds) == 1)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    low, high = _bulk(torch.cat([x.flatten() for x in panels.values()]) if real is None else real)
    for axes, (name, points) in zip(grid.flat, clouds, strict=False):
        if real is not None:
            _cloud(axes, real, _DATA)
        if points is not real:
            _cloud(axes, points, _SAMPLES)
        inside = int(((points > low) & (points < high)).all(1).sum())
        axes.set_title(f"{name}\n({_counted(len(points), inside, 'points')})", fontsize=10)
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(clouds) :]:
        axes.remove()
    beneath = "; grey: the data" if real is not None else ""
    figure.supxlabel(f"first coordinate (data's unit){beneath}", fontsize=10)
    figure.supylabel("second coordinate", fontsize=10)
    return figure


def _cloud(axes: Axes, points: Tensor, colour: str) -> None:
    x, y = points.detach().double().cpu().numpy().T
    # Few points are large, many small, so that neither is a blot.
    size = min(8.0, max(0.8, 4000 / max(1, len(x))))
    axes.scatter(x, y, s=size, color=colour, alpha=0.6, linewidths=0, rasterized=True)


def _bulk(values: Tensor) -> tuple[float, float]:
    """Where nearly all values lie, with a margin, so that a few far ones do not squash the rest."""
    finite = values.detach().double().cpu().flatten()
    finite = finite[finite.isfinite()].numpy()
    low, high = np.quantile(finite, [0.002, 0.998]) if len(finite) else (0.0, 0.0)
    margin = 0.2 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _counted(n: int, n_shown: int, noun: str) -> str:
    return f"{n:,} {noun}" + (f", {n - n_shown:,} of them outside" if n_shown < n else "")
