"""Which part of a sampler's error comes from what: one ingredient at a time is made perfect."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.plan import StepPlan
from udl_lab.diffusion.samplers import States, last
from udl_lab.diffusion.schedule import refine

Sampler = Callable[[Denoiser, StepPlan, Tensor], States]
"""A sampler whose options are settled: walk(denoiser, plan, x)."""


@dataclass(frozen=True)
class Budget:
    """Distances between samples and data, in the unit of the distance.

    `total` is that of the sampler as it is. Each share is what goes away when one ingredient alone
    is made perfect; a negative one says that errors cancelled. The shares need not add up to the
    total, nor need `perfect`, where all are perfect, be 0: it holds what no ingredient explains.
    """

    total: float
    prior_gap: float  # starting from q(x_T) in place of N(0, I)
    discretisation: float  # taking every level, each cut into parts
    score_error: float  # asking the oracle in place of the network
    float_error: float  # computing in double precision
    perfect: float


def error_budget(
    denoiser: Learned,
    oracle: Denoiser,
    walk: Sampler,
    plan: StepPlan,
    noise: Float[Tensor, " batch *shape"],
    true_start: Float[Tensor, " batch *shape"],
    distance: Callable[[Tensor], float],
    times: int = 10,
) -> Budget:
    """Take a sampler's error apart by substitution.

    Args:
        denoiser: the network's, in single precision.
        oracle: the data's law, with a dataclass's `schedule` like the network's.
        walk: the sampler.
        plan: its levels.
        noise: draws of N(0, I).
        true_start: as many draws of q(x_t) at the plan's first level.
        distance: from samples to data.
        times: each level is cut into so many where the plan is made fine.

    Raises:
        ValueError: when the two denoisers have different schedules.
    """
    if not torch.equal(denoiser.schedule.alpha_bar, oracle.schedule.alpha_bar):
        raise ValueError("the network's schedule and the oracle's differ; a budget needs one")
    exact = replace(denoiser, net=deepcopy(denoiser.net).double())
    fine = refine(denoiser.schedule, times)
    finer = replace(denoiser, schedule=fine, x0_variance=_refined(denoiser.x0_variance, times))
    finer_oracle = replace(cast(Any, oracle), schedule=fine)  # all denoisers are dataclasses
    fine_plan = StepPlan(tuple(range(times * plan.start, -1, -1)))

    def error(of: Denoiser, levels: StepPlan, x: Tensor) -> float:
        return distance(last(walk(of, levels, x)))

    single, double = noise.float(), noise.double()
    total = error(denoiser, plan, single)
    return Budget(
        total,
        total - error(denoiser, plan, true_start.float()),
        total - error(finer, fine_plan, single),
        total - error(oracle, plan, single),
        total - error(exact, plan, double),
        error(finer_oracle, fine_plan, true_start.double()),
    )


def _refined(table: Tensor | None, times: int) -> Tensor | None:
    """A table of levels, on straight lines between them."""
    if table is None:
        return None
    at = torch.arange(times * (len(table) - 1) + 1, device=table.device)
    below, above = at // times, -(-at // times)
    return torch.lerp(table[below], table[above], (at % times / times).to(table))
