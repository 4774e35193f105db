"""Bounds on log p(x) from importance weights w_i = p(x, z_i) / q(z_i|x), and training objectives.

All in nats per example. k samples are the first axis of `log_weights`, examples the second.
"""

import math

from jaxtyping import Float
from torch import Tensor

from udl_lab.ranges import NonNegative, NonNegativeFloat


def elbo(log_weights: Float[Tensor, "k batch"]) -> Float[Tensor, " batch"]:
    """The evidence lower bound, 1/k Σ_i log w_i; its expectation is the same for every k.

    Kingma & Welling 2014, eq. 2, by Monte Carlo.

    Raises:
        ValueError: for k = 0.
    """
    _check_k(log_weights)
    return log_weights.mean(dim=0)


def iwae(log_weights: Float[Tensor, "k batch"]) -> Float[Tensor, " batch"]:
    """The importance-weighted bound L_k, log 1/k Σ_i w_i (Burda et al. 2016, eq. 8).

    In expectation it does not fall with k, and is never above log p(x). The sum of normalised
    weights times log-weights has the same gradient but another value, which is no bound.

    Raises:
        ValueError: for k = 0.
    """
    _check_k(log_weights)
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def analytic_elbo(
    log_likelihood: Float[Tensor, "k batch"],
    kl: Float[Tensor, " batch"],
    beta: NonNegativeFloat = 1.0,
) -> Float[Tensor, " batch"]:
    """1/k Σ_i log p(x|z_i) − β KL(q(z|x) ‖ p(z)), with the KL in closed form.

    Kingma & Welling 2014, eq. 3 (10 for their normal latents); β as in Higgins et al. 2017, eq. 4.
    A bound on log p(x) for β ≥ 1 only.

    Raises:
        ValueError: for k = 0.
    """
    _check_k(log_likelihood)
    return log_likelihood.mean(dim=0) - beta * kl


def free_bits(kl: Float[Tensor, "batch latent"], floor: NonNegativeFloat) -> Float[Tensor, ""]:
    """Σ_j max(floor, mean over the batch of KL_j), in nats: a KL that is not pushed below a floor.

    Kingma et al. 2016, eq. 15, with every latent a group of its own. In place of the batch's mean
    KL; the objective is then no longer a bound where the floor is reached from below.
    """
    return kl.mean(dim=0).clamp(min=floor).sum()


def warm_up(step: NonNegative, n_steps: NonNegative) -> float:
    """The weight β of the KL at a step: a straight line from 0 to 1 in `n_steps`, then 1.

    Sønderby et al. 2016, section 2.3. With `n_steps` = 0 it is always 1.
    """
    return min(1.0, step / n_steps) if n_steps else 1.0


def _check_k(samples: Tensor) -> None:
    if len(samples) == 0:
        raise ValueError("k=0: a bound needs at least one sample for each example; use k=1 or more")
