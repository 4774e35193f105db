"""Hamiltonian Monte Carlo: moves of z that leave a density as it is (Neal 2011)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

LogDensity = Callable[[Float[Tensor, "chain batch latent"]], Float[Tensor, "chain batch"]]
"""In nats, up to a constant of each example; differentiable."""


def value_and_slope(
    log_density: LogDensity, z: Float[Tensor, "chain batch latent"]
) -> tuple[Float[Tensor, "chain batch"], Float[Tensor, "chain batch latent"]]:
    """A log-density and its derivative by z."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        value = log_density(at)
        slope = torch.autograd.grad(value.sum(), at)[0]
    return value.detach(), slope


def leapfrog(
    log_density: LogDensity,
    z: Float[Tensor, "chain batch latent"],
    momentum: Float[Tensor, "chain batch latent"],
    step: Float[Tensor, " batch"],
    n: int,
) -> tuple[
    Float[Tensor, "chain batch latent"],
    Float[Tensor, "chain batch latent"],
    Float[Tensor, "chain batch"],
    Float[Tensor, "chain batch"],
]:
    """Leapfrog steps: they keep volume and are undone by as many with the momentum reversed.

    Args:
        log_density: the target; minus the potential energy.
        z: where the chains are.
        momentum: of unit mass.
        step: the length of a step for each example.
        n: how many steps.

    Returns:
        The end of z and of the momentum, and the log-density at the start and at the end.
    """
    h = step.to(z)[:, None]
    before, slope = value_and_slope(log_density, z)
    after = before
    for _ in range(n):
        momentum = momentum + 0.5 * h * slope
        z = z + h * momentum
        after, slope = value_and_slope(log_density, z)
        momentum = momentum + 0.5 * h * slope
    return z, momentum, before, after


def transition(
    log_density: LogDensity,
    z: Float[Tensor, "chain batch latent"],
    step: Float[Tensor, " batch"],
    n: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "chain batch latent"], Float[Tensor, "chain batch"]]:
    """One move with a fresh momentum, accepted by Metropolis' rule for each chain.

    It leaves the density as it is for any step length, and it is its own reversal. Noise is drawn
    on the CPU.

    Returns:
        Where the chains are, and the probability with which each move was accepted.
    """
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    uniform = torch.rand(z.shape[:2], generator=generator, dtype=z.dtype).to(z.device)
    proposed, arrived, before, after = leapfrog(log_density, z, momentum, step, n)
    kinetic = 0.5 * (momentum.square().sum(-1) - arrived.square().sum(-1))
    # A path that diverged gives nan or infinity: it is refused, as its density is zero.
    gain = (after - before + kinetic).nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    accepted = gain.clamp(max=0).exp()
    return torch.where((uniform < accepted)[..., None], proposed, z), accepted
