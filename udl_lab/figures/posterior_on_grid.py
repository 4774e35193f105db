"""The true posterior of two latents against what the encoder says."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from udl_lab.figures.mass_levels import density_levels, normal_contours
from udl_lab.latent.normal import Normal
from udl_lab.latent.quadrature import PosteriorGrid

_LIMITS = 1e-4  # of the largest density: less is no place to look at
_SIDE = 241  # points of a panel's finer grid, on each axis

Limits = tuple[float, float]


def posterior_on_grid(
    posterior: PosteriorGrid,
    q: Normal,
    title: str,
    best: Normal | None = None,
    images: Float[Tensor, "batch height width"] | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """A panel per example: regions of p(z|x), and ellipses of q(z|x) of the same masses.

    Where an ellipse is not the edge of its region, the bound is not log p(x).

    Args:
        posterior: the exact p(z|x) of each example, by `quadrature.posterior_grid`.
        q: the encoder's of each.
        title: what the model is.
        best: the diagonal normals of the highest bound, by `posterior_gap.best_normal`.
        images: the examples, drawn above their panels.
        names: a heading for each, such as its KL(q ‖ p(z|x)).

    Raises:
        ValueError: for other than two latents, or fewer names or images than examples.
    """
    n = _check(posterior, q, images, names)
    figure = Figure(figsize=(max(7.0, 3.1 * n + 0.6), 4.4 + (1.3 if images is not None else 0)),
                    layout="constrained")  # fmt: skip
    figure.suptitle(title)
    heights = (1.3, 3.1) if images is not None else (3.1,)
    grid = figure.subplots(len(heights), n, squeeze=False, height_ratios=heights)
    for i, axes in enumerate(grid[-1]):
        _panel(axes, posterior, i, q, best)
        heading = grid[0, i]
        if images is not None:
            heading.imshow(images[i].numpy(), cmap="gray", vmin=0, vmax=1)
            heading.set_axis_off()
        heading.set_title(names[i] if names else f"example {i + 1}", fontsize=10)
    grid[-1, 0].set_ylabel("$z_2$")
    handles = [
        Patch(color="C0", alpha=0.45, label="p(z|x), exact"),
        Line2D([], [], color="C1", label="q(z|x), the encoder's"),
    ]
    if best is not None:
        handles.append(
            Line2D([], [], color="C2", linestyle="--", label="the best diagonal normal for x")
        )
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False,
        title="regions that hold 50 %, 90 % and 99 %", title_fontsize=9,
    )  # fmt: skip
    return figure


def _check(posterior: PosteriorGrid, q: Normal, images: Tensor | None, names: Sequence[str]) -> int:
    latent, n = posterior.points.shape[1], posterior.density.shape[1]
    if latent != 2:
        raise ValueError(f"a posterior of {latent} latents has no picture here; give one of two")
    given = {"q": len(q.mean)}
    given |= {} if images is None else {"images": len(images)}
    given |= {"names": len(names)} if names else {}
    for what, count in given.items():
        if count != n:
            raise ValueError(f"{count} {what} for {n} posteriors; give one of each example")
    return n


def _panel(axes: Axes, posterior: PosteriorGrid, i: int, q: Normal, best: Normal | None) -> None:
    density = posterior.density[:, i]
    shown = [posterior.points[density > _LIMITS * density.max()]]
    for normal, colour, line in ((q, "C1", "-"), (best, "C2", "--")):
        if normal is None:
            continue
        mean, std = (v[i].detach().cpu().double() for v in (normal.mean, normal.log_std.exp()))
        normal_contours(axes, mean, std, colour, line)
        shown.append(torch.stack([mean - 3.1 * std, mean + 3.1 * std]))
    window = _window(torch.cat(shown))
    z1, z2, fine = _finer(posterior, i, window)
    for level in density_levels(fine.flatten(), torch.ones(fine.numel())):
        # One region over the other: the inner ones come out darker.
        top = max(float(fine.max()), level) * 1.01
        axes.contourf(z1, z2, fine.T.numpy(), [level, top], colors="C0", alpha=0.3)
    axes.set(xlim=window[0], ylim=window[1], aspect="equal", xlabel="$z_1$")
    axes.grid(alpha=0.3)


def _window(points: Float[Tensor, "point 2"]) -> tuple[Limits, Limits]:
    """What holds all points, with a little room, in one scale for both axes."""
    low, high = points.min(0).values, points.max(0).values
    half = 0.55 * float((high - low).max())
    first, second = ((float(m) - half, float(m) + half) for m in (low + high) / 2)
    return first, second


def _finer(
    posterior: PosteriorGrid, i: int, window: tuple[Limits, Limits]
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """The density on a grid of the window, finer than the print.

    By cubic splines of its logarithm, which is smooth where a narrow density has corners.
    """
    side = len(posterior.axis)
    log_density = posterior.density[:, i].log()
    kept = log_density.clamp(min=float(log_density.max()) - 60).reshape(side, side)
    spline = RectBivariateSpline(posterior.axis.numpy(), posterior.axis.numpy(), kept.numpy())
    z1, z2 = (np.linspace(*limits, _SIDE) for limits in window)
    return z1, z2, torch.from_numpy(np.exp(spline(z1, z2)))
