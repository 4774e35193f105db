"""A U-Net: the denoiser for images and signals (Ronneberger et al. 2015; Ho et al. 2020).

With few channels where there are many pixels, and attention only where there are few: made for two
CPU cores.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from udl_lab.nets.embedding import Condition
from udl_lab.ranges import Positive

Kind = type[nn.Conv1d] | type[nn.Conv2d]


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input; the level scales and shifts between.

    Normalise, SiLU, convolve; normalise, scale and shift, SiLU, convolve (Ho et al. 2020, appendix
    B; scale and shift by `norm(h) (1 + w) + b` as in Nichol & Dhariwal 2021, appendix A). The input
    goes through a convolution of one pixel where the number of channels changes.
    """

    def __init__(self, kind: Kind, n_in: int, n_out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, n_in)
        self.conv_in = kind(n_in, n_out, 3, padding=1)
        self.norm_out = nn.GroupNorm(groups, n_out, affine=False)  # the level's are in its place
        self.scale_shift = nn.Linear(embedding, 2 * n_out)
        self.conv_out = kind(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Identity() if n_in == n_out else kind(n_in, n_out, 1)

    def forward(
        self, h: Float[Tensor, "batch n_in *sides"], level: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch n_out *sides"]:
        """The block's output for activations `h`, given the embedding of level and label."""
        ones = [1] * (h.ndim - 2)
        scale, shift = self.scale_shift(level).unflatten(1, (-1, *ones)).chunk(2, dim=1)
        r = self.conv_in(F.silu(self.norm_in(h)))
        r = torch.addcmul(shift, self.norm_out(r), 1 + scale)
        return self.shortcut(h) + self.conv_out(F.silu(r))


class Attention(nn.Module):
    """Every pixel looks at all pixels, and what it sees is added to it.

    Normalise, one head of scaled dot products, a convolution of one pixel (Vaswani et al. 2017, eq.
    1; between convolutions as in Ho et al. 2020, appendix B).
    """

    def __init__(self, kind: Kind, n: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, n)
        self.query_key_value = kind(n, 3 * n, 1)
        self.out = kind(n, n, 1)

    def forward(self, h: Float[Tensor, "batch n *sides"]) -> Float[Tensor, "batch n *sides"]:
        """The activations `h` with what each pixel has seen added."""
        query, key, value = self.query_key_value(self.norm(h)).flatten(2).chunk(3, dim=1)
        # Written out: for so few pixels a fifth faster than torch's fused product, forth and back.
        attention = (query.mT @ key / query.shape[1] ** 0.5).softmax(-1)  # of pixel to pixel
        return h + self.out((value @ attention.mT).reshape(h.shape))


class Blocks(nn.ModuleList):
    """Residual blocks one after the other, all given the same embedding."""

    def __init__(
        self, kind: Kind, n_in: int, n_out: int, embedding: int, groups: int, n: int
    ) -> None:
        sizes = [n_in] + [n_out] * (n - 1)
        super().__init__(ResidualBlock(kind, size, n_out, embedding, groups) for size in sizes)

    def forward(
        self, h: Float[Tensor, "batch n_in *sides"], level: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch n_out *sides"]:
        """The last block's output."""
        for block in self:
            h = block(h, level)
        return h


class UNet(nn.Module):
    """Down to coarse maps, which see the whole example, and up again with the fine maps beside.

    Each resolution but the coarsest has `n_blocks` residual blocks on the way down and `n_blocks`
    on the way up, the coarsest 2 `n_blocks`, with attention after them if asked for. Down by the
    mean of two pixels (of 2 x 2), up by repeating them. All padding is with zeros. One- or
    two-dimensional after the shape of its examples.

    Sites for the recorder: `stem`, `down.<i>.<j>`, `middle.<j>`, `attend`, `up.<i>.<j>` (i counts
    from the finest) and `head`.
    """

    takes_level = True  # it is called as net(x, t) or net(x, t, y)

    def __init__(
        self,
        in_shape: Sequence[Positive],
        channels: Sequence[Positive] = (32, 64),
        n_blocks: Positive = 1,
        stem_stride: Literal[1, 2] = 2,
        embedding: Positive = 128,
        n_features: Positive = 64,
        groups: Positive = 8,
        attention: bool = False,
        n_classes: Positive | None = None,
        n_outputs: Positive = 1,
    ) -> None:
        """Build the network.

        Args:
            in_shape: (channels, length) or (channels, height, width) of one example.
            channels: the number of feature maps at each resolution, the finest first.
            n_blocks: residual blocks at each resolution, on the way down and again on the way up.
            stem_stride: of the first convolution and of the last, transposed one, in pixels: 2
                spares the network the full resolution, which costs most.
            embedding: the size of the vector for level and label that every block is given.
            n_features: of the level (an even number), and as many of the label.
            groups: of channels that are normalised together.
            attention: whether the pixels of the coarsest maps look at each other.
            n_classes: the number of labels; `None` for a network without labels.
            n_outputs: how many arrays of the example's shape come out; 2 for a mean and a variance.

        Raises:
            ValueError: when an example is no signal or image, when its sides do not halve evenly,
                when the groups do not divide the channels, or for an odd `n_features`.
        """
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.n_classes = n_classes
        self.out_shape = self.in_shape if n_outputs == 1 else (n_outputs, *self.in_shape)
        dimensions = _dimensions(self.in_shape, stem_stride, len(channels))
        _check_groups(groups, channels)
        kind = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
        transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d)[dimensions - 1]
        self.halve = (nn.AvgPool1d, nn.AvgPool2d)[dimensions - 1](2)
        self.condition = Condition(n_features, n_classes)
        self.embed = nn.Sequential(
            nn.Linear(self.condition.size, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
            nn.SiLU(),
        )

        blocks = partial(Blocks, kind, embedding=embedding, groups=groups)
        # A kernel of stride + 2 and one pixel of padding divide the side exactly, and restore it.
        kernel = stem_stride + 2
        *fine, coarse = channels
        before = [channels[0], *channels]
        self.stem = kind(self.in_shape[0], channels[0], kernel, stem_stride, padding=1)
        self.down = nn.ModuleList(blocks(before[i], c, n=n_blocks) for i, c in enumerate(fine))
        self.middle = blocks(before[-2], coarse, n=2 * n_blocks)
        self.attend = Attention(kind, coarse, groups) if attention else nn.Identity()
        # One pixel each, so before the pixels are repeated: the same function for fewer products.
        self.narrow = nn.ModuleList(kind(channels[i + 1], c, 1) for i, c in enumerate(fine))
        self.up = nn.ModuleList(blocks(2 * c, c, n=n_blocks) for c in fine)
        self.norm = nn.GroupNorm(groups, channels[0])
        n_maps = n_outputs * self.in_shape[0]
        self.head = transposed(channels[0], n_maps, kernel, stem_stride, padding=1)
        if dimensions == 2:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x: Float[Tensor, " batch *in_shape"],
        t: Float[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch *out_shape"]:
        """Map noisy examples at levels `t` in [0, 1] to the shape of `x`, or several of it.

        Args:
            x: the noisy examples.
            t: the level of each, as a fraction of the schedule's length; 0 is clean.
            y: the label of each; `n_classes` for no label, and `None` for no labels at all.

        Raises:
            ValueError: for labels when the network was built without them.
        """
        level = self.embed(self.condition(t, y).to(x.dtype))
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.stem(x)
        skips = []
        for blocks in self.down:
            skips.append(blocks(h, level))
            h = self.halve(skips[-1])
        h = self.attend(self.middle(h, level))
        for narrow, blocks in zip(reversed(self.narrow), reversed(self.up), strict=True):
            h = F.interpolate(narrow(h), scale_factor=2)
            h = blocks(torch.cat([h, skips.pop()], dim=1), level)
        h = self.head(F.silu(self.norm(h)))
        return h.unflatten(1, self.out_shape[: 1 - len(self.in_shape)])


def _dimensions(in_shape: tuple[int, ...], stem_stride: int, n_resolutions: int) -> int:
    """1 for signals and 2 for images, if every side can be divided as often as asked."""
    if len(in_shape) not in (2, 3):
        raise ValueError(
            f"in_shape {in_shape} is no (channels, length) or (channels, height, width); "
            "for vectors use net=time_mlp"
        )
    factor = stem_stride * 2 ** (n_resolutions - 1)
    for side in in_shape[1:]:
        if side % factor:
            raise ValueError(
                f"a side of {side} pixels does not divide by {factor}, which stem_stride "
                f"{stem_stride} and {n_resolutions} resolutions need; give fewer channels, or pad "
                f"the sides to {factor * (side // factor + 1)}"
            )
    return len(in_shape) - 1


def _check_groups(groups: int, channels: Sequence[int]) -> None:
    for n in channels:
        if n % groups:
            raise ValueError(
                f"{n} channels do not divide into {groups} groups; use "
                f"{groups * (n // groups + 1)} channels, or {math.gcd(groups, n)} groups"
            )
