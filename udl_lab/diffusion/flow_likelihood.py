"""The density of the probability flow: the likelihood of the deterministic sampler."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.integrate import solve_ivp
from torch import Tensor

from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.process import velocity
from udl_lab.ranges import PositiveFloat


@dataclass(frozen=True)
class FlowDensity:
    """Log-densities by the probability flow, in nats per example."""

    log_prob: Float64[Tensor, " batch"]
    # Of the trace's random probes; 0 where the trace is exact.
    standard_error: Float64[Tensor, " batch"]
    noise: Float64[Tensor, " batch *shape"]  # where each example is carried to
    n_calls: int  # of the denoiser, all examples at once


def flow_log_prob(
    denoiser: Denoiser,
    x: Float[Tensor, " batch *shape"],
    start: int | float = 0,
    trace: Literal["exact"] | int = "exact",
    generator: torch.Generator | None = None,
    tolerance: PositiveFloat = 1e-8,
) -> FlowDensity:
    """The log-density of what DDIM would sample with infinitely many steps.

    Song et al. 2021 (score SDEs), eq. 39. By the angle φ of the level the flow is dx/dφ = v̂(x, φ),
    and log p falls along it at the rate of its divergence, down to that of N(0, I) at level T.
    Between whole levels the schedule's angle is linear and the denoiser is asked at real levels.
    scipy chooses the steps, by a rule of order 8 for small tolerances and of order 5 for others: a
    network is not smooth enough for the first to be worth its twelve calls a step.

    Args:
        denoiser: what knows the data; differentiable.
        x: examples at level `start`; computed in double precision.
        start: the level of x. An oracle of a density may start at 0. A network never saw levels
            under 1: give it examples of level 1.
        trace: "exact" takes one derivative per dimension; a number takes so many random ±1 probes
            instead (Hutchinson), each fixed along the flow, at a standard error.
        generator: of the probes, a CPU generator.
        tolerance: absolute and relative, of the integration.

    Raises:
        ValueError: for probes without a generator, or fewer than 2 of them; when the denoiser gives
            what is not finite, or the tolerance cannot be met.
    """
    shape, n = x.shape, len(x)
    d = math.prod(shape[1:])
    if trace == "exact":
        probes = torch.eye(d, dtype=torch.float64).reshape(d, 1, *shape[1:]).expand(d, *shape)
    elif generator is None or trace < 2:
        raise ValueError(f"trace={trace}: give 2 or more probes and a generator for them")
    else:
        signs = torch.randint(0, 2, (trace, *shape), generator=generator, dtype=torch.float64)
        probes = 2 * signs - 1
    schedule = denoiser.schedule
    calls = 0

    def slope(angle: float, state: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        at = torch.from_numpy(state[: n * d].copy()).reshape(shape).requires_grad_()
        t = _level_of(schedule.angle, angle)
        with torch.enable_grad():
            answer = denoiser(at, t)
            v = velocity(schedule, answer.x0, answer.eps, t)
            along = [
                torch.autograd.grad(v, at, probe.contiguous(), retain_graph=True)[0] * probe
                for probe in probes
            ]
        divergences = torch.stack(along).flatten(2).sum(2)
        slopes = torch.cat([v.detach().reshape(-1), divergences.reshape(-1)])
        if not slopes.isfinite().all():  # scipy would try ever smaller steps, without end
            raise ValueError(
                f"the denoiser's answer at level {t:.4g}, or its derivative, is not finite"
            )
        return slopes.numpy()

    begin = torch.cat([x.double().reshape(-1), torch.zeros(len(probes) * n).double()]).numpy()
    ends = (float(torch.acos(schedule.at(float(start)).sqrt())), float(schedule.angle[-1]))
    rule = "DOP853" if tolerance < 1e-5 else "RK45"
    solved = solve_ivp(slope, ends, begin, rule, rtol=tolerance, atol=tolerance)
    if not solved.success:
        raise ValueError(
            f"the flow cannot be followed with tolerance={tolerance}, take a larger one: "
            f"{solved.message}"
        )
    final = torch.from_numpy(solved.y[:, -1])
    noise = final[: n * d].reshape(shape)
    divergences = final[n * d :].reshape(len(probes), n)
    at_end = -0.5 * (noise.square().flatten(1).sum(1) + d * math.log(2 * math.pi))
    if trace == "exact":
        return FlowDensity(at_end + divergences.sum(0), torch.zeros(n).double(), noise, calls)
    error = divergences.std(0) / math.sqrt(trace)
    return FlowDensity(at_end + divergences.mean(0), error, noise, calls)


def _level_of(angles: Float64[Tensor, " levels"], angle: float) -> float:
    """The real level at which the interpolated schedule has an angle."""
    return float(np.interp(angle, angles.numpy(), np.arange(len(angles), dtype=float)))
