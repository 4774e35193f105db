"""The variational bound on −log p(x_0), term by term, for an ancestral sampler over any plan.

In nats per example, summed over dimensions, unless a name says bits.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.special import log_ndtr

from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.plan import StepPlan
from udl_lab.diffusion.process import (
    Prediction,
    Variance,
    diffuse,
    posterior,
    step_variance,
)
from udl_lab.diffusion.schedule import Level, Schedule
from udl_lab.ranges import Positive, PositiveFloat


@dataclass(frozen=True)
class Bound:
    """The terms of −log p(x_0) ≤ prior + Σ steps + reconstruction, for each example, in nats."""

    prior: Float64[Tensor, " batch"]  # KL(q(x_T | x_0) ‖ N(0, I))
    steps: Float64[Tensor, "step batch"]  # KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)), noisiest first
    reconstruction: Float64[Tensor, " batch"]  # −log p(x_0 | x_t) at the last level above 0

    @property
    def total(self) -> Float64[Tensor, " batch"]:
        """The bound on −log p(x_0)."""
        return self.prior + self.steps.sum(0) + self.reconstruction


def variational_bound(
    denoiser: Denoiser,
    plan: StepPlan,
    x0: Float[Tensor, " batch *shape"],
    generator: torch.Generator,
    variance: Variance = "small",
    bin_width: PositiveFloat | None = None,
) -> Bound:
    """A draw of the bound for each example (Ho et al. 2020, eq. 5), over any plan.

    The model is the ancestral sampler of that plan with that variance, noise on its last step
    included.

    Args:
        denoiser: what knows the data.
        plan: the levels of the model.
        x0: examples; computed in double precision.
        generator: of one x_t for each example and level, a CPU generator.
        variance: see `process.step_variance`.
        bin_width: see `reconstruction_term`.
    """
    x0 = x0.double()
    terms = []
    with torch.no_grad():
        for t, s in plan:
            eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
            terms.append(
                step_term(denoiser, x0, s, t, eps, variance)
                if s > 0
                else reconstruction_term(denoiser, x0, t, eps, variance, bin_width)
            )
    *steps, reconstruction = terms
    none = torch.zeros(0, len(x0), dtype=torch.float64, device=x0.device)
    prior = prior_term(denoiser.schedule, x0, plan.start)
    return Bound(prior, torch.stack(steps) if steps else none, reconstruction)


def prior_term(
    schedule: Schedule, x0: Float64[Tensor, " batch *shape"], t: int
) -> Float64[Tensor, " batch"]:
    """KL(q(x_t | x_0) ‖ N(0, I)) in nats (Ho et al. 2020, eq. 5, L_T)."""
    left = schedule.at(t)
    return 0.5 * (left * x0.square() - left - torch.log1p(-left)).flatten(1).sum(1)


def step_term(
    denoiser: Denoiser,
    x0: Float64[Tensor, " batch *shape"],
    s: int,
    t: int,
    eps: Float64[Tensor, " batch *shape"],
    variance: Variance = "small",
) -> Float64[Tensor, " batch"]:
    """KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) in nats, 0 < s < t, for the x_t that the noise makes.

    Ho et al. 2020, eq. 5, L_{t−1}; between normals of different widths, for any variance.
    """
    x_t = diffuse(denoiser.schedule, x0, t, eps)
    return _divergence(denoiser.schedule, denoiser(x_t, t), x0, x_t, s, t, variance)


def reconstruction_term(
    denoiser: Denoiser,
    x0: Float64[Tensor, " batch *shape"],
    t: int,
    eps: Float64[Tensor, " batch *shape"],
    variance: Variance = "small",
    bin_width: PositiveFloat | None = None,
) -> Float64[Tensor, " batch"]:
    """The last step's −log p(x_0 | x_t) in nats, for the x_t that the noise makes.

    Where the small variance is 0, the large one stands in (Ho et al. 2020, §3.2 and eq. 13).

    Args:
        denoiser: what knows the data.
        x0: examples.
        t: the last level above 0.
        eps: standard normal noise.
        variance: see `process.step_variance`.
        bin_width: `None` for densities. For data on a grid of this width in [−1, 1] (2/255 for
            bytes) the probability of the example's bin; the first and the last bin are open.
    """
    x_t = diffuse(denoiser.schedule, x0, t, eps)
    prediction = denoiser(x_t, t)
    return _reconstruction(denoiser.schedule, prediction, x0, x_t, t, variance, bin_width)


def learned_variance_term(
    schedule: Schedule,
    prediction: Prediction,
    x0: Float[Tensor, " batch *shape"],
    x_t: Float[Tensor, " batch *shape"],
    t: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """The bound's term of the step from t to t − 1, in nats, as a loss for the learned variance.

    The mean is held still: the bound is to teach the variance alone (Nichol & Dhariwal 2021, §3.1).

    Args:
        schedule: the schedule.
        prediction: with `between`, where the variance lies.
        x0: clean examples.
        x_t: noisy examples.
        t: the level of each, from 1 up.
    """
    held = prediction._replace(x0=prediction.x0.detach(), eps=prediction.eps.detach())
    terms = torch.zeros(len(t), dtype=x0.dtype, device=x0.device)
    first = t == 1
    if first.any():
        there = _rows(held, first)
        last = _reconstruction(schedule, there, x0[first], x_t[first], 1, "learned", None)
        terms = terms.masked_scatter(first, last)
    if not first.all():
        rest = ~first
        there, of_rest = _rows(held, rest), t[rest]
        kl = _divergence(schedule, there, x0[rest], x_t[rest], of_rest - 1, of_rest, "learned")
        terms = terms.masked_scatter(rest, kl)
    return terms


def _rows(prediction: Prediction, chosen: Tensor) -> Prediction:
    x0, eps, _, between = prediction
    return Prediction(x0[chosen], eps[chosen], None, None if between is None else between[chosen])


def _divergence(
    schedule: Schedule,
    prediction: Prediction,
    x0: Float[Tensor, " batch *shape"],
    x_t: Float[Tensor, " batch *shape"],
    s: Level,
    t: Level,
    variance: Variance,
) -> Float[Tensor, " batch"]:
    mean, _ = posterior(schedule, prediction.x0, x_t, s, t)
    width = step_variance(schedule, prediction, s, t, variance)
    true_mean, true_width = posterior(schedule, x0, x_t, s, t)
    ratio = true_width / width
    kl = 0.5 * (ratio - 1 - ratio.log() + (true_mean - mean).square() / width)
    return kl.flatten(1).sum(1)


def _reconstruction(
    schedule: Schedule,
    prediction: Prediction,
    x0: Float[Tensor, " batch *shape"],
    x_t: Float[Tensor, " batch *shape"],
    t: int,
    variance: Variance,
    bin_width: float | None,
) -> Float[Tensor, " batch"]:
    mean, _ = posterior(schedule, prediction.x0, x_t, 0, t)
    variance = "large" if variance == "small" else variance
    width = step_variance(schedule, prediction, 0, t, variance).expand_as(x0)
    return -_log_prob(x0, mean, width.sqrt(), bin_width).flatten(1).sum(1)


def _log_prob(
    x: Float[Tensor, " batch *shape"],
    mean: Float[Tensor, " batch *shape"],
    deviation: Float[Tensor, " batch *shape"],
    bin_width: float | None,
) -> Float[Tensor, " batch *shape"]:
    """The log-density of N(mean, deviation²), or the log-probability of a bin around x."""
    if bin_width is None:
        z = (x - mean) / deviation
        return -0.5 * z.square() - deviation.log() - 0.5 * math.log(2 * math.pi)
    half = bin_width / 2
    above, below = (x + half - mean) / deviation, (x - half - mean) / deviation
    above = torch.where(x > 1 - half, torch.inf, above)
    below = torch.where(x < -1 + half, -torch.inf, below)
    # In the upper tail both tails' masses are near 1; the mirror image's are near 0.
    upper = below > 0
    far, near = torch.where(upper, -below, above), torch.where(upper, -above, below)
    high, low = log_ndtr(far), log_ndtr(near)
    return high + torch.log1p(-(low - high).exp())  # no clamp: an outlier costs what it costs


def bits_per_dimension(
    nats: Float[Tensor, " batch"], n_dimensions: Positive, bin_width: PositiveFloat | None = None
) -> Float[Tensor, " batch"]:
    """Nats per example as bits per dimension.

    Args:
        nats: −log p of each example.
        n_dimensions: of an example.
        bin_width: for a density over dequantised data, x + u with u uniform over a bin: the bin's
            width, whose log₂ is taken off. `None` for probabilities.
    """
    bits = nats / (n_dimensions * math.log(2))
    return bits if bin_width is None else bits - math.log2(bin_width)
