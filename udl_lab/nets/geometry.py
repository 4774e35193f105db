"""The windows that convolutions and poolings slide over a map, and the sides that they leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from udl_lab.ranges import NonNegative


@dataclass(frozen=True)
class Window:
    """The windows of one layer along one axis, in places (for images: pixels) of its input."""

    size: int  # from the first place to the last: dilation * (kernel - 1) + 1
    stride: int = 1
    before: int = 0  # places of padding
    after: int = 0
    padding_mode: str = "zeros"  # what is padded with

    @property
    def padded(self) -> bool:
        return self.before + self.after > 0

    def side_after(self, side: int) -> int:
        """How many windows fit along a side (Dumoulin & Visin 2016, relation 6)."""
        return (side + self.before + self.after - self.size) // self.stride + 1

    def left_over(self, side: int) -> int:
        """The places at the far end of a side, padding included, that no window reaches."""
        return (side + self.before + self.after - self.size) % self.stride


def windows(
    kernels: Sequence[int],
    strides: Sequence[int],
    paddings: Sequence[int],
    pool: int | None,
    pool_stride: int | None = None,
    padding_mode: str = "zeros",
) -> dict[str, Window]:
    """The windows of blocks of a convolution and, unless `pool` is `None`, a pooling, by site.

    They are the same along every axis, and in the order in which a map passes them.
    """
    found = {}
    for i, (kernel, stride, padding) in enumerate(zip(kernels, strides, paddings, strict=True)):
        found[f"blocks.{i}.convolution"] = Window(kernel, stride, padding, padding, padding_mode)
        if pool is not None:
            found[f"blocks.{i}.pool"] = Window(pool, pool_stride or pool)
    return found


def one_each(name: str, values: Sequence[int] | int, n: int) -> list[int]:
    """One value for each of `n` convolutions; a single number serves all.

    Raises:
        ValueError: for a list of another length.
    """
    each = [values] * n if isinstance(values, int) else list(values)
    if len(each) != n:
        raise ValueError(f"{name} {each} has {len(each)} values for {n} convolutions; give {n}")
    return each


def padding_pixels(padding: NonNegative | Literal["same"], kernels: Sequence[int]) -> list[int]:
    """The pixels added on every side before each convolution.

    Args:
        padding: in pixels, or "same" for half of each kernel: at stride 1 the map keeps its side.
        kernels: the side of each kernel, in pixels.

    Raises:
        ValueError: for "same" with an even kernel, which has no pixel at its centre.
    """
    if padding != "same":
        return [padding] * len(kernels)
    for kernel in kernels:
        if kernel % 2 == 0:
            raise ValueError(
                f"padding 'same' needs odd kernels and {kernel} is even; use a kernel of "
                f"{kernel - 1} or {kernel + 1}, or a padding in pixels"
            )
    return [kernel // 2 for kernel in kernels]
