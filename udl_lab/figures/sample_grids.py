"""Generated images and signals side by side, on one scale of grey that is stated.

Images lie in [low, high], usually [−1, 1]; `canvas` says what becomes of other values.
"""

import math
from collections.abc import Mapping

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.figures.canvas import pictures
from udl_lab.ranges import Positive


def sample_grid(
    images: Float[Tensor, "n channel height width"],
    title: str,
    columns: Positive = 8,
    low: float = -1.0,
    high: float = 1.0,
) -> Figure:
    """Images in rows.

    Args:
        images: of one channel (grey) or three (red, green, blue).
        title: what made them.
        columns: so many in a row.
        low: the value of black.
        high: the value of white.

    Raises:
        ValueError: for another number of channels, no images or an empty range.
    """
    cells = [images[i : i + columns] for i in range(0, len(images), columns)]
    figure, _ = pictures([list(row) for row in cells], title, low, high)
    return figure


def same_start_grid(
    images: Mapping[str, Float[Tensor, "start channel height width"]],
    title: str,
    low: float = -1.0,
    high: float = 1.0,
) -> Figure:
    """A row per sampler, a column per noise that they all start from.

    Args:
        images: of each sampler by its label, in the same order of starts.
        title: what the network is.
        low: the value of black.
        high: the value of white.

    Raises:
        ValueError: when samplers have different numbers or shapes of images, and as `sample_grid`.
    """
    _same_shape(images)
    rows = [list(row) for row in images.values()]
    starts = [str(i + 1) for i in range(max(map(len, rows), default=0))]
    figure, axes = pictures(rows, title, low, high, (starts, list(images)))
    axes.set(xlabel="start (a column has one noise $x_T$)", ylabel="sampler")
    return figure


def eta_by_steps(
    grid: Mapping[tuple[float | int, int], Float[Tensor, "*few channel height width"]],
    title: str,
    low: float = -1.0,
    high: float = 1.0,
) -> Figure:
    """Images by the number of steps (across) and by η (down), all from the same noise.

    Args:
        grid: (η, steps) to an image, or to a few, which are tiled. A pair left out leaves a gap.
        title: what the network is.
        low: the value of black.
        high: the value of white.

    Raises:
        ValueError: when cells have different numbers or shapes of images, and as `sample_grid`.
    """
    _same_shape({f"η = {eta:g}, {steps} steps": cell for (eta, steps), cell in grid.items()})
    etas = sorted({float(eta) for eta, _ in grid})
    steps = sorted({n for _, n in grid})
    cells = [[grid.get((eta, n)) for n in steps] for eta in etas]
    names = [f"{n:,}" for n in steps], [f"{eta:g}" for eta in etas]
    figure, axes = pictures(cells, title, low, high, names)
    axes.set(
        xlabel="steps of the sampler\n(η = 0: deterministic, η = 1: the noise of ancestral steps)",
        ylabel="η",
    )
    return figure


def signal_grid(signals: Float[Tensor, "n 1 length"], title: str, columns: Positive = 8) -> Figure:
    """Signals in rows, each in axes of its own, all on one scale.

    Raises:
        ValueError: without signals.
    """
    if not len(signals):
        raise ValueError("0 signals make no grid; sample at least one")
    columns = min(columns, len(signals))
    rows = math.ceil(len(signals) / columns)
    figure = Figure(figsize=(1.35 * columns + 0.8, 1.1 * rows + 1.1), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    curves = signals[:, 0].detach().double().cpu().numpy()
    length = curves.shape[1]
    for axes, curve in zip(grid.flat, curves, strict=False):
        axes.axhline(0, color="black", linewidth=0.5, alpha=0.4)
        axes.plot(range(length), curve, linewidth=1)
        axes.tick_params(labelsize=8)
    for unused in range(len(signals), rows * columns):
        grid.flat[unused].set_axis_off()
        grid.flat[unused - columns].tick_params(labelbottom=True)  # it has none beneath it
    grid[0, 0].set_xticks([0, length // 2, length])
    figure.supxlabel("position along the signal", fontsize=10)
    figure.supylabel("value (data's unit)", fontsize=10)
    return figure


def _same_shape(images: Mapping[str, Tensor]) -> None:
    shapes = {label: tuple(of_one.shape) for label, of_one in images.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"shapes {shapes} differ; give each cell or row as many, of one size")
