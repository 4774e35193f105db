"""Probabilistic PCA: the latent model whose likelihood, posterior and optimum are all closed forms.

x = mean + W z + sigma eps with z ~ N(0, I) (Tipping & Bishop 1999). The lab's linear VAE is this
model, so every constant of its bound has an exact value here.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.latent.normal import Normal


@dataclass(frozen=True)
class PPCA:
    """A linear decoder with orthogonal columns and one noise variance; all in float64 and nats.

    Orthogonal columns lose nothing: a rotation of z leaves p(x) as it is, and the fitted columns
    are orthogonal. They make the posterior a diagonal normal, which a VAE can match exactly.

    Raises:
        ValueError: if the columns are not orthogonal or the variance is not positive.
    """

    mean: Float64[Tensor, " data"]
    weight: Float64[Tensor, "data latent"]
    variance: float  # sigma^2

    def __post_init__(self) -> None:
        if not self.variance > 0:
            raise ValueError(f"variance={self.variance}: the noise variance must be positive")
        gram = self.weight.T @ self.weight
        largest = float((gram - gram.diag().diag()).abs().max())
        if largest > 1e-10 * float(gram.diag().max()):
            raise ValueError(
                f"two columns of weight have the inner product {largest:.3g}: make them orthogonal "
                "(U S of its singular value decomposition U S V' gives the same p(x))"
            )

    @property
    def _strength(self) -> Float64[Tensor, " latent"]:
        """The squared length of each column: the variance of x that each latent explains."""
        return self.weight.square().sum(0)

    def log_prob(self, x: Float64[Tensor, "batch data"]) -> Float64[Tensor, " batch"]:
        """The exact log p(x) = log N(x; mean, W W' + sigma^2 I), in nats per example.

        Determinant and inverse by the matrix identities of Sylvester and Woodbury; with orthogonal
        columns the inner matrix is diagonal, so nothing is factorised.
        """
        d, latent = self.weight.shape
        residual = x - self.mean
        total = self._strength + self.variance  # eigenvalues of the covariance along the columns
        log_det = total.log().sum() + (d - latent) * math.log(self.variance)
        explained = ((residual @ self.weight).square() / total).sum(1)
        distance = (residual.square().sum(1) - explained) / self.variance
        return -0.5 * (d * math.log(2 * math.pi) + log_det + distance)

    def posterior(self, x: Float64[Tensor, "batch data"]) -> Normal:
        """The exact p(z | x); its variance is the same for every x (eq. 8 of the source)."""
        total = self._strength + self.variance
        mean = (x - self.mean) @ self.weight / total
        return Normal(mean, (0.5 * (self.variance / total).log()).expand_as(mean))

    def elbo(
        self, x: Float64[Tensor, "batch data"], q: Normal | None = None
    ) -> Float64[Tensor, " batch"]:
        """The evidence lower bound of q(z | x) in nats per example, without sampling.

        E_q log p(x | z) - KL(q || p(z)). It falls short of `log_prob` by KL(q || p(z | x)) exactly.

        Args:
            x: examples.
            q: a diagonal normal for each example; the exact posterior if it is not given, and then
                the bound is the log-likelihood.
        """
        q = self.posterior(x) if q is None else q
        d = len(self.mean)
        squares = (x - self.mean - q.mean @ self.weight.T).square().sum(1)
        spread = (self._strength * (2 * q.log_std).exp()).sum(1)
        log_likelihood = -0.5 * (
            d * math.log(2 * math.pi * self.variance) + (squares + spread) / self.variance
        )
        return log_likelihood - q.kl().sum(1)

    def sample(self, n: int, generator: torch.Generator) -> Float64[Tensor, "n data"]:
        """Ancestral samples: z from the prior, then x."""
        d, latent = self.weight.shape
        z = torch.randn(n, latent, generator=generator, dtype=torch.float64)
        eps = torch.randn(n, d, generator=generator, dtype=torch.float64)
        return self.mean + z @ self.weight.T + math.sqrt(self.variance) * eps


def fit(x: Float[Tensor, "batch data"], latent: int) -> PPCA:
    """The parameters of highest likelihood, in closed form.

    Tipping & Bishop 1999, eqs. 14 and 15: column j is the j-th principal direction times
    sqrt(eigenvalue j - sigma^2), and sigma^2 is the mean of the discarded eigenvalues. The
    covariance is divided by the number of examples, as likelihood asks, not by one less. The sign
    of a column is free; its entry of largest size is made positive.

    Args:
        x: examples; computed in double precision.
        latent: the number of latent dimensions.

    Raises:
        ValueError: for a latent size under 1 or not under the data's, too few examples, or data
            without any variance outside the first `latent` directions (the likelihood then has no
            maximum: it grows without end as sigma goes to zero).
    """
    eigenvalues, directions = _spectrum(x, latent)
    variance = _noise_variance(eigenvalues, latent, x.shape[1])
    weight = directions[:, :latent] * (eigenvalues[:latent] - variance).clamp(min=0).sqrt()
    rows = weight.abs().argmax(0)
    signs = torch.where(weight[rows, torch.arange(latent)] < 0, -1.0, 1.0)
    return PPCA(x.double().mean(0), weight * signs, variance)


def max_log_likelihood(x: Float[Tensor, "batch data"], latent: int) -> float:
    """The log-likelihood that `fit` reaches, in nats per example, from the eigenvalues alone.

    Tipping & Bishop 1999, eq. 4 at the optimum: its quadratic term is the data's dimension. No
    linear decoder with one noise variance can do better on these examples, and every linear VAE
    trained on them ends at or below this number.

    Raises:
        ValueError: as `fit` does.
    """
    eigenvalues, _ = _spectrum(x, latent)
    d = x.shape[1]
    variance = _noise_variance(eigenvalues, latent, d)
    kept = float(eigenvalues[:latent].log().sum())
    return -0.5 * (d * math.log(2 * math.pi) + kept + (d - latent) * math.log(variance) + d)


def _spectrum(
    x: Float[Tensor, "batch data"], latent: int
) -> tuple[Float64[Tensor, " rank"], Float64[Tensor, "data rank"]]:
    """Eigenvalues of the covariance, largest first, and their directions."""
    n, d = x.shape
    if not 0 < latent < d:
        raise ValueError(f"latent={latent}: choose 1 to {d - 1} for data of dimension {d}")
    if n < latent + 2:
        raise ValueError(
            f"{n} examples cannot fit {latent} latent dimensions and a noise variance: give "
            f"{latent + 2} or more"
        )
    centred = x.double() - x.double().mean(0)
    # By the data matrix, not the covariance: squaring it would halve the number of right digits.
    _, singular, directions = torch.linalg.svd(centred / math.sqrt(n), full_matrices=False)
    return singular.square(), directions.T


def _noise_variance(eigenvalues: Float64[Tensor, " rank"], latent: int, d: int) -> float:
    """The mean of the discarded eigenvalues, those that few examples leave at zero included."""
    variance = float(eigenvalues[latent:].sum()) / (d - latent)
    if variance <= 1e-20 * float(eigenvalues[0]):
        raise ValueError(
            f"the examples have no variance outside {latent} directions, so no noise variance "
            "fits them: take a smaller latent size or other data"
        )
    return variance
