"""What one example says about one latent."""

import math

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def posterior_and_prior(
    axis: Float[Tensor, " n"],
    density: Float[Tensor, " n"],
    title: str,
    reach: float = 4.0,
) -> Figure:
    """The density p(z|x) beside the prior N(0, 1), which it had been before x was seen.

    Args:
        axis: values of z.
        density: p(z|x) per unit of z at each.
        title: which x.
        reach: z is shown from −reach to reach.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    z = axis.numpy()
    prior = (-0.5 * axis.square()).exp() / (2 * math.pi) ** 0.5
    axes.fill_between(z, density.numpy(), color="C0", alpha=0.3, linewidth=0)
    axes.plot(z, density.numpy(), color="C0", label="posterior p(z|x)")
    axes.plot(z, prior.numpy(), color="black", linestyle="--", label="prior N(0, 1)")
    axes.set(
        title=title, xlabel="z", ylabel="density (per unit of z)", xlim=(-reach, reach),
        ylim=(0, None),
    )  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure
