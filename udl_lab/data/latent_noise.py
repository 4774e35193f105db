"""The random numbers that a latent model's training step needs, drawn as an augmentation's are."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.errors import UsageError
from udl_lab.randomness import generator
from udl_lab.ranges import Positive

# Whatever a run's seed, the test split has these pixels: a number depends on them by some tenths
# of a nat, and those of two runs must differ by the runs alone.
PINNED_SEED = 0

Binarise = Literal["stochastic", "fixed", "none"]


class LatentNoise:
    """Draws pixels of 0 and 1 from grey ones, and the noise ε of k latents for each example.

    As an augmentation its numbers belong to the batch, not to the process or the moment: a run
    resumed, or spread over devices, trains on the very same noise.
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        latents: Positive | Sequence[Positive] | None,
        k: Positive = 1,
        binarise: Binarise = "stochastic",
    ) -> None:
        """Say what is drawn.

        Args:
            in_shape: the shape of one example.
            latents: the number of latents, or those of each stochastic layer.
            k: samples of the latents for each example.
            binarise: `stochastic` makes a pixel 1 with its grey value as probability, anew at every
                presentation (Burda et al. 2016, section 5); `fixed` once and for all, when the data
                is read; `none` leaves the pixels as they are. Validation and test pixels are drawn
                once, with a seed of their own, for both of the former.

        Raises:
            ValueError: without latents.
        """
        if latents is None:
            raise ValueError(
                "latents=None: the network has no latents to draw noise for; choose net=mlp_vae, "
                "two_layer_vae, conv_vae or linear_vae, or another augment"
            )
        self.in_shape = tuple(in_shape)
        self.n_noise = latents if isinstance(latents, int) else sum(latents)
        self.k = k
        self.binarise = binarise

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n number"]:
        """The numbers of n examples, a row each; `eps_of` finds ε, which comes last."""
        eps = torch.randn(n, self.k * self.n_noise, generator=generator)
        if self.binarise != "stochastic":
            return eps
        return torch.cat([torch.rand(n, math.prod(self.in_shape), generator=generator), eps], 1)

    def __call__(self, x: Tensor, parameters: Tensor, fill: float) -> Tensor:
        """The examples with their pixels drawn; pixels that are 0 or 1 already stay."""
        if self.binarise != "stochastic":
            return x
        uniform = parameters[:, : x[0].numel()].reshape(x.shape)
        return (uniform < x).to(x.dtype)

    def pinned(
        self, x: Float[Tensor, " example *shape"], split: str
    ) -> Float[Tensor, " example *shape"]:
        """A whole split with its pixels drawn once, from the stream (PINNED_SEED, name of split).

        Raises:
            UsageError: for pixels outside [0, 1] or not a number, which are no probabilities.
        """
        if self.binarise == "none":
            return x
        low, high = (float(bound) for bound in x.aminmax()) if x.numel() else (0.0, 1.0)
        if math.isnan(low):  # of which every comparison says no
            raise UsageError(
                f"augment.binarise={self.binarise} takes pixels as probabilities, and one of the "
                f"{split} split is not a number (nan); repair the data, or leave such examples out"
            )
        if low < 0 or high > 1:
            raise UsageError(
                f"augment.binarise={self.binarise} takes pixels as probabilities, and those of the "
                f"{split} split go from {low:.4g} to {high:.4g}; set data.mean=0 data.std=1 for "
                "images, or augment.binarise=none and a network of other values"
            )
        stream = generator(PINNED_SEED, "binarised", split)
        # In parts: the uniform numbers of all of MNIST would take as much memory as itself.
        parts = [
            (torch.rand(part.shape, generator=stream) < part).to(x.dtype) for part in x.split(1000)
        ]
        return torch.cat(parts) if parts else x


def eps_of(
    parameters: Float[Tensor, "batch number"], k: Positive, n_noise: Positive, n_pixels: Positive
) -> Float[Tensor, "k batch n_noise"]:
    """The noise in the numbers of `LatentNoise.draw`, k samples for each example.

    Raises:
        ValueError: when it was drawn for another k or another number of latents.
    """
    n, given = k * n_noise, parameters.shape[1]
    if given not in (n, n + n_pixels):
        raise ValueError(
            f"augment drew {given} numbers for each example, and k={k} samples of {n_noise} "
            "latents need others; leave augment.k and augment.latents as they are"
        )
    return parameters[:, given - n :].unflatten(1, (k, n_noise)).transpose(0, 1)
