"""Generated images and signals side by side, on one scale of grey that is stated.

Images lie in [low, high], usually [−1, 1]. Values outside are drawn as the nearer end and counted
in the caption; values that are not finite are magenta. Neither should be overlooked.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.ranges import Positive

_GAP = 2  # pixels of an image between two images
_NOT_FINITE = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)


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
    figure, _ = _pictures([list(row) for row in cells], title, low, high)
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
    figure, axes = _pictures(rows, title, low, high, (starts, list(images)))
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
    figure, axes = _pictures(cells, title, low, high, names)
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


def _pictures(
    rows: Sequence[Sequence[Tensor | None]],
    title: str,
    low: float,
    high: float,
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> tuple[Figure, Axes]:
    """All cells on one canvas: pixels stay square and sharp. `names` are of columns and rows."""
    given = [cell for row in rows for cell in row if cell is not None]
    _check(given, low, high)
    images = given[0].unsqueeze(0) if given[0].ndim == 3 else given[0]
    gap = _GAP if len(images) == 1 else 4 * _GAP  # what belongs together stands together
    blank = np.ones_like(_tiled(given[0], low, high))
    drawn = [[blank if cell is None else _tiled(cell, low, high) for cell in row] for row in rows]
    widest = max(map(len, drawn))
    filled = [row + [blank] * (widest - len(row)) for row in drawn]
    canvas = _joined([_joined(row, gap, 1) for row in filled], gap, 0)
    height, width = canvas.shape[:2]
    inch = max(0.028, 0.7 / given[0].shape[-1])  # of one pixel
    inch = min(inch, 13 / max(height, width))
    beside = 0.9 + 0.08 * max(map(len, names[1])) if names[1] else 0.2
    size = max(5.5, inch * width + beside), inch * height + (1.5 if names[0] else 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_title(title)
    figure.supxlabel(_caption(torch.stack(given), low, high), fontsize=8)
    _tick(axes, names, (blank.shape[1], blank.shape[0]), gap)
    return figure, axes


def _check(given: Sequence[Tensor], low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"low={low} must be below high={high}")
    if not given or not all(map(len, given)):
        raise ValueError("0 images make no grid; sample at least one")
    if given[0].shape[-3] not in (1, 3):
        raise ValueError(
            f"{given[0].shape[-3]} channels are no picture; give 1 (grey) or 3 (red, green, blue)"
        )


def _tiled(images: Tensor, low: float, high: float) -> np.ndarray:
    """One image or a few, nearly square, as red, green and blue."""
    images = images.detach().double().cpu().reshape(-1, *images.shape[-3:])
    shares = ((images - low) / (high - low)).clamp(0, 1).movedim(1, 3)
    finite = images.isfinite().all(1).unsqueeze(3)
    colours = torch.where(finite, shares, _NOT_FINITE).numpy()
    columns = math.ceil(math.sqrt(len(colours)))
    blank = np.ones_like(colours[0])
    rows = [list(colours[i : i + columns]) for i in range(0, len(colours), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    return _joined([_joined(row, _GAP, 1) for row in rows], _GAP, 0)


def _joined(pictures: Sequence[np.ndarray], gap: int, axis: int) -> np.ndarray:
    """Pictures side by side (axis 1) or below each other (0), white between them."""
    shape = list(pictures[0].shape)
    shape[axis] = gap
    parts = [part for picture in pictures for part in (picture, np.ones(shape))]
    return np.concatenate(parts[:-1], axis)


def _caption(values: Tensor, low: float, high: float) -> str:
    finite = values.isfinite()
    outside = ((values < low) | (values > high)) & finite
    caption = (
        f"black {low:g}, white {high:g}"
        if values.shape[-3] == 1
        else f"dark {low:g}, bright {high:g}"
    )
    if outside.any():
        caption += f"; {outside.double().mean():.2%} of the values lie outside and are cut"
    if not finite.all():
        caption += f"; {(~finite).double().mean():.2%} are not finite (magenta)"
    return caption.replace("-", "−")


def _tick(
    axes: Axes, names: tuple[Sequence[str], Sequence[str]], cell: tuple[int, int], gap: int
) -> None:
    """Name the cells' columns and rows, at their middles."""
    columns, rows = ([i * (n + gap) + (n - 1) / 2 for i in range(len(of_axis))]
                     for n, of_axis in zip(cell, names, strict=True))  # fmt: skip
    axes.set_xticks(columns, names[0])
    axes.set_yticks(rows, names[1])
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
