"""Band-limited shifts, derivatives and rotations of periodic grids, by the Fourier transform.

The samples x[n] of a side of N pixels are read as the trigonometric polynomial through them, in
real pixels u. For even N the Nyquist component, +-1 from pixel to pixel, leaves open which of
cos(pi u + phase) was sampled; the choice here is the real, even one, cos(pi u). Computed in the
precision of `x`; differentiable in both arguments, forward mode included.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real, Shaped
from torch import Tensor

from udl_lab.symmetry.pixels import Images, quarter_turns

Pixels = float | int | Real[Tensor, ""] | Real[Tensor, " #batch"]
Grid = Float[Tensor, "*axes"]


def fourier_shift(x: Images, right: Pixels, down: Pixels) -> Images:
    """Images shifted circularly by real pixels, all alike or each by its own.

    Every component k is multiplied by exp(-2 pi i k a / N), and so moves without loss, except for
    the Nyquist component of an even side, which is multiplied by cos(pi a): the shift by a and then
    by -a returns x with that component times cos^2(pi a), and is lossless on odd sides. Shifts by
    whole pixels equal `torch.roll` to rounding; call that where bits matter.
    """
    x = fourier_shift_along(x, _of_images(right), -1)
    return fourier_shift_along(x, _of_images(down), -2)


def fourier_shift_along(
    x: Grid, pixels: float | int | Real[Tensor, "*#axes"] | Real[Tensor, ""], dim: int
) -> Grid:
    """`fourier_shift` along one axis of a tensor of any shape, to higher indices.

    Args:
        x: the samples.
        pixels: how far: a number, or a tensor that broadcasts against `x` and is of size 1 along
            the axis, so that every line may move by its own distance.
        dim: the axis.
    """
    n, components = x.shape[dim], torch.fft.rfft(x, dim=dim)
    frequency, nyquist = _frequencies(x, dim)
    phase = torch.as_tensor(pixels, dtype=torch.float64, device=x.device) * frequency
    # At the Nyquist frequency the phase is pi a, and only its cosine is kept: a real result has no
    # other. The inverse transform on CPUs drops the sine by itself; no backend promises to.
    factor = torch.complex(torch.cos(phase), torch.where(nyquist, 0.0, -torch.sin(phase)))
    return torch.fft.irfft(components * factor.to(components.dtype), n=n, dim=dim)


def fourier_derivative(x: Grid, dim: int) -> Grid:
    """The derivative d/du along an axis, per pixel, of the trigonometric polynomial through `x`.

    Component k is multiplied by 2 pi i k / N; that of Nyquist has its extremes at the pixels, so
    its derivative there is 0.
    """
    frequency, nyquist = _frequencies(x, dim)
    factor = 1j * torch.where(nyquist, 0.0, frequency)
    components = torch.fft.rfft(x, dim=dim)
    return torch.fft.irfft(components * factor.to(components.dtype), n=x.shape[dim], dim=dim)


def fourier_rotate(
    x: Images,
    degrees: Real[Tensor, " #batch"] | float | int,
    canvas: float | int = 2.0,
    fill: float = 0.0,
) -> Images:
    """Square images turned about their centre by three Fourier shears, counter-clockwise.

    Unser, Thevenaz & Yaroslavsky 1995: a rotation by a is a shear along x by tan(a/2), one along y
    by sin(a), and the first again. Quarter turns are taken out exactly, so that |a| is at most 45
    degrees. The image lies on a background of value `fill` (subtracted first, so background stays
    what it is), `canvas` times as wide; 2 keeps what is sheared out of the frame from coming in at
    the other side. Sharp edges ring, so values may leave their range.

    A shear loses nothing but the Nyquist component, so there and back is nearly lossless. It also
    folds detail that it makes finer than 2 pixels, which lands beside its place until it is turned
    back: a small round trip does not say that the way there is as good.

    At multiples of 90 degrees the result equals `torch.rot90` to rounding only, and so has the
    right derivative in the angle; `rotate(x, degrees, "fourier", fill)` is exact there.

    Raises:
        ValueError: for a canvas under 1.
    """
    if canvas < 1:
        raise ValueError(f"canvas: {canvas} is smaller than the image; use 1 or more, such as 2")
    degrees = torch.as_tensor(degrees, dtype=torch.float64, device=x.device).reshape(-1)
    quarters = torch.round(degrees.detach() / 90)
    # A turn by -90 comes last, so that -a undoes a shear by shear, where 90 comes first.
    after = -(torch.remainder(quarters, 4) == 3).double()
    radians = torch.deg2rad(degrees - 90 * quarters)[:, None, None, None]
    side = x.shape[-1]
    border = math.ceil((canvas - 1) * side / 2)
    y = F.pad(quarter_turns(x, quarters - after) - fill, (border,) * 4)
    place = torch.arange(side + 2 * border, dtype=torch.float64, device=x.device)
    place = place - place.mean()
    # With y down, the rows below the centre go right and the columns right of it go up.
    rows_right = torch.tan(radians / 2) * place[:, None]
    columns_down = -torch.sin(radians) * place
    for pixels, dim in ((rows_right, -1), (columns_down, -2), (rows_right, -1)):
        y = fourier_shift_along(y, pixels, dim)
    return quarter_turns(y[..., border : border + side, border : border + side], after) + fill


def _of_images(pixels):
    """A distance per image made to broadcast against images."""
    one_each = isinstance(pixels, Tensor) and pixels.ndim == 1
    return pixels[:, None, None, None] if one_each else pixels


def _frequencies(x: Shaped[Tensor, "..."], dim: int) -> tuple[Tensor, Tensor]:
    """2 pi k / N of each component k along an axis, radians per pixel, and which is Nyquist's."""
    n = x.shape[dim]
    k = torch.arange(n // 2 + 1, dtype=torch.float64, device=x.device)
    k = k.reshape(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
    return 2 * math.pi * k / n, 2 * k == n
