"""The normal distribution with a diagonal covariance, which layers of latents are drawn from."""

import math
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@final
@dataclass(frozen=True)
class Normal:
    """N(mean, diag(exp(log_std))²); its last axis is the latents."""

    mean: Float[Tensor, "*batch latent"]
    log_std: Float[Tensor, "*batch latent"]

    @classmethod
    def from_outputs(cls, outputs: Float[Tensor, "*batch two_latent"]) -> "Normal":
        """The distribution that a network's outputs mean: first the means, then the log_stds."""
        mean, log_std = outputs.chunk(2, dim=-1)
        return cls(mean, log_std)

    def sample(self, eps: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples latent"]:
        """The latents z = mean + exp(log_std) eps made of noise, one row for each row of `eps`.

        Reparameterised: the gradient with respect to mean and log_std passes through (Kingma &
        Welling 2014, section 2.4). `eps` may have more axes in front than the distribution.
        """
        return self.mean + self.log_std.exp() * eps

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """The log-density of latents in nats, summed over the last axis, with all constants."""
        eps = (z - self.mean) * (-self.log_std).exp()
        return -(0.5 * eps.square() + self.log_std + 0.5 * LOG_2PI).sum(dim=-1)

    def kl(self) -> Float[Tensor, "*batch latent"]:
        """KL(this ‖ N(0, 1)) in nats for each latent, not summed.

        (mean² + std² − 1)/2 − log_std (Kingma & Welling 2014, appendix B).
        """
        return 0.5 * (self.mean.square() + (2 * self.log_std).expm1()) - self.log_std

    def detach(self) -> "Normal":
        """The same distribution, through whose parameters no gradient passes."""
        return Normal(self.mean.detach(), self.log_std.detach())
