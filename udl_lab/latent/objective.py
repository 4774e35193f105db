"""What a training step minimises, with the ELBO's two parts beside it."""

from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from udl_lab.latent import bounds
from udl_lab.latent.gradients import ESTIMATORS
from udl_lab.latent.model import HierarchicalModel, LatentModel, check_noise
from udl_lab.latent.priors import StandardNormal
from udl_lab.ranges import NonNegativeFloat

Estimator = Literal["elbo", "iwae", "dreg", "stl"]


class Objective(NamedTuple):
    """The loss, averaged over the batch, and the ELBO's parts of each example, all in nats."""

    loss: Float[Tensor, ""]
    log_likelihood: Float[Tensor, " batch"]  # E_q log p(x|z), from k samples
    kl: Float[Tensor, " batch"]  # KL(q(z|x) || p(z)), closed or from the same samples


def has_closed_kl(net: LatentModel | HierarchicalModel) -> bool:
    """Whether KL(q(z|x) || p(z)) has a closed form: for one layer under N(0, I)."""
    return isinstance(net, LatentModel) and isinstance(net.prior, StandardNormal)


def check_free_bits(net: LatentModel | HierarchicalModel, free_bits: NonNegativeFloat) -> None:
    """Refuse free bits of a model whose KL has no closed form.

    Raises:
        ValueError: naming the number.
    """
    if free_bits and not has_closed_kl(net):
        raise ValueError(
            f"free_bits={free_bits} needs the KL of each latent, which has a closed form for one "
            "layer under prior=standard only; set free_bits=0"
        )


def objective(
    net: LatentModel | HierarchicalModel,
    x: Float[Tensor, " batch *shape"],
    eps: Float[Tensor, "k batch n_noise"],
    estimator: Estimator = "elbo",
    beta: NonNegativeFloat = 1.0,
    free_bits: NonNegativeFloat = 0.0,
) -> Objective:
    """The negative bound, with the gradient of the estimator.

    Args:
        net: the model.
        x: data.
        eps: N(0, 1) noise.
        estimator: `elbo` averages over k samples, with the KL in closed form where there is one
            (Kingma & Welling 2014, eq. 3; eq. 2 where it is sampled); the others are of the IWAE
            bound L_k (`udl_lab.latent.gradients`).
        beta: weight of the ELBO's KL (Higgins et al. 2017, eq. 4); a bound for beta >= 1 only.
        free_bits: nats of each latent's KL, averaged over the batch, that cost nothing more.

    Raises:
        ValueError: as `LatentModel.terms`, and for free bits without a closed form.
    """
    if estimator != "elbo":
        bound = ESTIMATORS[estimator](net, x, eps)
        log_likelihood, log_prior, log_posterior = bound.terms
        kl = (log_posterior - log_prior).mean(0)
        return Objective(-bound.value.mean(), log_likelihood.mean(0), kl)
    check_free_bits(net, free_bits)
    if isinstance(net, LatentModel) and has_closed_kl(net):
        check_noise(x, eps, net.n_noise)
        q = net.posterior(x)
        log_likelihood = net.head.log_prob(x, net.decode(q.sample(eps)))
        by_unit = net.kl(q)
        kl, rate = by_unit.sum(1), bounds.free_bits(by_unit, free_bits)
    else:
        log_likelihood, log_prior, log_posterior = net.terms(x, eps)
        kl = (log_posterior - log_prior).mean(0)
        rate = kl.mean()
    return Objective(beta * rate - log_likelihood.mean(), log_likelihood.mean(0), kl)
