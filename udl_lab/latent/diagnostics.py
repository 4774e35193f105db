"""What a trained encoder does: which units follow x, how much they tell of it, where q(z) lies.

`q` is always the diagonal normal q(z | x) of many examples, one per row.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.latent.normal import Normal


def unit_activity(means: Float[Tensor, "example latent"]) -> Float64[Tensor, " latent"]:
    """Var_x(E_q[z | x]) of each unit, over the examples given (divided by their number).

    Burda et al. 2016, section 5.2. A unit that ignores x has 0; one that copies a prior sample 1.
    """
    return means.double().var(0, correction=0)


def log_aggregate_posterior(
    q: Normal, z: Float[Tensor, "point latent"], chunk: int = 1000
) -> Float64[Tensor, " point"]:
    """The log of q(z), the mixture of all q(z | x), in nats, at given points.

    q(z) is what the decoder sees in training and the prior is what it sees in sampling: draw both.

    Args:
        q: of every example; each has the same share.
        z: points, for two latents usually those of a grid.
        chunk: points at once: it bounds the memory, at `chunk` x examples float64 numbers.
    """
    n = len(q.mean)
    parts = [_each_log_prob(q, part).logsumexp(1) - math.log(n) for part in z.split(chunk)]
    return torch.cat(parts)


@dataclass(frozen=True)
class Information:
    """How many nats z tells about which example it came from."""

    mutual_information: float
    standard_error: float  # over examples, of the draws of z and of the examples
    # log of the number of examples: no estimate from so few can be larger, so a value near it says
    # only that the examples are told apart.
    limit: float


def mutual_information(
    q: Normal, eps: Float[Tensor, "k example latent"], chunk: int = 1000
) -> Information:
    """I(x; z) = E KL(q(z | x) || q(z)) in nats, where x is one of the examples given.

    Hoffman & Johnson 2016: the rate is I(x; z) + KL(q(z) || p(z)), so rate less this is how far
    the aggregate posterior is from the prior. q(z) is the mixture of the examples given; a subset
    of a data set gives, on average over subsets, less than the whole.

    Args:
        q: of every example.
        eps: the noise of k draws per example.
        chunk: draws at once: it bounds the memory, at `chunk` x examples float64 numbers.
    """
    k, n, latent = eps.shape
    z = q.sample(eps)
    own = q.log_prob(z).double()
    mixture = log_aggregate_posterior(q, z.reshape(k * n, latent), chunk).reshape(k, n)
    per_example = (own - mixture).mean(0)
    error = float(per_example.std()) / math.sqrt(n) if n > 1 else math.nan
    return Information(float(per_example.mean()), error, math.log(n))


def _each_log_prob(q: Normal, z: Float[Tensor, "point latent"]) -> Float64[Tensor, "point example"]:
    """The log of q(z | x) of every point under every example.

    Two matrix products instead of a "point example latent" array. Squares are expanded about the
    middle of the means, in float64, so that little is lost in the difference of large numbers.
    """
    middle = q.mean.double().mean(0)
    mean, z = q.mean.double() - middle, z.double() - middle
    precision = (-2 * q.log_std.double()).exp()
    squares = z.square() @ precision.T - 2 * z @ (mean * precision).T
    constant = (mean.square() * precision + 2 * q.log_std.double() + math.log(2 * math.pi)).sum(1)
    return -0.5 * (squares + constant)
