"""Pictures of equal size in rows on one canvas, on one scale of grey that is stated.

Values outside of the scale are drawn as the nearer end and counted in the caption; values that are
not finite are magenta. Neither should be overlooked.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

_GAP = 2  # pixels of an image between two images
_NOT_FINITE = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)


def pictures(
    rows: Sequence[Sequence[Tensor | None]],
    title: str,
    low: float,
    high: float,
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> tuple[Figure, Axes]:
    """Images, or a few in a cell, in rows on one canvas; pixels stay square and sharp.

    Args:
        rows: cells of equal shape, "channel height width" or with an axis of several images in
            front; `None` leaves a gap.
        title: what they are.
        low: the value of black.
        high: the value of white.
        names: of the columns and of the rows, or of neither.

    Returns:
        The figure, and its axes for labels.

    Raises:
        ValueError: for no images, an empty range, or other than one or three channels.
    """
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
    lines = [line for name in names[1] for line in name.splitlines()]
    beside = 0.9 + 0.08 * max(map(len, lines), default=0) if lines else 0.2
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
