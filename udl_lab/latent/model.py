"""Models p(x, z) = p(x|z) p(z) with an encoder q(z|x), of one or of two stochastic layers.

One primitive, `terms`, gives the three log-densities that every bound and estimator is made of:
`x` data, `z` latents, `eps` the N(0, 1) noise that z is made of, k samples for each example.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from udl_lab.errors import nearest
from udl_lab.latent.heads import AbstractHead
from udl_lab.latent.normal import Normal
from udl_lab.latent.priors import AbstractPrior, StandardNormal
from udl_lab.ranges import Positive

# How gradients pass through the terms; `udl_lab.latent.gradients` says what each is for.
# full: as the formulas stand. path: not through the parameters of log q, only through z.
# doubly: as path, and what reaches z is multiplied by the sample's normalised weight.
Gradient = Literal["full", "path", "doubly"]


class Terms(NamedTuple):
    """log p(x|z), log p(z) and log q(z|x) at samples z of q, in nats, summed over dimensions."""

    log_likelihood: Float[Tensor, "k batch"]
    log_prior: Float[Tensor, "k batch"]
    log_posterior: Float[Tensor, "k batch"]

    @property
    def log_weights(self) -> Float[Tensor, "k batch"]:
        """The log importance weights, log p(x, z) − log q(z|x), in nats."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class LatentModel(nn.Module):
    """One layer of latents: p(z) p(x|z), with a normal q(z|x)."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: AbstractPrior, head: AbstractHead
    ) -> None:
        """Put a model together.

        Args:
            encoder: maps x to 2 · latent numbers, the means and log standard deviations of q(z|x).
            decoder: maps latents (n, latent) to (n, out) numbers for the head.
            prior: p(z).
            head: p(x|z) given the decoder's outputs.
        """
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.prior, self.head = prior, head
        self.n_noise = prior.size  # numbers of eps for one sample

    def forward(self, x: Float[Tensor, " batch *shape"]) -> Float[Tensor, " batch *shape"]:
        """A reconstruction without noise: E[x|z] at the mean of q(z|x)."""
        return self.head.mean(self.decode(self.posterior(x).mean)).reshape(x.shape)

    def posterior(self, x: Float[Tensor, " batch *shape"]) -> Normal:
        """q(z|x); each example is encoded once, however many samples are drawn of it."""
        return Normal.from_outputs(self.encoder(x))

    def kl(self, posterior: Normal) -> Float[Tensor, "batch latent"]:
        """KL(q(z|x) ‖ p(z)) in closed form, in nats for each latent.

        Raises:
            ValueError: for a prior other than N(0, I), for which there is none.
        """
        if not isinstance(self.prior, StandardNormal):
            raise ValueError(
                f"there is no closed-form KL to a {type(self.prior).__name__}; use the sampled "
                "ELBO, or prior='standard'"
            )
        return posterior.kl()

    def decode(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples out"]:
        """The decoder's outputs, which the head gives a meaning."""
        return _apply(self.decoder, z)

    def log_joint(
        self, x: Float[Tensor, " batch *shape"], z: Float[Tensor, "k batch latent"]
    ) -> Float[Tensor, "k batch"]:
        """The log of p(x, z) in nats, with all constants."""
        return self.head.log_prob(x, self.decode(z)) + self.prior.log_prob(z)

    def sample_prior(self, n: Positive, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """`n` draws of z from p(z), from a CPU generator, on the model's device."""
        return self.prior.sample(n, generator).to(next(self.parameters()))

    def terms(
        self,
        x: Float[Tensor, " batch *shape"],
        eps: Float[Tensor, "k batch n_noise"],
        gradient: Gradient = "full",
    ) -> Terms:
        """The log-densities at z = mean + exp(log_std) eps; `log_weights` come from them.

        Args:
            x: data.
            eps: N(0, 1) noise; its first axis is the k samples of each example.
            gradient: how gradients pass: `full`, `path` or `doubly`. The values are the same.

        Raises:
            ValueError: for k = 0, noise of another shape, an unknown `gradient`, and data that the
                head is not made for.
        """
        return self.terms_at(self.posterior(x), x, eps, gradient)

    def terms_at(
        self,
        posterior: Normal,
        x: Float[Tensor, " batch *shape"],
        eps: Float[Tensor, "k batch n_noise"],
        gradient: Gradient = "full",
    ) -> Terms:
        """`terms` for a posterior at hand: the encoder's, kept to save its work, or a better one.

        Raises:
            ValueError: as `terms`.
        """
        check_noise(x, eps, self.n_noise)
        _check_gradient(gradient)
        z = posterior.sample(eps)
        density = posterior if gradient == "full" else posterior.detach()
        terms = Terms(
            self.head.log_prob(x, self.decode(z)), self.prior.log_prob(z), density.log_prob(z)
        )
        if gradient == "doubly":
            _multiply_gradients(terms.log_weights, z)
        return terms


class HierarchicalModel(nn.Module):
    """Two layers of latents: p(h2) p(h1|h2) p(x|h1), with q(h1|x) q(h2|h1), all normal but p(x|h1).

    Burda et al. 2016, section 5 and appendix C. `z` is h1 and h2 side by side; so is the noise.
    """

    def __init__(
        self,
        encoder: nn.Module,
        upper_encoder: nn.Module,
        decoder: nn.Module,
        upper_decoder: nn.Module,
        n_lower: Positive,
        prior: AbstractPrior,
        head: AbstractHead,
    ) -> None:
        """Put a model together.

        Args:
            encoder: maps x to 2 · n_lower numbers, means and log standard deviations of q(h1|x).
            upper_encoder: maps h1 to those of q(h2|h1).
            decoder: maps h1 to numbers for the head.
            upper_decoder: maps h2 to 2 · n_lower numbers, those of p(h1|h2).
            n_lower: the number of latents h1.
            prior: p(h2).
            head: p(x|h1) given the decoder's outputs.

        Raises:
            ValueError: for n_lower = 0.
        """
        super().__init__()
        if n_lower < 1:
            raise ValueError(f"n_lower={n_lower}: a layer needs at least one latent; use 1 or more")
        self.encoder, self.upper_encoder = encoder, upper_encoder
        self.decoder, self.upper_decoder = decoder, upper_decoder
        self.n_lower, self.prior, self.head = n_lower, prior, head
        self.n_noise = n_lower + prior.size

    def forward(self, x: Float[Tensor, " batch *shape"]) -> Float[Tensor, " batch *shape"]:
        """A reconstruction without noise: E[x|h1] at the mean of q(h1|x)."""
        return self.head.mean(self.decode(self.posterior(x).mean)).reshape(x.shape)

    def posterior(self, x: Float[Tensor, " batch *shape"]) -> Normal:
        """q(h1|x); each example is encoded once."""
        return Normal.from_outputs(self.encoder(x))

    def upper_posterior(self, h1: Float[Tensor, "*samples lower"]) -> Normal:
        """q(h2|h1)."""
        return Normal.from_outputs(_apply(self.upper_encoder, h1))

    def lower_prior(self, h2: Float[Tensor, "*samples upper"]) -> Normal:
        """p(h1|h2)."""
        return Normal.from_outputs(_apply(self.upper_decoder, h2))

    def decode(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples out"]:
        """The outputs for the head; of z only h1 matters."""
        return _apply(self.decoder, z[..., : self.n_lower])

    def log_prior(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """The sum log p(h1|h2) + log p(h2), in nats."""
        h1, h2 = self.split(z)
        return self.lower_prior(h2).log_prob(h1) + self.prior.log_prob(h2)

    def log_joint(
        self, x: Float[Tensor, " batch *shape"], z: Float[Tensor, "k batch latent"]
    ) -> Float[Tensor, "k batch"]:
        """The log of p(x, h1, h2) in nats, with all constants."""
        return self.head.log_prob(x, self.decode(z)) + self.log_prior(z)

    def split(self, z: Float[Tensor, "*samples latent"]) -> tuple[Tensor, Tensor]:
        """h1 and h2 of z, or their noises of eps."""
        return z[..., : self.n_lower], z[..., self.n_lower :]

    def sample_prior(self, n: Positive, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """`n` draws of (h1, h2) from p(h2) p(h1|h2), from a CPU generator."""
        h2 = self.prior.sample(n, generator).to(next(self.parameters()))
        eps = torch.randn(n, self.n_lower, generator=generator).to(h2)
        return torch.cat([self.lower_prior(h2).sample(eps), h2], dim=-1)

    def terms(
        self,
        x: Float[Tensor, " batch *shape"],
        eps: Float[Tensor, "k batch n_noise"],
        gradient: Gradient = "full",
    ) -> Terms:
        """The log-densities at samples of q(h1|x) q(h2|h1), summed over both layers.

        Args:
            x: data.
            eps: N(0, 1) noise for h1, then for h2; its first axis is the k samples.
            gradient: as for `LatentModel`. `path` and `doubly` run the upper encoder once more, so
                it must be deterministic (no dropout).

        Raises:
            ValueError: as `LatentModel.terms`.
        """
        check_noise(x, eps, self.n_noise)
        _check_gradient(gradient)
        eps1, eps2 = self.split(eps)
        lower = self.posterior(x)
        h1 = lower.sample(eps1)
        upper = self.upper_posterior(h1)
        # The densities use z, joined here, and the sampling of h2 uses h1: so a gradient that is
        # multiplied at z is not multiplied again on its way from h2 to h1.
        z = torch.cat([h1, upper.sample(eps2)], dim=-1)
        at1, at2 = self.split(z)
        if gradient != "full":
            # log q(h2|h1) still depends on h1, a sample; only its parameters are held fixed.
            lower = lower.detach()
            upper = Normal.from_outputs(_apply_frozen(self.upper_encoder, at1))
        log_posterior = lower.log_prob(at1) + upper.log_prob(at2)
        terms = Terms(self.head.log_prob(x, self.decode(z)), self.log_prior(z), log_posterior)
        if gradient == "doubly":
            _multiply_gradients(terms.log_weights, z)
        return terms


def check_noise(
    x: Float[Tensor, " batch *shape"], eps: Float[Tensor, "k other n_noise"], n_noise: Positive
) -> None:
    """Refuse noise that is not k samples for each example: it would be spread over them silently.

    Raises:
        ValueError: naming the shape that is wanted.
    """
    if len(eps) == 0:
        raise ValueError("k=0: eps holds no sample; draw at least one for each example")
    if eps.shape[1:] != (len(x), n_noise):
        raise ValueError(
            f"eps has the shape {tuple(eps.shape)}; it must be (k, {len(x)}, {n_noise}): samples, "
            "examples, and the model's n_noise"
        )


def _apply(net: nn.Module, z: Tensor) -> Tensor:
    """Apply a network of matrices of rows to any number of axes of rows."""
    return net(z.reshape(-1, z.shape[-1])).unflatten(0, z.shape[:-1])


def _apply_frozen(net: nn.Module, z: Tensor) -> Tensor:
    """The same, with a gradient to z and none to the network's parameters."""
    frozen = {name: parameter.detach() for name, parameter in net.named_parameters()}
    rows = functional_call(net, frozen, (z.reshape(-1, z.shape[-1]),))
    return rows.unflatten(0, z.shape[:-1])


def _multiply_gradients(log_weights: Tensor, z: Tensor) -> None:
    """Multiply the gradient that reaches each sample by its normalised weight w_i / Σ_j w_j."""
    if z.requires_grad:
        weights = log_weights.detach().softmax(dim=0).unsqueeze(-1)
        z.register_hook(lambda gradient: weights * gradient)


def _check_gradient(gradient: str) -> None:
    if gradient not in get_args(Gradient):
        raise ValueError(
            f"there is no gradient {gradient!r}; {nearest(gradient, get_args(Gradient))}"
        )
