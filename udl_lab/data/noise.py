"""The random numbers that a denoiser's training step needs, drawn as an augmentation's are."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.diffusion.objectives import stratified
from udl_lab.ranges import Positive


class Drawn(NamedTuple):
    """For each example of a batch: a place among the levels, a place for its label, and noise."""

    level: Float[Tensor, " batch"]  # uniform on [0, 1), one in each of as many equal pieces
    keep: Float[Tensor, " batch"]  # uniform on [0, 1): the label is left out where it is small
    eps: Float[Tensor, " batch *shape"]


class Noise:
    """Draws levels and noise for each example; the examples themselves it leaves as they are.

    As an augmentation its numbers belong to the batch, not to the process or the moment: a run
    resumed, or spread over devices, trains on the very same noise.
    """

    def __init__(self, in_shape: Sequence[Positive]) -> None:
        """Take the shape of one example."""
        self.in_shape = tuple(in_shape)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n number"]:
        """The numbers of n examples, a row each; `drawn` takes them apart."""
        level = stratified(n, generator).float().unsqueeze(1)
        rest = torch.rand(n, 1, generator=generator)
        eps = torch.randn(n, math.prod(self.in_shape), generator=generator)
        # The single precision of a number just under 1 may be 1.
        return torch.cat([level.clamp(max=1 - 2**-24), rest, eps], 1)

    def __call__(self, x: Tensor, parameters: Tensor, fill: float) -> Tensor:
        """The examples as they are."""
        return x


def drawn(parameters: Float[Tensor, "batch number"], x: Float[Tensor, " batch *shape"]) -> Drawn:
    """The numbers of `Noise.draw` for the examples of a batch."""
    return Drawn(parameters[:, 0], parameters[:, 1], parameters[:, 2:].reshape(x.shape))
