"""What a denoiser is told besides its input: the noise level, and perhaps a label.

A level t is a fraction of the schedule's length: 0 is clean, 1 is the noisiest.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from udl_lab.ranges import Positive

FASTEST = 1000  # radians per unit of t: one per level of Ho et al. 2020, for any schedule's length
RATIO = 10_000  # of the fastest frequency to the limit of the slowest


def fourier_features(t: Float[Tensor, " batch"], n: Positive) -> Float[Tensor, "batch n"]:
    """Sines and then cosines of each level at n/2 frequencies, in the precision of `t`.

    Vaswani et al. 2017, §3.5, at the position 1000 t (Ho et al. 2020, appendix B): the frequencies
    are 1000 · 10000^(-2i/n) radians per unit of t, for i = 0 … n/2 - 1. The fastest turns by one
    radian per thousandth, the slowest by .1 · 10000^(2/n) radians over the whole of [0, 1]. The
    distance of two levels' features depends on the levels' difference alone.

    Raises:
        ValueError: for an odd `n`, which leaves a sine without its cosine.
    """
    _check_even(n)
    i = torch.arange(n // 2, dtype=t.dtype, device=t.device)
    angles = t[:, None] * (FASTEST * torch.exp(-math.log(RATIO) * 2 * i / n))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Condition(nn.Module):
    """The features of the level and, for a network with labels, a learned vector of the label.

    The two stand side by side: `size` numbers for each example. The label `n_classes` says "no
    label"; it has a vector of its own, so that one network learns both the conditional and the
    unconditional score (Ho & Salimans 2022, §3.2).
    """

    def __init__(self, n_features: Positive, n_classes: Positive | None = None) -> None:
        super().__init__()
        _check_even(n_features)
        self.n_features = n_features
        self.n_classes = n_classes
        self.size = n_features if n_classes is None else 2 * n_features
        self.label = None if n_classes is None else nn.Embedding(n_classes + 1, n_features)

    def forward(
        self, t: Float[Tensor, " batch"], y: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch size"]:
        """The condition of each example; `None` gives every one the label "no label".

        Raises:
            ValueError: for labels when the network was built without them.
        """
        features = fourier_features(t, self.n_features)
        if self.label is None:
            if y is not None:
                raise ValueError(
                    "labels were given to a network without labels; build it with n_classes set to "
                    "their number, or leave y out"
                )
            return features
        if y is None:
            y = torch.full_like(t, self.label.num_embeddings - 1, dtype=torch.long)
        return torch.cat([features, self.label(y)], dim=1)


def _check_even(n_features: int) -> None:
    if n_features % 2:
        raise ValueError(
            f"n_features {n_features} is odd; use {n_features + 1}: each sine goes with a cosine"
        )
