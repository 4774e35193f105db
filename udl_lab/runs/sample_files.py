"""How samples of a run are written: whole files only, and a picture where there is one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from udl_lab.figures.examples import draw_examples
from udl_lab.figures.sample_grids import sample_grid


def write(file: Path, arrays: Mapping[str, Tensor]) -> Path:
    """Write arrays by name; the file is whole, or not there."""
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, **{name: array.numpy() for name, array in arrays.items()})
    return part.replace(file)


def draw(x: Tensor, title: str, file: Path, low: float = -1.0) -> str:
    """The picture's file, or why there is none; pixels are drawn from `low` to 1."""
    try:
        images = x.ndim == 4
        figure = sample_grid(x, title, low=low) if images else draw_examples(x, title)
    except ValueError as error:  # no shape to draw; the examples are worth keeping all the same
        return f"none: {error}"
    figure.savefig(file, dpi=130)
    return str(file)
