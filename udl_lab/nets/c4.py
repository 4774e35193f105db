"""Group convolution for quarter turns, and a network that is invariant to them by construction.

Cohen & Welling 2016, "Group equivariant convolutional networks". A map on the group p4 of whole
translations and quarter turns has a value for each pixel y and each orientation r; it is stored as
[batch, channel * 4, height, width], with orientation r of channel c in place c * 4 + r. Orientation
r counts quarter turns counter-clockwise as displayed, the sense of `torch.rot90(x, 1, (-2, -1))`.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import count, islice, pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float, Int64
from torch import Tensor, nn

from udl_lab.nets.geometry import Window, one_each, padding_pixels, windows
from udl_lab.nets.initialise import Scheme, initialise
from udl_lab.nets.nonlinearity import Nonlinearity, nonlinearity
from udl_lab.nets.pooling import Pooling
from udl_lab.nets.pooling import pooling as pool_layer
from udl_lab.ranges import NonNegative, Positive


class AbstractC4Convolution(nn.Conv2d, ABC):
    """A convolution whose filters are one stored filter for each channel, turned four ways.

    It stores the weight and bias of a `Conv2d`, so the schemes of initialisation apply; the
    orientations of a channel share its bias.
    """

    def __init__(
        self, in_maps: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(in_maps, out_channels, kernel_size, stride, padding)

    @abstractmethod
    def filter_bank(self) -> Float[Tensor, "out_maps in_maps kernel kernel"]:
        """The filters of every channel and orientation."""

    def forward(
        self, input: Float[Tensor, "batch in_maps _ _"]
    ) -> Float[Tensor, "batch out_maps height width"]:
        """A map on p4: the scalar products of the input with all moved and turned filters."""
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.conv2d(input, self.filter_bank(), bias, self.stride, self.padding)

    def regular_permutation(self, element: int) -> Int64[Tensor, " out_maps"]:
        """The known action of `element` quarter turns on the channels of this layer's output.

        `layer(turned x) == turned(layer(x))[:, regular_permutation(element)]`, where "turned" turns
        the pixels: what orientation r - element saw before the turn, orientation r sees after it.
        """
        orientation = (torch.arange(4) - element) % 4
        return (4 * torch.arange(self.out_channels)[:, None] + orientation).flatten()


class Lift(AbstractC4Convolution):
    """From images to maps on p4: at (y, r) the filter is turned r times (eq. 10 there)."""

    def filter_bank(self) -> Float[Tensor, "out_maps in_maps kernel kernel"]:
        """psi_k(g^-1 y) for g = (0, r): the filters turned r times."""
        return torch.stack([self.weight.rot90(r, (-2, -1)) for r in range(4)], 1).flatten(0, 1)


class RegularConv(AbstractC4Convolution):
    """From maps on p4 to maps on p4 (eq. 11 there): a turned filter also shifts orientations."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__(4 * in_channels, out_channels, kernel_size, stride, padding)

    def filter_bank(self) -> Float[Tensor, "out_maps in_maps kernel kernel"]:
        """psi_k(g^-1 h) for g = (0, r), h = (y, s): turned r times, from orientation s - r."""
        weight = self.weight.unflatten(1, (-1, 4))
        turned = [weight.roll(r, dims=2).rot90(r, (-2, -1)) for r in range(4)]
        return torch.stack(turned, 1).flatten(0, 1).flatten(1, 2)


class OrientationPool(nn.Module):
    """The largest or the mean value over the four orientations of each channel, at each pixel."""

    kernel_size = 1  # each pixel by itself: what an audit of the geometry reads

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.reduction = "max" if pooling == "max" else "mean"

    def forward(
        self, x: Float[Tensor, "batch maps height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Turning an image now only turns the map."""
        return reduce(x, "b (c r) h w -> b c h w", self.reduction, r=4)


class C4CNN(nn.Module):
    """Group convolutions, a pooling over orientations, the mean over space, and dense layers.

    The outputs are invariant to quarter turns of the image, by construction, up to rounding. That
    needs windows which a turn maps on windows: every layer must leave no pixel over at the far end,
    (side + 2 padding - kernel) mod stride == 0; another geometry is refused.

    Sites for the recorder: `blocks.<i>.convolution`, `blocks.<i>.pool`, `blocks.<i>.activation`
    (maps on p4), `orientation_pool`, `global_pool`, `dense.<i>.linear`, `dense.<i>.activation` and
    `output` (the logits).
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        out_features: Positive,
        channels: Sequence[Positive] = (12, 32),
        kernel_size: Sequence[Positive] | Positive = 5,
        stride: Sequence[Positive] | Positive = 1,
        padding: NonNegative | Literal["same"] = 0,
        pool: Positive | None = 2,
        pooling: Pooling = "max",
        widths: Sequence[Positive] = (84,),
        activation: Nonlinearity = "relu",
        init: Scheme = "torch",
    ) -> None:
        """Build and initialise the network.

        Args:
            in_shape: (channels, side, side) of one example.
            out_features: the number of outputs.
            channels: of each group convolution; each channel has four orientations.
            kernel_size: of each convolution, in pixels; one number serves all.
            stride: of each convolution, in pixels; one number serves all.
            padding: zeros added on every side before each convolution, in pixels; "same" for half
                of each (odd) kernel.
            pool: the window and stride of the pooling in each block, in pixels; `None` for none.
            pooling: the largest or the mean value, of the windows and of the orientations.
            widths: the units of each dense layer before the output.
            activation: the nonlinearity of blocks and dense layers.
            init: see `udl_lab.nets.initialise`; each fan counts one orientation of the output.

        Raises:
            ValueError: when an example is no square image, for a geometry that a quarter turn does
                not keep, when no channels are given, when kernels or strides do not match them in
                number, or when a feature map shrinks to nothing.
        """
        super().__init__()
        self.in_shape = tuple(in_shape)
        if not channels:
            raise ValueError("channels [] leaves no group convolution; give one number or more")
        if len(self.in_shape) != 3 or self.in_shape[1] != self.in_shape[2]:
            raise ValueError(f"in_shape {self.in_shape} is no (channels, side, side)")
        kernels = one_each("kernel_size", kernel_size, len(channels))
        strides = one_each("stride", stride, len(channels))
        paddings = padding_pixels(padding, kernels)
        check_turns(self.in_shape[1], windows(kernels, strides, paddings, pool))
        sizes = [self.in_shape[0], *channels]
        blocks = []
        for i in range(len(channels)):
            parts = OrderedDict[str, nn.Module]()
            layer = RegularConv if i else Lift
            parts["convolution"] = layer(
                sizes[i], sizes[i + 1], kernels[i], strides[i], paddings[i]
            )
            if pool is not None:
                parts["pool"] = pool_layer(pooling, 2, pool)
            parts["activation"] = nonlinearity(activation)
            blocks.append(nn.Sequential(parts))
        self.blocks = nn.Sequential(*blocks)
        self.orientation_pool = OrientationPool(pooling)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        features = [sizes[-1], *widths]
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

    def forward(self, x: Float[Tensor, " batch *in_shape"]) -> Float[Tensor, "batch out"]:
        """Map a batch of images to their outputs (for a classifier: logits, in nats)."""
        x = self.global_pool(self.orientation_pool(self.blocks(x)))
        return self.output(self.dense(x.flatten(1)))


def check_turns(side: int, windows: Mapping[str, Window]) -> None:
    """Refuse windows that a quarter turn of a square image does not map on windows.

    Args:
        side: of the image, in pixels.
        windows: by site, the same along both axes and padded alike at both ends.

    Raises:
        ValueError: naming the first such window and the sides of images near this one that work.
    """
    here = side
    for site, window in windows.items():
        if window.side_after(here) < 1:
            raise ValueError(
                f"{site} leaves no pixel of the input; use smaller kernels, strides or "
                "pooling, or fewer channels"
            )
        if left_over := window.left_over(here):
            working = ", ".join(str(near) for near in _sides_that_work(side, windows.values()))
            raise ValueError(
                f"{site} sees a side of {here} pixels and leaves ({here} + "
                f"2 * {window.before} - {window.size}) mod {window.stride} = {left_over} over: "
                f"a quarter turn would not map its windows on windows; use images of side "
                f"{working}, or another kernel, stride, padding or pooling"
            )
        here = window.side_after(here)


def _sides_that_work(side: int, windows: Collection[Window]) -> list[int]:
    """Three sides of images around this one that all windows fill without rest, in pixels."""
    last = side
    for window in windows:
        last = window.side_after(last)
    filled = (_side_before(n, windows) for n in count(max(1, last - 1)))
    return list(islice((near for near in filled if near), 3))


def _side_before(side: int, windows: Collection[Window]) -> int | None:
    """The side of the image whose last map has this side and that leaves no pixel over, if any."""
    for window in reversed(list(windows)):
        side = (side - 1) * window.stride + window.size - window.before - window.after
        if side < 1:
            return None
    return side
