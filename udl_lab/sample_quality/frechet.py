"""Fréchet distance between Gaussians fitted to features, in squared units of the feature.

d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)), the squared Wasserstein-2 distance
between N(m1, C1) and N(m2, C2) (Dowson & Landau 1982). It depends on the features: a number is
comparable only with others in the same features and at the same number of samples, because two
finite sets of one law are not at distance 0 (`first_order_bias`).
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.sample_quality.points import checked, pair


def between_gaussians(
    mean_a: Float[Tensor, " dim"],
    covariance_a: Float[Tensor, "dim dim"],
    mean_b: Float[Tensor, " dim"],
    covariance_b: Float[Tensor, "dim dim"],
) -> float:
    """d^2 between two Gaussians, in squared units of the feature.

    The trace of the square root is the sum of the singular values of C1^(1/2) C2^(1/2): no root is
    taken of a product that is not symmetric, and none of an eigenvalue rounded below 0.

    Raises:
        ValueError: if a covariance is not symmetric or has a negative eigenvalue.
    """
    root_a = _root("covariance_a", covariance_a.double())
    root_b = _root("covariance_b", covariance_b.double())
    shift = (mean_a.double() - mean_b.double()).square().sum()
    spread = covariance_a.double().trace() + covariance_b.double().trace()
    overlap = torch.linalg.svdvals(root_a @ root_b).sum()
    return max(0.0, float(shift + spread - 2 * overlap))  # 0 is rounded both ways


def frechet_distance(a: Float[Tensor, "a_sample dim"], b: Float[Tensor, "b_sample dim"]) -> float:
    """d^2 between the Gaussians with each set's mean and covariance (divided by n - 1).

    Biased upwards. With no more samples than dimensions the covariances are singular, and the
    number says more about n than about the law.

    Raises:
        ValueError: with fewer than two samples, a feature not finite, or different dimensions.
    """
    a, b = pair(a, b, at_least=2)
    return between_gaussians(*_fit(a), *_fit(b))


def matched_baseline(
    features_of_real: Float[Tensor, "real dim"], n: int, generator: torch.Generator
) -> float:
    """d^2 between two disjoint random sets of n real examples: what a perfect model would score.

    Print it beside `frechet_distance` of n samples against n real examples.

    Raises:
        ValueError: if there are fewer than 2 n real examples, or n is below two.
    """
    checked("features_of_real", features_of_real)
    most = len(features_of_real) // 2
    if not 2 <= n <= most:
        raise ValueError(
            f"two disjoint sets of {n} cannot be drawn from {len(features_of_real)} real examples; "
            f"give n from 2 to {most}, and score the samples at the same n"
        )
    order = torch.randperm(len(features_of_real), generator=generator)
    order = order.to(features_of_real.device)
    return frechet_distance(features_of_real[order[:n]], features_of_real[order[n : 2 * n]])


def first_order_bias(covariance: Float[Tensor, "dim dim"], n: int) -> float:
    """Mean of d^2 between two sets of n samples of one Gaussian, to first order in 1/n.

    With eigenvalues l: (2 sum_i l_i + sum_ij (1 + [i = j]) l_i l_j / (l_i + l_j)) / n, which is
    dim (dim + 5) / (2 n) for unit covariance. Derivation: the means differ by N(0, 2 C / n); a
    small difference E of covariances is at squared distance sum_ij E_ij^2 / (2 (l_i + l_j)) in
    the eigenbasis, and E_ij of two Wishart covariances has variance 2 (1 + [i = j]) l_i l_j / n.

    Raises:
        ValueError: if the covariance is not symmetric or has a negative eigenvalue.
    """
    values, _ = _eigen("covariance", covariance.double())
    values = values[values > 0]  # a direction without spread adds nothing
    sums = values[:, None] + values
    products = values[:, None] * values * (1 + torch.eye(len(values), device=values.device))
    return float((2 * values.sum() + (products / sums).sum()) / n)


def _fit(points: Float64[Tensor, "sample dim"]) -> tuple[Tensor, Tensor]:
    mean = points.mean(0)
    centred = points - mean
    return mean, centred.mT @ centred / (len(points) - 1)


def _root(name: str, covariance: Float64[Tensor, "dim dim"]) -> Float64[Tensor, "dim dim"]:
    """The symmetric positive semi-definite square root."""
    values, vectors = _eigen(name, covariance)
    return (vectors * values.sqrt()) @ vectors.mT


def _eigen(name: str, covariance: Float64[Tensor, "dim dim"]) -> tuple[Tensor, Tensor]:
    size = covariance.abs().max()
    if not bool(((covariance - covariance.mT).abs() <= 1e-9 * size).all()):
        raise ValueError(f"{name} is not symmetric, or not finite; give a covariance")
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    if values[0] < -1e-9 * size * len(values):
        raise ValueError(
            f"{name} has the eigenvalue {values[0].item()}, which no variance can be; give a "
            "covariance"
        )
    return values.clamp(min=0), vectors
