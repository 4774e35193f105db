"""What one operation does to a layer's map: its windows, and where the map then lies in the input.

What is not known to keep, window, pool or flatten a map is not guessed at: it raises `Lost`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from udl_lab.nets.geometry import Window

Kind = Literal["pointwise", "convolution", "pool", "windows", "flatten"]


@dataclass(frozen=True)
class Step:
    """One operation on a map: the same function at every place, windows, or the end of the map.

    "windows" are those of a module that is no convolution of torch: what it computes in each is
    not known.
    """

    kind: Kind
    windows: tuple[Window, ...] = ()
    kernel: Tensor | None = field(default=None, compare=False)  # [out, in, *sizes]

    def pools(self, sides: Sequence[int]) -> bool:
        """Whether it pools the whole map, of these sides, into one place."""
        return bool(self.windows) and all(map(self.pools_axis, range(len(sides)), sides))

    def pools_axis(self, axis: int, side: int) -> bool:
        """Whether it pools the whole of one axis, of this side, into one place."""
        window = self.windows[axis]
        return self.kind == "pool" and window.size == side and not window.padded


@dataclass(frozen=True)
class Geometry:
    """How one layer lies over the input; per spatial axis, in input pixels unless said otherwise.

    `stride`, `receptive_field` and `start` are empty where `spatial` is False (features, which have
    no places, and maps pooled as a whole) and where the geometry is unknown. A receptive field that
    reaches beyond the frame sees padding. The recursions over layers are those of Araujo, Norris &
    Sim 2019, "Computing receptive fields of convolutional neural networks".
    """

    shape: tuple[int, ...]  # of one example: (channels, *sides of the map) or (features,)
    frame: tuple[int, ...]  # the sides of the input
    spatial: bool = False
    stride: tuple[int, ...] = ()  # input pixels per place of the layer, of all layers so far
    receptive_field: tuple[int, ...] = ()
    start: tuple[float, ...] = ()  # the centre of the first place's receptive field; pixel 0 is 0
    padded: tuple[bool, ...] = ()  # whether this layer or one before it pads the axis
    reason: str = ""  # why the geometry is unknown

    @property
    def known(self) -> bool:
        """Whether the layer could be followed back to the input."""
        return not self.reason

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of the layer's map, in its own places; none for features."""
        return self.shape[len(self.shape) - len(self.frame) :] if self.spatial else ()

    def interior(self, shift: Sequence[int]) -> tuple[slice, ...]:
        """The places that no border reaches, for each axis of the map, when the input is shifted.

        Their receptive fields see neither padding nor the pixels that enter a zero-fill shift, so
        there `f(shifted x)` is `f(x)` shifted by `shift / stride`. Slices of length 0 where no
        place is out of reach.

        Args:
            shift: of the input, in pixels, in the order of the axes: (down, right) for images.

        Raises:
            ValueError: for a layer without a map, or a shift that is no multiple of the stride.
        """
        if not self.spatial:
            why = self.reason or "it has no map, only features"
            raise ValueError(f"a layer of shape {self.shape} has no interior: {why}")
        slices = []
        for axis, pixels in enumerate(shift):
            side, stride, field_ = self.frame[axis], self.stride[axis], self.receptive_field[axis]
            if pixels % stride:
                raise ValueError(
                    f"a shift by {pixels} pixels is no whole move of a layer of stride {stride}; "
                    f"use a multiple of {stride}"
                )
            first = round(self.start[axis] - (field_ - 1) / 2)  # the first place sees from here
            low = -((first - max(pixels, 0)) // stride)
            high = (side + min(pixels, 0) - field_ - first) // stride + 1
            low, high = max(low, 0), min(high, self.sides[axis])
            slices.append(slice(low, high) if low < high else slice(0, 0))
        return tuple(slices)

    def after(self, step: Step, shape: tuple[int, ...]) -> "Geometry":
        """The geometry after one more operation, whose output has this shape."""
        if step.kind == "flatten" or (self.spatial and step.pools(self.sides)):
            return Geometry(shape, self.frame, padded=self.padded)
        geometry = replace(self, shape=shape)
        if not step.windows:
            return geometry
        axes = list(zip(self.stride, self.receptive_field, self.start, step.windows, strict=True))
        return replace(
            geometry,
            stride=tuple(stride * w.stride for stride, _, _, w in axes),
            receptive_field=tuple(seen + (w.size - 1) * stride for stride, seen, _, w in axes),
            start=tuple(x + ((w.size - 1) / 2 - w.before) * stride for stride, _, x, w in axes),
            padded=tuple(p or w.padded for p, w in zip(self.padded, step.windows, strict=True)),
        )


class Lost(Exception):  # noqa: N818 - caught by the tracer
    """Why a tensor could not be followed back to the input."""


_ELEMENTWISE = set(
    "Relu Tanh Sigmoid LogSigmoid Gelu Silu Mish Elu Celu LeakyRelu Softplus Hardtanh Hardsigmoid "
    "Hardswish Softshrink Hardshrink Threshold Abs Neg Exp Log Log1P Pow Sqrt Sin Cos Clamp "
    "Clone ToCopy Alias".split()
)
_RESHAPES = {"View", "UnsafeView", "Squeeze", "Unsqueeze", "ReshapeAlias"}
_REDUCTIONS = {"Mean", "Sum", "Amax", "Amin"}


def operation_steps(
    node: Any, before: Geometry, batch_shape: Sequence[int]
) -> list[tuple[Step, tuple[int, ...]]]:
    """What an operation of the autograd graph is to a map, and the shape of each example after."""
    name, shape = node.name().split("Backward")[0], tuple(batch_shape[1:])
    axes = len(before.shape)
    maps = axes - len(before.sides)  # the axes in front of the map
    pointwise = (Step("pointwise"), shape)
    if name in _ELEMENTWISE and shape == before.shape:
        return [pointwise]
    if name in _RESHAPES and batch_shape[0] == 2:
        if before.spatial and shape == (math.prod(before.shape),):
            return [(Step("flatten"), shape)]
        if not before.spatial or shape[-len(before.sides) :] == before.sides:
            return [pointwise]
    if name in _REDUCTIONS and hasattr(node, "_saved_dim"):
        reduced = {_signed(d) % (axes + 1) - 1 for d in node._saved_dim}
        if reduced and reduced <= set(range(maps)):
            return [pointwise]
        if before.spatial and reduced == set(range(maps, axes)):
            ones = before.shape[:maps] + (1,) * len(before.sides)
            pool = Step("pool", tuple(Window(side, side) for side in before.sides))
            kept = [(pool, ones)]
            return kept if shape == ones else [*kept, (Step("flatten"), shape)]
    raise Lost(f"{node.name()} takes {before.shape} to {shape}, which is not followed")


def _signed(dim: int) -> int:
    """Autograd saves negative axes as unsigned 64-bit numbers."""
    return dim - 2**64 if dim >= 2**63 else dim


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
_ADAPTIVE = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
)
_CHANNELWISE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU)


def module_step(module: nn.Module, before: Geometry, shape: tuple[int, ...]) -> Step | None:
    """What a module does to a map; None for one whose operations have to be looked at."""
    if isinstance(module, _CHANNELWISE):
        return Step("pointwise")
    if not before.spatial and shape and math.prod(shape) == shape[0]:
        return Step("pointwise")  # whatever it is: equal features stay equal
    if not before.spatial or isinstance(module, nn.Linear):
        raise Lost(f"a {type(module).__name__} of a layer of shape {before.shape}")
    if isinstance(module, _ADAPTIVE):
        sides = shape[len(shape) - len(before.sides) :]
        if any(side % n for side, n in zip(before.sides, sides, strict=True)):
            raise Lost(f"its windows of sides {before.sides} to {sides} are not all of one size")
        sizes = [side // n for side, n in zip(before.sides, sides, strict=True)]
        return Step("pool", tuple(Window(size, size) for size in sizes))
    own = _CONVOLUTIONS + _POOLS
    known = any(type(module).forward is kind.forward for kind in own)
    if not known and (
        not hasattr(module, "kernel_size") or type(module).__module__.startswith("torch.")
    ):
        return None
    windows = _windows(module, before.sides)
    _check_sides(module, windows, before.sides, shape)
    if known and isinstance(module, _CONVOLUTIONS):
        return Step("convolution", windows, module.weight.detach())
    return Step("pool" if known else "windows", windows)


def _windows(module: Any, sides: tuple[int, ...]) -> tuple[Window, ...]:
    """The windows along each axis, read from the attributes that torch's own modules have."""
    rank = len(sides)
    kernel = _each("kernel_size", module.kernel_size, rank)
    stride = _each("stride", getattr(module, "stride", 1) or kernel, rank)
    dilation = _each("dilation", getattr(module, "dilation", 1), rank)
    sizes = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = getattr(module, "padding", 0)
    if padding in ("same", "valid"):
        totals = [size - 1 if padding == "same" else 0 for size in sizes]
        # Of an odd number the larger half is at the end, as torch does it.
        pads = [(total // 2, total - total // 2) for total in totals]
    else:
        pads = [(p, p) for p in _each("padding", padding, rank)]
    mode = getattr(module, "padding_mode", "zeros")
    return tuple(Window(k, s, *p, mode) for k, s, p in zip(sizes, stride, pads, strict=True))


def _each(name: str, value: object, rank: int) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else value
    if isinstance(values, tuple | list) and len(values) == 1:
        values = tuple(values) * rank
    if not isinstance(values, tuple | list) or len(values) != rank:
        raise Lost(f"its {name} {value!r} does not say a number for each of {rank} axes")
    return tuple(values)


def _check_sides(
    module: nn.Module, windows: Sequence[Window], sides: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    """Refuse windows that do not explain the sides of the output; `ceil_mode` may add one."""
    expected = tuple(w.side_after(side) for w, side in zip(windows, sides, strict=True))
    found = shape[len(shape) - len(sides) :]
    extra = [n - m for n, m in zip(found, expected, strict=True)] if len(shape) > len(sides) else []
    if not extra or not set(extra) <= ({0, 1} if getattr(module, "ceil_mode", False) else {0}):
        raise Lost(f"it gives {shape}, and its windows would leave sides of {expected}")
