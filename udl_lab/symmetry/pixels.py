"""Moves of whole pixels: a gather, translations, mirrors, quarter turns. Nothing is resampled."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]


def gather_pixels(x: Images, index: Int64[Tensor, "batch height*width"], fill: float) -> Images:
    """Image i whose pixel p is pixel `index[i, p]` of image i of `x`, the same in every channel.

    Pixels are counted row by row. The index `height*width` stands for a place outside the frame:
    one extra pixel that holds `fill` is appended to each image, so that no mask is needed.
    """
    batch, channel, height, width = x.shape
    source = F.pad(x.reshape(batch, channel, height * width), (0, 1), value=fill)
    # Measured against take, index_select and gather-then-mask: 2 times faster, 20 at batch 1024.
    # The expanded index costs no memory.
    return source.gather(2, index[:, None].expand(-1, channel, -1)).reshape(x.shape)


def pixel_index(
    row: Int64[Tensor, "batch _ _"],
    column: Int64[Tensor, "batch _ _"],
    height: int,
    width: int,
) -> Int64[Tensor, "batch pixels"]:
    """The index that `gather_pixels` takes, from source rows and columns (these broadcast).

    A source outside the frame becomes `height*width`, where the fill is.
    """
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return torch.where(inside, row * width + column, height * width).flatten(1)


def translate(
    x: Images, right: Int64[Tensor, " #batch"], down: Int64[Tensor, " #batch"], fill: float
) -> Images:
    """Each image moved by its own whole pixels (or all by one move); negative is left and up.

    What leaves the frame is lost and what enters is `fill`, so translations do not compose to a
    group: there and back is the identity only where nothing left the frame.
    """
    height, width = x.shape[-2:]
    row = torch.arange(height, device=x.device) - down.to(x.device)[:, None]
    column = torch.arange(width, device=x.device) - right.to(x.device)[:, None]
    index = pixel_index(row[:, :, None], column[:, None], height, width)
    return gather_pixels(x, index.expand(len(x), -1), fill)


def flip(x: Images, horizontal: Bool[Tensor, " batch"], vertical: Bool[Tensor, " batch"]) -> Images:
    """Each image mirrored left-right where `horizontal`, and top-bottom where `vertical`."""

    def of_image(chosen):
        return chosen.to(x.device)[:, None, None, None]

    x = torch.where(of_image(horizontal), x.flip(-1), x)
    return torch.where(of_image(vertical), x.flip(-2), x)


def quarter_turns(x: Images, quarters: Real[Tensor, " #batch"]) -> Images:
    """Each square image turned counter-clockwise by its own whole number of quarter turns."""
    turned = x
    for k in (1, 2, 3):
        chosen = (torch.remainder(quarters, 4) == k)[:, None, None, None]
        turned = torch.where(chosen, torch.rot90(x, k, (-2, -1)), turned)
    return turned
