"""The Gaussian process behind diffusion: noising, its posteriors, and one step back.

x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε. Everything here takes levels s < t of any distance, one for all
examples or one for each, and takes its noise as an argument. Coefficients are computed in double
precision and brought to the examples' type at the end.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.diffusion.schedule import Level, Schedule
from udl_lab.ranges import NonNegativeFloat

Kind = Literal["eps", "x0", "v"]
"""What a network predicts: the noise, the clean example, or v = √ᾱ ε − √(1 − ᾱ) x_0."""

Variance = Literal["small", "large", "optimal", "learned"]

_NOTHING_OF_X0 = (
    "ε at a level with ᾱ = 0 is x_t itself and leaves x_0 unknown; predict v or x0 with a "
    "zero-terminal-SNR schedule"
)


class Prediction(NamedTuple):
    """What a denoiser knows of x_t: the means E[x_0 | x_t] and E[ε | x_t], two ways to say it."""

    x0: Float[Tensor, " batch *shape"]
    eps: Float[Tensor, " batch *shape"]
    # Var[x_0 | x_t], for the optimal variance: by coordinate, or one number for all of them.
    x0_variance: Float[Tensor, "..."] | None = None
    # Where a learned log-variance lies between the small (0) and the large (1) one.
    between: Float[Tensor, " batch *shape"] | None = None


def diffuse(
    schedule: Schedule,
    x0: Float[Tensor, " batch *shape"],
    t: Level,
    eps: Float[Tensor, " batch *shape"],
) -> Float[Tensor, " batch *shape"]:
    """x_t for given noise, a draw of q(x_t | x_0) for normal noise (Ho et al. 2020, eq. 4)."""
    signal, noise = amplitudes(schedule, t, x0)
    return signal * x0 + noise * eps


def amplitudes(schedule: Schedule, t: Level, like: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t), shaped to multiply `like` and of its type."""
    alpha_bar = schedule.at(t)
    return against(alpha_bar.sqrt(), like), against((1 - alpha_bar).sqrt(), like)


def against(values: Tensor, like: Tensor) -> Tensor:
    """A number, or one for each example, with `like`'s type and axes to multiply it by."""
    shape = (-1,) + (1,) * (like.ndim - 1) if values.ndim else ()
    return values.to(like).reshape(shape)


def posterior_weights(
    schedule: Schedule, s: Level, t: Level
) -> tuple[Float64[Tensor, "*batch"], Float64[Tensor, "*batch"], Float64[Tensor, "*batch"]]:
    """The weights of x_0 and x_t in the mean of q(x_s | x_t, x_0), and its variance, for s < t.

    Ho et al. 2020, eqs. 6 and 7, with ᾱ_s, ᾱ_t and β_{t|s} = 1 − ᾱ_t/ᾱ_s in place of neighbours'.
    """
    at_s, at_t = schedule.at(s), schedule.at(t)
    beta = schedule.beta(s, t)
    of_x0 = at_s.sqrt() * beta / (1 - at_t)
    of_xt = (at_t / at_s).sqrt() * (1 - at_s) / (1 - at_t)
    return of_x0, of_xt, beta * (1 - at_s) / (1 - at_t)


def posterior(
    schedule: Schedule,
    x0: Float[Tensor, " batch *shape"],
    x_t: Float[Tensor, " batch *shape"],
    s: Level,
    t: Level,
) -> tuple[Float[Tensor, " batch *shape"], Tensor]:
    """Mean and variance of q(x_s | x_t, x_0); the variance is the same in all coordinates."""
    of_x0, of_xt, variance = posterior_weights(schedule, s, t)
    mean = against(of_x0, x0) * x0 + against(of_xt, x0) * x_t
    return mean, against(variance, x0)


def predict(
    schedule: Schedule,
    kind: Kind,
    output: Float[Tensor, " batch *shape"],
    x_t: Float[Tensor, " batch *shape"],
    t: Level,
) -> Prediction:
    """Both means from whichever of them, or of v, a network gives (Salimans & Ho 2022, appendix D).

    At level 0, where x_t is x_0 and tells nothing of the noise, the output is not looked at: the
    means are x_t and 0.

    Raises:
        ValueError: for ε at a level of pure noise, where it leaves x_0 unknown.
    """
    signal, noise = amplitudes(schedule, t, x_t)
    if kind == "eps":
        if (signal == 0).any():
            raise ValueError(_NOTHING_OF_X0)
        x0, eps = (x_t - noise * output) / signal, output
    elif kind == "x0":
        x0, eps = output, (x_t - signal * output) / torch.where(noise == 0, 1, noise)
    else:
        x0, eps = signal * x_t - noise * output, noise * x_t + signal * output
    clean = noise == 0
    return Prediction(torch.where(clean, x_t, x0), torch.where(clean, 0.0, eps))


def target(
    schedule: Schedule,
    kind: Kind,
    x0: Float[Tensor, " batch *shape"],
    eps: Float[Tensor, " batch *shape"],
    t: Level,
) -> Float[Tensor, " batch *shape"]:
    """What a network of this kind is trained to give."""
    if kind == "x0":
        return x0
    return eps if kind == "eps" else velocity(schedule, x0, eps, t)


def velocity(
    schedule: Schedule,
    x0: Float[Tensor, " batch *shape"],
    eps: Float[Tensor, " batch *shape"],
    t: Level,
) -> Float[Tensor, " batch *shape"]:
    """The derivative of x_t by the angle, √ᾱ ε − √(1 − ᾱ) x_0 (Salimans & Ho 2022, appendix D)."""
    signal, noise = amplitudes(schedule, t, x0)
    return signal * eps - noise * x0


def score(
    schedule: Schedule, eps: Float[Tensor, " batch *shape"], t: Level
) -> Float[Tensor, " batch *shape"]:
    """∇ log q(x_t) = −E[ε | x_t] / √(1 − ᾱ_t) (Song et al. 2021, score SDEs; Tweedie's formula).

    Raises:
        ValueError: at level 0, where the noise is 0 and says nothing of the score.
    """
    _, noise = amplitudes(schedule, t, eps)
    if (noise == 0).any():
        raise ValueError("the score at level 0 does not follow from the noise; take t from 1 up")
    return -eps / noise


def ddim_step(
    schedule: Schedule,
    x_t: Float[Tensor, " batch *shape"],
    prediction: Prediction,
    s: Level,
    t: Level,
    eta: NonNegativeFloat = 0.0,
    noise: Float[Tensor, " batch *shape"] | None = None,
) -> Float[Tensor, " batch *shape"]:
    """From level t to level s, upward or downward (Song et al. 2021, DDIM, eqs. 12 and 16).

    The deviation of the new noise is η √((1 − ᾱ_s)/(1 − ᾱ_t)) √(1 − ᾱ_t/ᾱ_s): none on the step to
    level 0. With η = 1 it is the ancestral step with the small variance.

    Raises:
        ValueError: for η > 0 without noise, or upward, or so large that no ε is left.
    """
    at_s = schedule.at(s)
    if eta == 0:
        signal, left = amplitudes(schedule, s, x_t)
        return signal * prediction.x0 + left * prediction.eps
    if noise is None:
        raise ValueError(f"eta={eta} draws noise; give it")
    added = _added(schedule, s, t, eta)
    kept = 1 - at_s - added
    kept = kept.clamp(min=0)  # rounding below 0
    return (
        against(at_s.sqrt(), x_t) * prediction.x0
        + against(kept.sqrt(), x_t) * prediction.eps
        + against(added.sqrt(), x_t) * noise
    )


def _added(schedule: Schedule, s: Level, t: Level, eta: float) -> Float64[Tensor, "*batch"]:
    """The variance of a DDIM step's new noise, if the step can be taken."""
    at_s, at_t = schedule.at(s), schedule.at(t)
    if not (at_s > at_t).all():
        raise ValueError("eta > 0 needs steps down, s < t; encode with eta = 0")
    added = eta**2 * posterior_weights(schedule, s, t)[2]
    left = 1 - at_s - added
    if (left < -1e-12).any():
        raise ValueError(
            f"eta={eta} adds more variance than level {s} has: 1 − ᾱ_s − σ² = "
            f"{left.min().item():.3g}; take a smaller eta"
        )
    return added


class StepWeights(NamedTuple):
    """x_s as a sum: these times x_t, a network's output and new noise."""

    of_x: float
    of_output: float
    of_noise: float


def ddim_weights(
    schedule: Schedule, kind: Kind, s: int, t: int, eta: NonNegativeFloat = 0.0
) -> StepWeights:
    """What `predict` and `ddim_step` do, both of them linear, multiplied out beforehand.

    Raises:
        ValueError: for ε at a level of pure noise; for η > 0 as `ddim_step`.
    """
    (signal, noise), (after, left) = schedule.amplitudes[t], schedule.amplitudes[s]
    added = 0.0
    if eta:
        variance = _added(schedule, s, t, eta)
        added, left = math.sqrt(variance), math.sqrt(max(0.0, left**2 - variance))
    if t == 0:  # where x_t is x_0, whatever the network says
        return StepWeights(after, 0.0, added)
    if kind == "v":
        return StepWeights(after * signal + left * noise, left * signal - after * noise, added)
    if kind == "x0":
        return StepWeights(left / noise, after - left / noise * signal, added)
    if signal == 0:
        raise ValueError(_NOTHING_OF_X0)
    return StepWeights(after / signal, left - after / signal * noise, added)


def ancestral_step(
    schedule: Schedule,
    x_t: Float[Tensor, " batch *shape"],
    prediction: Prediction,
    s: Level,
    t: Level,
    variance: Variance = "small",
    noise: Float[Tensor, " batch *shape"] | None = None,
) -> Float[Tensor, " batch *shape"]:
    """A draw from N(mean of q(x_s | x_t, x̂_0), variance) for s < t (Ho et al. 2020, algorithm 2).

    Without noise it is the mean.
    """
    mean, _ = posterior(schedule, prediction.x0, x_t, s, t)
    if noise is None:
        return mean
    return mean + step_variance(schedule, prediction, s, t, variance).sqrt() * noise


def step_variance(
    schedule: Schedule, prediction: Prediction, s: Level, t: Level, variance: Variance
) -> Float[Tensor, "..."]:
    """The variance of an ancestral step, ready to multiply examples.

    - `small`: that of q(x_s | x_t, x_0), exact if the data are one point (Ho et al. 2020, §3.2).
    - `large`: β_{t|s}, exact if they have unit variance (the same).
    - `optimal`: the small one, and what is not known of x_0 on top: exact whenever q(x_s | x_t) is
      Gaussian, and the best of all diagonal ones otherwise (Bao et al. 2022, eq. 8 and theorem 1).
    - `learned`: log-linear between small and large (Nichol & Dhariwal 2021, eq. 15).

    Raises:
        ValueError: when the prediction lacks what the variance needs.
    """
    like = prediction.x0
    of_x0, _, small = posterior_weights(schedule, s, t)
    if variance == "small":
        return against(small, like)
    if variance == "large":
        return against(schedule.beta(s, t), like)
    if variance == "optimal":
        if prediction.x0_variance is None:
            raise ValueError(
                "variance='optimal' needs Var[x_0 | x_t], which this denoiser does not say; an "
                "oracle does, and `estimate_x0_variance` finds it for a network"
            )
        return against(small, like) + against(of_x0, like).square() * prediction.x0_variance
    if prediction.between is None:
        raise ValueError(
            "variance='learned' needs a network that learned one: net.n_outputs=2 when training"
        )
    # At s = 0 the small variance is 0, which has no logarithm: the next level's stands in.
    floor = torch.where(small > 0, small, posterior_weights(schedule, 1, 2)[2])
    low, high = against(floor.log(), like), against(schedule.beta(s, t).log(), like)
    return torch.lerp(low.expand_as(like), high.expand_as(like), prediction.between).exp()
