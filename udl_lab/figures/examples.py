"""Examples of any shape in the lab, drawn as what they are."""

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from udl_lab.figures.sample_grids import sample_grid, signal_grid
from udl_lab.figures.trajectories import line_samples, plane_samples


def draw_examples(x: Float[Tensor, " example *shape"], title: str) -> Figure:
    """Images or signals side by side, points of the plane, or a histogram of numbers.

    Raises:
        ValueError: for vectors of more than two dimensions.
    """
    shape = x.shape[1:]
    if len(shape) == 3:
        return sample_grid(x, title)
    if len(shape) == 2:
        return signal_grid(x, title)
    if len(shape) == 1 and shape[0] == 2:
        return plane_samples(None, {"samples": x}, title)
    if len(shape) == 1 and shape[0] == 1:
        return line_samples(x[:, 0], title)
    raise ValueError(f"examples of shape {tuple(shape)} have no picture; draw them by hand")
