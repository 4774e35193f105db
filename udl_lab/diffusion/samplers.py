"""Samplers: walks down a plan that yield every state on the way.

Each is a generator function over a denoiser, a network's or an oracle's. `last` walks to the end;
`Trajectory.record` keeps what was passed. Noise is drawn on the CPU for all examples of a step at
once, so the samples do not depend on how a network splits them into batches.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.diffusion.denoisers import Denoiser, Regressor
from udl_lab.diffusion.plan import StepPlan, prior_gap
from udl_lab.diffusion.process import (
    Prediction,
    StepWeights,
    Variance,
    ancestral_step,
    ddim_step,
    ddim_weights,
)
from udl_lab.ranges import NonNegativeFloat


class State(NamedTuple):
    """Where a walk stands, and what the denoiser says there (`None` at the end)."""

    t: int
    x: Float[Tensor, " batch *shape"]
    prediction: Prediction | None


States = Iterator[State]


class PriorGapWarning(UserWarning):
    """A walk starts from noise at a level that is not pure noise."""


def draw_prior(
    n: int, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " n *shape"]:
    """Standard normal noise to start from, on the CPU."""
    return torch.randn(n, *shape, generator=generator, dtype=dtype)


def ddpm(
    denoiser: Denoiser,
    plan: StepPlan,
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator,
    variance: Variance = "small",
    keep_last_noise: bool = False,
) -> States:
    """Ancestral sampling over any plan (Ho et al. 2020, algorithm 2).

    Args:
        denoiser: what knows the data.
        plan: the levels.
        x: noise at the plan's first level.
        generator: a CPU generator; every step draws from it.
        variance: see `process.step_variance`.
        keep_last_noise: whether noise is added on the step to level 0 as well. Usual practice, and
            the default, is not; the walk is exact for Gaussian data only with it.
    """
    for t, s in plan:
        prediction = denoiser(x, t)
        yield State(t, x, prediction)
        noise = _noise(x, generator) if s > 0 or keep_last_noise else None
        x = ancestral_step(denoiser.schedule, x, prediction, s, t, variance, noise)
    yield State(0, x, None)


def ddim(
    denoiser: Denoiser,
    plan: StepPlan,
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator | None = None,
    eta: NonNegativeFloat = 0.0,
) -> States:
    """From deterministic (η = 0) to ancestral (η = 1) (Song et al. 2021, DDIM, eq. 12).

    Raises:
        ValueError: for η > 0 without a generator.
    """
    if eta > 0 and generator is None:
        raise ValueError(f"ddim with eta={eta} draws noise; give a generator")
    for t, s in plan:
        prediction = denoiser(x, t)
        yield State(t, x, prediction)
        noise = _noise(x, generator) if generator is not None and eta > 0 else None
        x = ddim_step(denoiser.schedule, x, prediction, s, t, eta, noise)
    yield State(0, x, None)


def ddim_end(
    denoiser: Denoiser,
    plan: StepPlan,
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator | None = None,
    eta: NonNegativeFloat = 0.0,
) -> Float[Tensor, " batch *shape"]:
    """Where `ddim` ends, by two or three products a step if the denoiser is a `Regressor`.

    Equal to the walk up to rounding; without gradients.
    """
    if not isinstance(denoiser, Regressor) or (eta > 0 and generator is None):
        return last(ddim(denoiser, plan, x, generator, eta))
    weights = ((t, ddim_weights(denoiser.schedule, denoiser.kind, s, t, eta)) for t, s in plan)
    return _end_by_weights(denoiser, weights, x, generator)


def ddpm_end(
    denoiser: Denoiser,
    plan: StepPlan,
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator,
    variance: Variance = "small",
    keep_last_noise: bool = False,
) -> Float[Tensor, " batch *shape"]:
    """Where `ddpm` ends, by three products a step if the variance is known beforehand.

    The mean of an ancestral step is that of DDIM with η = 1, whatever the variance.
    """
    if not isinstance(denoiser, Regressor) or variance not in ("small", "large"):
        return last(ddpm(denoiser, plan, x, generator, variance, keep_last_noise))

    def weights(s: int, t: int) -> StepWeights:
        small = ddim_weights(denoiser.schedule, denoiser.kind, s, t, 1.0)
        if s == 0 and not keep_last_noise:
            return small._replace(of_noise=0.0)
        if variance == "large":
            return small._replace(of_noise=float(denoiser.schedule.beta(s, t)) ** 0.5)
        return small

    return _end_by_weights(denoiser, ((t, weights(s, t)) for t, s in plan), x, generator)


def _end_by_weights(
    denoiser: Regressor,
    weights: Iterable[tuple[int, StepWeights]],
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator | None,
) -> Float[Tensor, " batch *shape"]:
    """Where a walk ends whose every step, from a level, is a weighted sum."""
    with torch.no_grad():
        for t, step in weights:
            x = (step.of_x * x).add_(denoiser.output(x, t), alpha=step.of_output)
            if generator is not None and step.of_noise:
                x.add_(_noise(x, generator), alpha=step.of_noise)
    return x


def heun(denoiser: Denoiser, plan: StepPlan, x: Float[Tensor, " batch *shape"]) -> States:
    """The probability flow by Heun's second-order rule (Karras et al. 2022, algorithm 1).

    In σ = √((1 − ᾱ)/ᾱ) and x̄ = x/√ᾱ the flow is dx̄/dσ = ε̂, of which a DDIM step is Euler's. This
    one takes the mean of ε̂ at both ends of the step; on the step to level 0 it stays Euler's. Two
    calls of the denoiser a step, one on the last.

    Raises:
        ValueError: when the plan starts where ᾱ = 0, and σ is infinite.
    """
    schedule = denoiser.schedule
    if schedule.at(plan.start) == 0:
        raise ValueError(
            f"σ is infinite at level {plan.start} of this schedule; start heun below it"
        )
    for t, s in plan:
        prediction = denoiser(x, t)
        yield State(t, x, prediction)
        forward = ddim_step(schedule, x, prediction, s, t)
        if s > 0:
            mean = (prediction.eps + denoiser(forward, s).eps) / 2
            signal = schedule.at(s).sqrt().item()
            forward = forward + signal * (schedule.sigma[s] - schedule.sigma[t]).item() * (
                mean - prediction.eps
            )
        x = forward
    yield State(0, x, None)


def encode(denoiser: Denoiser, plan: StepPlan, x0: Float[Tensor, " batch *shape"]) -> States:
    """The noise that a deterministic walk down the plan leads to x_0, nearly (DDIM, §4.3 and 5.4).

    The plan is walked upward, each step with what the denoiser says where the step begins; a step
    down asks where *it* begins, so going up and down again is exact only for infinitely fine plans.
    """
    x = x0
    for t, s in reversed(list(plan)):
        prediction = denoiser(x, s)
        yield State(s, x, prediction)
        x = ddim_step(denoiser.schedule, x, prediction, t, s)
    yield State(plan.start, x, None)


def last(states: States) -> Float[Tensor, " batch *shape"]:
    """The examples at the end of a walk, which is taken without gradients."""
    with torch.no_grad():
        *_, state = states
    return state.x


def warn_of_prior_gap(denoiser: Denoiser, plan: StepPlan) -> None:
    """Warn where a plan does not start at the schedule's last level, and say what that may cost."""
    schedule = denoiser.schedule
    if plan.start < schedule.n_steps:
        here, there = (prior_gap(schedule, t) for t in (plan.start, schedule.n_steps))
        warnings.warn(
            f"the plan starts at level {plan.start} and not at {schedule.n_steps}: starting from "
            f"N(0, I) there costs up to {here:.3g} nats per dimension (standardised data), and "
            f"{there:.3g} at level {schedule.n_steps}",
            PriorGapWarning,
            stacklevel=2,
        )


@dataclass(frozen=True)
class Trajectory:
    """A recorded walk: all of its states, the noisiest first. Predictions end a state earlier."""

    levels: tuple[int, ...]
    x: Float[Tensor, "state batch *shape"]
    x0: Float[Tensor, "step batch *shape"]
    eps: Float[Tensor, "step batch *shape"]

    @classmethod
    def record(cls, states: States) -> "Trajectory":
        """Walk to the end, without gradients, and keep everything."""
        with torch.no_grad():
            walked = list(states)
            said = [state.prediction for state in walked if state.prediction is not None]
            return cls(
                tuple(state.t for state in walked),
                torch.stack([state.x for state in walked]),
                torch.stack([prediction.x0 for prediction in said]),
                torch.stack([prediction.eps for prediction in said]),
            )


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """The same in either precision, so that a network and its oracle meet the same noise.

    Single, which is drawn five times as fast.
    """
    return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)


def lerp(
    a: Float[Tensor, " batch *shape"], b: Float[Tensor, " batch *shape"], share: float
) -> Float[Tensor, " batch *shape"]:
    """(1 − λ) a + λ b. Of independent noise its variance is (1 − λ)² + λ², which is below 1."""
    return torch.lerp(a, b, share)


def slerp(
    a: Float[Tensor, " batch *shape"], b: Float[Tensor, " batch *shape"], share: float
) -> Float[Tensor, " batch *shape"]:
    """Along the great circle from a to b, row by row (Shoemake 1985; DDIM, eq. 67).

    Of two high-dimensional normal draws it is nearly normal again at every λ.
    """
    flat_a, flat_b = a.flatten(1).double(), b.flatten(1).double()
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b)
    angle = cosine.clamp(-1, 1).acos().unsqueeze(1)
    # The same direction, or opposite ones: no circle is singled out. The arccosine of a rounded 1
    # is up to 3e-8, and single precision's own directions are no better than 1e-7.
    straight = angle.sin() < 1e-6
    safe = torch.where(straight, 1.0, angle)
    of_a = torch.where(straight, 1.0 - share, ((1 - share) * safe).sin() / safe.sin())
    of_b = torch.where(straight, share, (share * safe).sin() / safe.sin())
    return (of_a * flat_a + of_b * flat_b).to(a).reshape_as(a)
