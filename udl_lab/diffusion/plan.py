"""Which levels a sampler visits: an explicit list, walked in pairs (t, s); no stride is assumed."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch

from udl_lab.diffusion.schedule import Schedule
from udl_lab.ranges import Positive

Spacing = Literal["trailing", "leading", "linspace", "quadratic", "karras"]


@dataclass(frozen=True)
class StepPlan:
    """Levels t_0 > … > t_S = 0 of a schedule.

    Raises:
        ValueError: unless they fall strictly and end at 0, with at least one step.
    """

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or self.levels[-1] != 0:
            raise ValueError(f"levels {self.levels}: give at least one level above 0, and 0 last")
        for t, s in self:
            if s >= t:
                raise ValueError(
                    f"level {s} follows {t}: a plan visits no level twice and goes down; take "
                    "fewer steps"
                )

    def __len__(self) -> int:
        """S, the number of steps."""
        return len(self.levels) - 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The pairs (t, s): the level of a step's beginning, and that of its end."""
        return pairwise(self.levels)

    @property
    def start(self) -> int:
        """The level of the sampler's first input."""
        return self.levels[0]


def make_plan(schedule: Schedule, steps: Positive, spacing: Spacing = "trailing") -> StepPlan:
    """S levels of a schedule, and 0.

    - `trailing`: T, T − T/S, …, rounded (Lin et al. 2024, table 2). It starts at T.
    - `leading`: 1, 1 + ⌊T/S⌋, …, the default of much code (Ho et al. 2020's and DDIM's own). It
      does *not* start at T: see `prior_gap` for what that costs.
    - `linspace`: evenly from T to 1, rounded.
    - `quadratic`: T (i/S)², rounded (Song et al. 2021, appendix D.2); fine near the data.
    - `karras`: σ^(1/7) evenly from level T's to level 1's, rounded to the nearest level
      (Karras et al. 2022, eq. 5).

    Raises:
        ValueError: for more steps than levels, or so many that two would share a level.
    """
    if steps > schedule.n_steps:
        raise ValueError(
            f"{steps} steps over {schedule.n_steps} levels; take at most {schedule.n_steps}"
        )
    levels = _SPACINGS[spacing](schedule, steps)
    try:
        return StepPlan((*levels, 0))
    except ValueError as error:
        raise ValueError(f"{spacing} plan of {steps} steps: {error}") from error


def prior_gap(schedule: Schedule, start: int, second_moment: float = 1.0) -> float:
    """What starting from N(0, I) at a level costs at most, in nats per dimension.

    The mean of KL(q(x_t | x_0) ‖ N(0, I)) over the data, which is no less than the divergence of
    their marginal q(x_t): the prior term of the bound (Ho et al. 2020, eq. 5, L_T).

    Args:
        schedule: the schedule.
        start: the level of the sampler's first input.
        second_moment: E x_0², averaged over the dimensions; 1 for standardised data.
    """
    alpha_bar = float(schedule.at(start))
    return 0.5 * (alpha_bar * (second_moment - 1) - math.log1p(-alpha_bar))


def _trailing(schedule: Schedule, steps: int) -> list[int]:
    return [_round(schedule.n_steps * i / steps) for i in range(steps, 0, -1)]


def _leading(schedule: Schedule, steps: int) -> list[int]:
    stride = schedule.n_steps // steps
    return [1 + stride * i for i in reversed(range(steps))]


def _linspace(schedule: Schedule, steps: int) -> list[int]:
    last = schedule.n_steps
    if steps == 1:
        return [last]
    return [_round(1 + (last - 1) * i / (steps - 1)) for i in reversed(range(steps))]


def _quadratic(schedule: Schedule, steps: int) -> list[int]:
    return [_round(schedule.n_steps * i**2 / steps**2) for i in range(steps, 0, -1)]


def _karras(schedule: Schedule, steps: int) -> list[int]:
    sigma = schedule.sigma[1:]
    if sigma[-1].isinf():
        raise ValueError("the last level has infinite sigma (zero SNR); choose another spacing")
    rho = 7
    ends = sigma[[-1, 0]] ** (1 / rho)
    wanted = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, steps, dtype=torch.float64)) ** rho
    nearest = (sigma.log() - wanted.log().unsqueeze(1)).abs().argmin(1)
    return [1 + int(index) for index in nearest]


_SPACINGS: dict[str, Callable[[Schedule, int], Iterable[int]]] = {
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "quadratic": _quadratic,
    "karras": _karras,
}


def _round(level: float) -> int:
    """To the nearest whole level, halves upward (Python's own rounding goes to even numbers)."""
    return math.floor(level + 0.5)
