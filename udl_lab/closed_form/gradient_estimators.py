"""The derivative of an expectation by two estimators, beside the truth (UDL, notebook 17.2).

x = mean + std eps with mean φ³, std e^φ and eps ~ N(0, 1); f(x) = x² + sin x. How does E[f(x)] move
with φ? Every estimator maps eps to values of single draws, so means and variances follow.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from jaxtyping import Float, Float64
from scipy.special import roots_hermitenorm
from torch import Tensor

from udl_lab.closed_form.moments import Moments

Phi = float | Float64[Tensor, "*phi"]

LARGEST_PHI = 1.5  # up to it `exact` is right to 1e-13 of each moment; cos(4 e^φ eps) turns faster
_NODES = 256


def f(x: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """The function whose expectation is asked for: x² + sin x."""
    return x.square() + x.sin()


def expectation(phi: Phi) -> Float64[Tensor, "*phi"]:
    """E[f(x)] = φ⁶ + e^{2φ} + sin(φ³) e^{-e^{2φ}/2}.

    E[x²] = mean² + std². E[sin x] is the imaginary part of the characteristic function at 1,
    E[e^{ix}] = e^{i mean - std²/2}.
    """
    p = torch.as_tensor(phi, dtype=torch.float64)
    variance = (2 * p).exp()
    return p**6 + variance + (p**3).sin() * (-variance / 2).exp()


def derivative(phi: Phi) -> Float64[Tensor, "*phi"]:
    """dE/dφ = 6φ⁵ + 2e^{2φ} + e^{-e^{2φ}/2} (3φ² cos φ³ - e^{2φ} sin φ³).

    Term by term: std² = e^{2φ} has the derivative 2 std², so e^{-std²/2} has -std² e^{-std²/2}.
    """
    p = torch.as_tensor(phi, dtype=torch.float64)
    mean, variance = p**3, (2 * p).exp()
    waves = 3 * p**2 * mean.cos() - variance * mean.sin()
    return 6 * p**5 + 2 * variance + (-variance / 2).exp() * waves


def values(phi: float, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """Draws of f(x), whose mean is `expectation`."""
    return f(_x(phi, eps))


def reparameterised(phi: float, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """Draws of f'(x) dx/dφ, whose mean is `derivative`.

    f'(x) = 2x + cos x and, with eps held fixed, dx/dφ = 3φ² + e^φ eps.
    """
    x = _x(phi, eps)
    return (2 * x + x.cos()) * (3 * phi**2 + math.exp(phi) * eps)


def score(phi: float, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """The score d log p(x | φ) / dφ = eps² - 1 + 3φ² e^{-φ} eps, with x held fixed; of mean 0.

    log p = -φ - eps²/2 + constant, where eps = (x - φ³) e^{-φ} moves by -3φ² e^{-φ} - eps.
    """
    return eps.square() - 1 + 3 * phi**2 * math.exp(-phi) * eps


def score_function(
    phi: float, eps: Float[Tensor, "*draw"], baseline: float = 0.0
) -> Float[Tensor, "*draw"]:
    """Draws of (f(x) - baseline) score, whose mean is `derivative` for any constant baseline.

    It asks for values of f only, never for its derivative.
    """
    return (values(phi, eps) - baseline) * score(phi, eps)


def best_baseline(phi: float) -> float:
    """The constant that makes the variance of `score_function` smallest: E[f score²] / E[score²].

    A constant estimated from the same draws would bias the estimator; this one is exact.
    """
    squared = exact(lambda p, eps: score(p, eps).square(), phi).mean  # 2 + 9 φ⁴ e^{-2φ}
    return exact(lambda p, eps: values(p, eps) * score(p, eps).square(), phi).mean / squared


def exact(estimator: Callable[[float, Tensor], Tensor], phi: float) -> Moments:
    """Mean, variance and fourth central moment of one draw, by Gauss-Hermite quadrature.

    Args:
        estimator: a function of φ and eps: `values`, `reparameterised`, `score_function`, or with
            a baseline `partial(score_function, baseline=...)`.
        phi: at most `LARGEST_PHI`.

    Raises:
        ValueError: beyond it, where the nodes no longer resolve the waves of sin x.
    """
    if not phi <= LARGEST_PHI:
        raise ValueError(
            f"phi = {phi}: the quadrature with {_NODES} nodes is exact up to {LARGEST_PHI}; give a "
            "smaller phi, or use `stream` for an estimate"
        )
    nodes, weights = _gauss_hermite()
    drawn = estimator(phi, nodes)
    mean = weights @ drawn
    squares = (drawn - mean).square()
    return Moments(float(mean), float(weights @ squares), float(weights @ squares.square()))


def variance_ratio(phi: float, baseline: float = 0.0) -> float:
    """Exact variance of the score-function estimator over that of the reparameterised one.

    The same for means of any n draws, which divides both by n.
    """
    by_score = exact(partial(score_function, baseline=baseline), phi)
    return by_score.variance / exact(reparameterised, phi).variance


def _x(phi: float, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    return phi**3 + math.exp(phi) * eps


@cache
def _gauss_hermite() -> tuple[Float64[Tensor, " node"], Float64[Tensor, " node"]]:
    """Nodes, and weights that sum to 1: the mean under N(0, 1) of polynomials of degree 511."""
    nodes, weights = roots_hermitenorm(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
