"""Why a bound falls short of log p(x): the family of q, or the encoder that chooses q.

log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q]), where q* is the best diagonal normal for this
x (Cremer, Li & Duvenaud 2018, eq. 3). The first part is the approximation gap, the second the
amortisation gap; their sum is KL(q || p(z | x)). For latent sizes 1 and 2 no noise enters either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from udl_lab.latent.normal import Normal
from udl_lab.latent.quadrature import check_latent

LogJoint = Callable[[Float[Tensor, "k batch latent"]], Float[Tensor, "k batch"]]
"""log p(x, z) of each example at points z of its own, in nats."""

_REACH = 8.0  # deviations of q: the end of the grid of `elbo_on_grid`
_AT_ONCE = 10_000  # pairs of a point and an example: 31 MB for 784 pixels, and the network's own


@dataclass(frozen=True)
class Gaps:
    """The two gaps of each example, in nats."""

    log_evidence: Float[Tensor, " batch"]
    best_elbo: Float[Tensor, " batch"]  # L[q*]
    elbo: Float[Tensor, " batch"]  # L[q]
    best: Normal  # q*
    # How much of L[q*] is still to be won, to second order: zero where the search has converged.
    unconverged: Float[Tensor, " batch"]
    # The largest of: what `elbo_on_grid` says of either bound; and what the search's own rule is
    # off by at q*, since it may have been led astray by that much.
    error: Float[Tensor, " batch"]

    @property
    def approximation(self) -> Float[Tensor, " batch"]:
        """What no diagonal normal can win."""
        return self.log_evidence - self.best_elbo

    @property
    def amortisation(self) -> Float[Tensor, " batch"]:
        """What the best diagonal normal for this x alone wins over the encoder's."""
        return self.best_elbo - self.elbo


def gaps(
    log_joint: LogJoint,
    log_evidence: Float64[Tensor, " batch"],
    q: Normal,
    starts: Sequence[Normal] = (),
    n: int = 20,
    steps: int = 100,
) -> Gaps:
    """The approximation and the amortisation gap of each example.

    Args:
        log_joint: log p(x, z), differentiable in z.
        log_evidence: the exact log p(x), by `quadrature.log_evidence`.
        q: what the encoder says.
        starts: where else to start the search for q*, such as `PosteriorGrid.moments()`. A
            posterior of several modes has several locally best normals; the best one is kept.
        n: nodes of Gauss-Hermite quadrature per dimension, in the search, which asks `log_joint` at
            n ** latent points per example at once. The bounds are those of `elbo_on_grid`: a few
            nodes do for a normal as narrow as the posterior, not for an encoder's that is far
            wider (2.5 nats off with 14 of them, for one image of `posterior_gap/iwae5`).
        steps: the most steps of the search from each start.

    Raises:
        ValueError: for a latent size other than 1 or 2.
    """
    best, unconverged = best_normal(log_joint, [q, *starts], n, steps)
    (best_elbo, best_error), (own, own_error) = (
        elbo_on_grid(log_joint, each) for each in (best, q)
    )
    with torch.no_grad():
        astray = (elbo(log_joint, best, n) - best_elbo).abs()
    error = torch.stack([best_error, own_error, astray]).amax(0)
    return Gaps(log_evidence.to(own.device), best_elbo, own, best, unconverged, error)


@torch.no_grad()
def elbo_on_grid(
    log_joint: LogJoint, q: Normal, tolerance: float = 1e-3, finest: float = 0.05
) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
    """The evidence lower bound of q(z | x) in nats per example, and how far off it may be.

    E_q log p(x, z) by the trapezoid rule in eps, where z = mean + std eps, over the eps no longer
    than 8 (of two dimensions e^-32 of the mass lies outside). Like `quadrature.log_evidence` this
    converges faster than any power of the spacing, and does so where q is much wider than what
    log p(x, z) varies over, which Gauss-Hermite nodes miss. The error is the change from twice the
    spacing: far above the true one once the rule converges.

    Args:
        log_joint: log p(x, z). It is asked at some 10,000 points of all examples together at once.
        q: a diagonal normal for each example, of latent size 1 or 2.
        tolerance: the spacing, at first 0.8, is halved until every example's error is under it.
        finest: but no further than this. 0.05 is 80,000 points per example of two latents.

    Raises:
        ValueError: for a latent size other than 1 or 2.
    """
    latent, batch = q.mean.shape[-1], len(q.mean)
    check_latent(latent)
    spacing, mass, before = 0.8, 0.0, torch.full((batch,), math.nan, dtype=torch.float64)
    total = torch.zeros(batch, dtype=torch.float64, device=q.mean.device)
    while True:
        # Those of twice the spacing are in the sums already.
        points = _disc(latent, spacing, new=mass > 0)
        for eps in points.split(max(1, _AT_ONCE // batch)):
            weights = (-0.5 * eps.square().sum(1)).exp()
            z = q.sample(eps.to(q.mean)[:, None].expand(-1, batch, -1))
            total += weights.to(total) @ log_joint(z).double()
            mass += float(weights.sum())
        expected, spacing = total / mass, spacing / 2
        error = (expected - before.to(expected)).abs()
        if error.max() <= tolerance or spacing < finest:
            return expected + _entropy(q).double(), error
        before = expected


def elbo(log_joint: LogJoint, q: Normal, n: int = 20) -> Float[Tensor, " batch"]:
    """The evidence lower bound of q(z | x) in nats per example, without noise.

    E_q log p(x, z) by Gauss-Hermite quadrature in eps, where z = mean + std eps, plus the entropy
    of q in closed form. Exact if log p(x, z) is a polynomial in z of degree under 2 n; a decoder
    with kinks (ReLU) needs a larger n, and so does a q wider than the posterior: `elbo_on_grid`
    says how far off it may be. Differentiable in q and in the model.

    Args:
        log_joint: log p(x, z).
        q: a diagonal normal for each example, of latent size 1 or 2.
        n: nodes per dimension.

    Raises:
        ValueError: for a latent size other than 1 or 2, or n under 1.
    """
    latent = q.mean.shape[-1]
    eps, weights = _hermite(latent, n)
    z = q.sample(eps.to(q.mean)[:, None].expand(-1, len(q.mean), -1))
    expected = (weights.to(q.mean)[:, None] * log_joint(z)).sum(0)
    return expected + _entropy(q)


def best_normal(
    log_joint: LogJoint, starts: Sequence[Normal], n: int = 20, steps: int = 100
) -> tuple[Normal, Float[Tensor, " batch"]]:
    """The diagonal normal of the highest bound for each example, and what is left to be won.

    L-BFGS from each start, on the sum over examples: they share no parameter. Never worse than the
    best start. What is left is g'g / 2 with g the slope by the mean in units of q's deviation and
    by the log deviation: for a normal posterior the curvature by them is 1 and 2.

    Raises:
        ValueError: for a latent size other than 1 or 2, or without a start.
    """
    if not starts:
        raise ValueError("give one or more normals to start the search from")
    found = [*starts, *(_climb(log_joint, start, n, steps) for start in starts)]
    with torch.no_grad():
        bounds = torch.stack([elbo(log_joint, q, n) for q in found])
    # A search that went astray may end in nan, which argmax would prefer.
    chosen = bounds.nan_to_num(nan=-math.inf).argmax(0)
    rows = torch.arange(len(chosen))
    mean = torch.stack([q.mean.detach() for q in found])[chosen, rows].requires_grad_()
    log_std = torch.stack([q.log_std.detach() for q in found])[chosen, rows].requires_grad_()
    slopes = torch.autograd.grad(elbo(log_joint, Normal(mean, log_std), n).sum(), (mean, log_std))
    by_mean = slopes[0] * log_std.exp()
    left = 0.5 * (by_mean.square() + slopes[1].square()).sum(1)
    return Normal(mean, log_std).detach(), left.detach()


def _climb(log_joint: LogJoint, start: Normal, n: int, steps: int) -> Normal:
    """A local search in units of the start's deviations, so that all examples are of one scale."""
    shift = torch.zeros_like(start.mean).requires_grad_()
    stretch = torch.zeros_like(start.log_std).requires_grad_()
    start = start.detach()

    def moved() -> Normal:
        return Normal(start.mean + start.log_std.exp() * shift, start.log_std + stretch)

    search = torch.optim.LBFGS(
        [shift, stretch],
        max_iter=steps,
        history_size=20,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def shortfall() -> Tensor:
        search.zero_grad()
        loss = -elbo(log_joint, moved(), n).sum()
        # Not loss.backward(), which would leave gradients on the model's parameters.
        shift.grad, stretch.grad = torch.autograd.grad(loss, (shift, stretch))
        return loss

    search.step(shortfall)
    return moved().detach()


def _entropy(q: Normal) -> Float[Tensor, " batch"]:
    return q.log_std.sum(1) + 0.5 * q.mean.shape[-1] * math.log(2 * math.pi * math.e)


def _disc(latent: int, spacing: float, new: bool) -> Float64[Tensor, "point latent"]:
    """A grid's points about 0; `new`: those that the grid of twice the spacing has not."""
    most = math.floor(_REACH / spacing)
    axis = torch.arange(-most, most + 1, dtype=torch.float64)
    index = torch.cartesian_prod(*[axis] * latent).reshape(-1, latent)
    wanted = (spacing * index).square().sum(1) <= _REACH**2
    if new:
        wanted &= (index % 2 != 0).any(1)
    return spacing * index[wanted]


def _hermite(
    latent: int, n: int
) -> tuple[Float64[Tensor, "point latent"], Float64[Tensor, " point"]]:
    """Nodes and weights of the mean under N(0, I)."""
    check_latent(latent)
    if n < 1:
        raise ValueError(f"n={n} nodes per dimension: take 1 or more")
    nodes, weights = (torch.from_numpy(a) for a in hermegauss(n))
    points = torch.cartesian_prod(*[nodes] * latent).reshape(-1, latent)
    product = torch.cartesian_prod(*[weights / weights.sum()] * latent).reshape(-1, latent)
    return points, product.prod(1)
