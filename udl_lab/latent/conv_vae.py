"""A small convolutional model for images, such as 28 × 28 pixels with two latents for pictures."""

import math
from collections.abc import Sequence
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.latent.heads import HeadName, head_named
from udl_lab.latent.model import LatentModel
from udl_lab.latent.priors import StandardNormal
from udl_lab.ranges import Positive


class ConvEncoder(nn.Module):
    """Two convolutions that halve the sides, a hidden layer of `width`, then 2 · latent numbers."""

    def __init__(self, in_shape: Sequence[int], latent: int, channels: int, width: int) -> None:
        super().__init__()
        n_in, height, side = in_shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_in, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.ReLU(),
        )
        self.hidden = nn.Sequential(
            nn.Linear(2 * channels * (height // 4) * (side // 4), width), nn.ReLU()
        )
        self.output = nn.Linear(width, 2 * latent)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch two_latent"]:
        """The means, then the log standard deviations."""
        return self.output(self.hidden(self.convolutions(x).flatten(1)))


class ConvDecoder(nn.Module):
    """The encoder's layers in reverse, with transposed convolutions of zero padding."""

    def __init__(
        self, in_shape: Sequence[int], latent: int, channels: int, width: int, n_outputs: int
    ) -> None:
        super().__init__()
        n_out, height, side = in_shape
        small = (2 * channels, height // 4, side // 4)
        self.hidden = nn.Sequential(
            nn.Linear(latent, width),
            nn.ReLU(),
            nn.Linear(width, math.prod(small)),
            nn.ReLU(),
            nn.Unflatten(1, small),
        )
        # The maps of all channels come first for one number of the head, then for the next.
        self.convolutions = nn.Sequential(
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, n_outputs * n_out, 4, stride=2, padding=1),
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch out"]:
        """The head's numbers, flattened."""
        return self.convolutions(self.hidden(z)).flatten(1)


@final
class ConvVAE(LatentModel):
    """One stochastic layer between convolutions, with torch's initial weights."""

    def __init__(
        self,
        in_shape: Sequence[Positive],
        latent: Positive = 2,
        channels: Positive = 16,
        width: Positive = 128,
        head: HeadName = "bernoulli",
        soft_targets: bool = False,
    ) -> None:
        """Build the model.

        Args:
            in_shape: channels, height and width of one image.
            latent: the number of latents.
            channels: of the first convolution; the second has twice as many.
            width: of the hidden layers next to the latents.
            head: as for `MLPVAE`.
            soft_targets: as for `MLPVAE`.

        Raises:
            ValueError: for what is no image with sides of a multiple of 4 pixels, latent = 0, or
                an unknown head.
        """
        if len(in_shape) != 3 or in_shape[1] % 4 or in_shape[2] % 4:
            raise ValueError(
                f"in_shape={list(in_shape)}: ConvVAE halves the sides of images twice; give "
                "(channels, height, width) with sides that 4 divides, or use MLPVAE"
            )
        prior, distribution = StandardNormal(latent), head_named(head, soft_targets)
        super().__init__(
            ConvEncoder(in_shape, latent, channels, width),
            ConvDecoder(in_shape, latent, channels, width, distribution.n_outputs),
            prior,
            distribution,
        )
        self.in_shape = tuple(in_shape)
