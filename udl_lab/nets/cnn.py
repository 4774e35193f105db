"""Convolutional networks for signals and images, with every geometric choice an argument."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.nets.geometry import Window, one_each, padding_pixels, windows
from udl_lab.nets.initialise import Scheme, initialise
from udl_lab.nets.nonlinearity import Nonlinearity, nonlinearity
from udl_lab.nets.pooling import Pooling
from udl_lab.nets.pooling import pooling as pool_layer
from udl_lab.ranges import NonNegative, Positive


class CNN(nn.Module):
    """Blocks of convolution, optional pooling and nonlinearity, then dense layers.

    The pooling stands before the nonlinearity: for max-pooling and a monotone nonlinearity the
    function is the same and the cost is lower. One- or two-dimensional after the shape of its
    examples.

    With circular padding "same" and pooling windows that do not overlap, the blocks commute with
    cyclic shifts by multiples of the product of all strides, if that product divides the sides; a
    global pooling then makes the outputs invariant to those shifts.

    Sites for the recorder: `blocks.<i>.convolution`, `blocks.<i>.pool`, `blocks.<i>.activation`,
    `global_pool`, `dense.<i>.linear`, `dense.<i>.activation` and `output` (the logits).
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        out_features: Positive,
        channels: Sequence[Positive] = (12, 16),
        kernel_size: Sequence[Positive] | Positive = 5,
        stride: Sequence[Positive] | Positive = 1,
        padding: NonNegative | Literal["same"] = 0,
        pool: Positive | None = 2,
        pool_stride: Positive | None = None,
        widths: Sequence[Positive] = (120, 84),
        activation: Nonlinearity = "relu",
        init: Scheme = "torch",
        padding_mode: Literal["zeros", "circular"] = "zeros",
        pooling: Pooling = "max",
        global_pool: bool = False,
    ) -> None:
        """Build and initialise the network.

        Args:
            in_shape: (channels, length) or (channels, height, width) of one example.
            out_features: the number of outputs.
            channels: the number of feature maps of each convolution.
            kernel_size: of each convolution, in pixels; one number serves all.
            stride: of each convolution, in pixels; one number serves all.
            padding: added on every side before each convolution, in pixels; "same" for half of
                each (odd) kernel.
            pool: the window of the pooling in each block, in pixels; `None` for no pooling.
            pool_stride: in pixels; `None` for the window's size (1 is the JAX homework's).
            widths: the units of each dense layer before the output.
            activation: the nonlinearity of blocks and dense layers.
            init: see `udl_lab.nets.initialise`.
            padding_mode: zeros, or the opposite side's pixels as on a circle or torus.
            pooling: the largest or the mean value of each window of `pool`.
            global_pool: whether to average each feature map over all its pixels before the dense
                layers.

        Raises:
            ValueError: when an example is no signal or image, when kernels or strides do not match
                the channels in number, for padding "same" with an even kernel, when a feature map
                shrinks to nothing, or when circular padding is wider than the map.
        """
        super().__init__()
        self.in_shape = tuple(in_shape)
        dimensions = len(self.in_shape) - 1
        if dimensions not in (1, 2):
            raise ValueError(
                f"in_shape {self.in_shape} is no (channels, length) or (channels, height, width)"
            )
        kernels = one_each("kernel_size", kernel_size, len(channels))
        strides = one_each("stride", stride, len(channels))
        paddings = padding_pixels(padding, kernels)
        sides = _sides(
            self.in_shape[1:],
            windows(kernels, strides, paddings, pool, pool_stride, padding_mode),
        )
        convolution = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
        sizes = [self.in_shape[0], *channels]
        blocks = []
        for i in range(len(channels)):
            parts = OrderedDict[str, nn.Module]()
            parts["convolution"] = convolution(
                sizes[i],
                sizes[i + 1],
                kernels[i],
                strides[i],
                paddings[i],
                padding_mode=padding_mode,
            )
            if pool is not None:
                parts["pool"] = pool_layer(pooling, dimensions, pool, pool_stride)
            parts["activation"] = nonlinearity(activation)
            blocks.append(nn.Sequential(parts))
        self.blocks = nn.Sequential(*blocks)
        mean = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[dimensions - 1]
        self.global_pool = mean(1) if global_pool else None
        features = [sizes[-1] * (1 if global_pool else math.prod(sides)), *widths]
        self.dense = nn.Sequential(
            *(
                nn.Sequential(
                    OrderedDict(linear=nn.Linear(a, b), activation=nonlinearity(activation))
                )
                for a, b in pairwise(features)
            )
        )
        self.output = nn.Linear(features[-1], out_features)
        initialise(self, init)
        if dimensions == 2:
            # A third less time per step on a CPU; the mathematics does not see the layout.
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, " batch *in_shape"]) -> Float[Tensor, "batch out"]:
        """Map a batch of examples to their outputs (for a classifier: logits, in nats)."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.blocks(x)
        if self.global_pool is not None:
            x = self.global_pool(x)
        return self.output(self.dense(x.flatten(1)))


def _sides(sides: Sequence[int], windows: Mapping[str, Window]) -> list[int]:
    """The side lengths of the last feature map, in pixels."""
    for site, window in windows.items():
        if window.padding_mode == "circular" and window.before > min(sides):
            raise ValueError(
                f"{site} sees a side of {min(sides)} pixels, and circular padding by "
                f"{window.before} would wrap around it more than once; pad less"
            )
        sides = [window.side_after(side) for side in sides]
        if min(sides) < 1:
            block = site.split(".")[1]
            raise ValueError(
                f"block {block} leaves no pixel of the input; use smaller kernels, strides or "
                "pooling, or fewer channels"
            )
    return list(sides)
