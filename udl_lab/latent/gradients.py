"""Estimators of the gradient of the importance-weighted bound L_k.

Each function returns a `Bound` whose `value` is L_k itself, so it can be logged, and whose autograd
gradient is the estimator. With w̃_i = w_i / Σ_j w_j, θ the model's parameters (decoder, prior, head)
and φ the encoder's, all three have the gradient Σ_i w̃_i ∇_θ log w_i with respect to θ. They differ
in φ:

- `iwae`: Σ_i w̃_i (∂log w_i/∂z_i ∂z_i/∂φ − ∂log q_φ(z_i|x)/∂φ). The last part is the score, whose
  noise drowns the signal as k grows (Rainforth et al. 2018).
- `stl`: Σ_i w̃_i ∂log w_i/∂z_i ∂z_i/∂φ, without the score. Biased for k > 1.
- `dreg`: Σ_i w̃_i² ∂log w_i/∂z_i ∂z_i/∂φ: the score, reparameterised once more. Unbiased.

A parameter that both uses reach (an encoder in a VampPrior) gets the sum of both gradients. Only
L_k fits `doubly` terms: another function of them, such as the ELBO, has a wrong gradient.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from udl_lab.latent import bounds
from udl_lab.latent.model import Gradient, HierarchicalModel, LatentModel, Terms


class Bound(NamedTuple):
    """L_k in nats for each example, and the terms it was made of."""

    value: Float[Tensor, " batch"]
    terms: Terms


def iwae(
    model: LatentModel | HierarchicalModel,
    x: Float[Tensor, " batch *shape"],
    eps: Float[Tensor, "k batch n_noise"],
) -> Bound:
    """The reparameterised gradient (Burda et al. 2016, eq. 13); for k = 1 that of the ELBO."""
    return _bound(model, x, eps, "full")


def stl(
    model: LatentModel | HierarchicalModel,
    x: Float[Tensor, " batch *shape"],
    eps: Float[Tensor, "k batch n_noise"],
) -> Bound:
    """Sticking the landing (Roeder et al. 2017): without the score, whose mean is 0 for k = 1.

    For k = 1 it is unbiased, and has no variance where q is the exact posterior. For k > 1 the
    mean of the weighted score is not 0, and the encoder's gradient is biased (Tucker et al. 2019,
    section 3).
    """
    return _bound(model, x, eps, "path")


def dreg(
    model: LatentModel | HierarchicalModel,
    x: Float[Tensor, " batch *shape"],
    eps: Float[Tensor, "k batch n_noise"],
) -> Bound:
    """The doubly reparameterised gradient (Tucker et al. 2019, eq. 8), unbiased for every k.

    With two layers z is h1 and h2 together: each reaches the densities with the weight w̃_i², and
    the way from h2 to h1 adds none.
    """
    return _bound(model, x, eps, "doubly")


ESTIMATORS = {"iwae": iwae, "stl": stl, "dreg": dreg}


def _bound(
    model: LatentModel | HierarchicalModel, x: Tensor, eps: Tensor, gradient: Gradient
) -> Bound:
    terms = model.terms(x, eps, gradient)
    # The derivative of log-mean-exp by log w_i is w̃_i, so that L_k is its own surrogate.
    return Bound(bounds.iwae(terms.log_weights), terms)
