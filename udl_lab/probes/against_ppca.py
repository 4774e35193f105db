"""A linear VAE beside the optimum that it should have found."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from udl_lab.latent.heads import Gaussian
from udl_lab.latent.linear import fit
from udl_lab.latent.mlp_vae import LinearVAE
from udl_lab.latent.normal import Normal
from udl_lab.probes.statistics import Interval, mean
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row


class AgainstPPCA:
    """The bound, the noise and the factors of a `LinearVAE`, beside probabilistic PCA's.

    Fitted to the same training examples in closed form (Tipping & Bishop 1999). All in nats per
    example, without sampling:

    - `elbo` on the training and (`elbo/test`) the test split, `log_likelihood` of the optimum on
      the same examples, and `gap`, paired: the optimum's log-likelihood less the VAE's ELBO, at
      least 0 on the training split for every linear VAE;
    - `noise_variance`, `noise_variance_optimal`: σ²;
    - `subspace_angle`: the largest angle between the two decoders' column spaces, in degrees;
    - `posterior_gap`: KL(q || p(z|x)) of the trained model itself, its log-likelihood less its
      ELBO.
    """

    of_latents = True

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure.

        Raises:
            ValueError: when the network is no linear VAE, or there is no training split to fit the
                optimum to.
        """
        if not isinstance(subject.net, LinearVAE):
            raise ValueError(f"{type(subject.net).__name__} is no linear VAE; use net=linear_vae")
        if subject.train is None:
            raise ValueError(
                "the subject has no training examples (train=None), to which probabilistic PCA is "
                "fitted; give Subject(..., train=...), as Run.subject() does"
            )
        net = deepcopy(subject.net).double()
        optimum = fit(subject.train.x.flatten(1).double(), net.prior.size)
        own = own_model(net)
        rows = []
        for site, examples in (("", subject.train), ("test", subject.examples)):
            x = examples.x.flatten(1).double()
            with evaluating(net):
                bound = _elbo(net, x)
            best = optimum.log_prob(x)
            found = {
                "elbo": bound,
                "log_likelihood": best,
                "gap": best - bound,
                "posterior_gap": own.log_prob(x) - bound,
            }
            rows += [
                row(name, mean(values.numpy()), len(x), site=site, note="nats per example")
                for name, values in found.items()
            ]
        weight, variance = decoder_of(net)
        angle = _largest_angle(weight, optimum.weight)
        numbers = {
            "noise_variance": variance,
            "noise_variance_optimal": optimum.variance,
            "subspace_angle": angle,
        }
        return rows + [row(name, Interval.exact(value), 1) for name, value in numbers.items()]


def decoder_of(net: LinearVAE) -> tuple[Tensor, float]:
    """The weight, "data latent", and the noise variance of a linear VAE."""
    assert isinstance(net.decoder, nn.Linear) and isinstance(net.head, Gaussian)
    return net.decoder.weight.detach(), float((2 * net.head.log_std.detach()).exp())


def own_model(net: LinearVAE) -> torch.distributions.MultivariateNormal:
    """The p(x) that a linear VAE's decoder and prior define."""
    weight, variance = decoder_of(net)
    assert isinstance(net.decoder, nn.Linear)
    covariance = weight @ weight.T + variance * torch.eye(len(weight), dtype=weight.dtype)
    return torch.distributions.MultivariateNormal(net.decoder.bias.detach(), covariance)


def _elbo(net: LinearVAE, x: Tensor) -> Tensor:
    """E_q log p(x|z) − KL in closed form: the squared error of a linear decoder is known."""
    weight, variance = decoder_of(net)
    q: Normal = net.posterior(x)
    spread = (2 * q.log_std).exp() @ weight.square().sum(0)
    error = (x - net.decoder(q.mean)).square().sum(1) + spread
    d = x.shape[1]
    constant = d * torch.log(torch.tensor(2 * torch.pi * variance, dtype=x.dtype))
    return -0.5 * (constant + error / variance) - q.kl().sum(1)


def _largest_angle(a: Tensor, b: Tensor) -> float:
    """The largest principal angle of two column spaces, in degrees (Björck & Golub 1973)."""
    bases = [torch.linalg.qr(part).Q for part in (a, b)]
    # By its sine, which keeps its precision for small angles.
    outside = bases[1] - bases[0] @ (bases[0].T @ bases[1])
    return float(torch.linalg.matrix_norm(outside, 2).clamp(max=1).asin().rad2deg())
