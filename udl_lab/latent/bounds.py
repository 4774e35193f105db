"""Bounds on log p(x) from importance weights w_i = p(x, z_i) / q(z_i|x), and the weight of a KL.

All in nats per example. k samples are the first axis of `log_weights`, examples the second.
"""

import math

from jaxtyping import Float
from torch import Tensor

from udl_lab.ranges import NonNegative, NonNegativeFloat, Positive


def iwae(log_weights: Float[Tensor, "k batch"]) -> Float[Tensor, " batch"]:
    """The importance-weighted bound L_k, log 1/k Σ_i w_i (Burda et al. 2016, eq. 8).

    In expectation it does not fall with k, and is never above log p(x). The sum of normalised
    weights times log-weights has the same gradient but another value, which is no bound.

    Raises:
        ValueError: for k = 0.
    """
    if len(log_weights) == 0:
        raise ValueError("k=0: a bound needs at least one sample for each example; use k=1 or more")
    return _log_mean_exp(log_weights, 0)


def iwae_of_groups(
    log_weights: Float[Tensor, "n batch"], k: Positive
) -> Float[Tensor, "group batch"]:
    """L_k of each of n // k groups of k weights in their order; those left over are not used.

    Their mean estimates L_k without bias, from as many weights as there are.

    Raises:
        ValueError: for k under 1 or over n.
    """
    n = len(log_weights)
    if not 1 <= k <= n:
        raise ValueError(f"k={k}: a group is of 1 to {n} weights, as many as there are")
    return _log_mean_exp(log_weights[: n // k * k].unflatten(0, (-1, k)), 1)


def free_bits(kl: Float[Tensor, "batch latent"], floor: NonNegativeFloat) -> Float[Tensor, ""]:
    """Σ_j max(floor, mean over the batch of KL_j), in nats: a KL that is not pushed below a floor.

    Kingma et al. 2016, eq. 15, with every latent a group of its own. In place of the batch's mean
    KL; the objective is then no longer a bound where the floor is reached from below. Another batch
    size gives another number: the mean of two batches' maxima is not the maximum of their mean.
    """
    return kl.mean(dim=0).clamp(min=floor).sum()


def warm_up(step: NonNegative, n_steps: NonNegative) -> float:
    """The weight β of the KL at a step: a straight line from 0 to 1 in `n_steps`, then 1.

    Sønderby et al. 2016, section 2.3. With `n_steps` = 0 it is always 1.
    """
    return min(1.0, step / n_steps) if n_steps else 1.0


def _log_mean_exp(log_weights: Tensor, dim: int) -> Tensor:
    return log_weights.logsumexp(dim) - math.log(log_weights.shape[dim])
