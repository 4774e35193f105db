"""Noise schedules: the share of the signal's variance that is left at every level.

Level 0 is clean data and level T the noisiest, x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε. One table holds it
all, in double precision; nothing else is stored, so nothing can be off by one against it.

| here           | Ho et al. 2020 | Song et al. 2021 (DDIM) | Prince 2023 (UDL) |
| -------------- | -------------- | ----------------------- | ----------------- |
| `alpha_bar[t]` | ᾱ_t            | α_t                     | α_t               |

Often an angle φ says it best: √ᾱ = cos φ and √(1 − ᾱ) = sin φ, from 0 (data) to π/2 (noise).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.ranges import Positive, PositiveFloat, Probability

Level = int | float | Tensor
"""A level of a schedule, for all examples or for each; between whole levels the angle is linear."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """A table ᾱ of levels 0 … T.

    Raises:
        ValueError: unless ᾱ_0 = 1 and ᾱ falls strictly to a last value from 0 up.
    """

    alpha_bar: Float64[Tensor, " levels"]
    name: str = "custom"

    def __post_init__(self) -> None:
        table = self.alpha_bar
        if table.dtype != torch.float64:
            raise ValueError(f"alpha_bar is {table.dtype}; give it in float64")
        if table.ndim != 1 or len(table) < 2:
            raise ValueError(f"alpha_bar has shape {tuple(table.shape)}; give levels 0 to T, T > 0")
        if table[0] != 1:
            raise ValueError(f"alpha_bar[0] is {table[0].item()}; level 0 is clean data, 1")
        falls = table[1:] < table[:-1]  # False for what is not a number
        if not falls.all() or table[-1] < 0:
            t = 1 + int(falls.logical_not().nonzero()[0]) if not falls.all() else len(table) - 1
            raise ValueError(
                f"alpha_bar[{t}] = {table[t].item()} after {table[t - 1].item()}; it must fall at "
                "every level and stay from 0 up"
            )

    @property
    def n_steps(self) -> int:
        """T, the noisiest level."""
        return len(self.alpha_bar) - 1

    @cached_property
    def amplitudes(self) -> list[tuple[float, float]]:
        """√ᾱ_t and √(1 − ᾱ_t) as plain numbers, of every level: quick to look up."""
        return [(math.sqrt(a), math.sqrt(1 - a)) for a in self.alpha_bar.tolist()]

    @cached_property
    def angle(self) -> Float64[Tensor, " levels"]:
        """φ_t = arctan √((1 − ᾱ_t) / ᾱ_t), in radians."""
        return torch.atan2((1 - self.alpha_bar).sqrt(), self.alpha_bar.sqrt())

    @cached_property
    def snr(self) -> Float64[Tensor, " levels"]:
        """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t), infinite at level 0 (Kingma et al. 2021)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def sigma(self) -> Float64[Tensor, " levels"]:
        """The noise beside an unscaled signal, √((1 − ᾱ_t) / ᾱ_t) (Karras et al. 2022's σ)."""
        return ((1 - self.alpha_bar) / self.alpha_bar).sqrt()

    def at(self, t: Level) -> Float64[Tensor, "*batch"]:
        """ᾱ at whole levels from the table, between them on a straight line of the angle.

        Raises:
            ValueError: for a level outside 0 … T.
        """
        # torch would make a plain float single precision
        t = torch.as_tensor(t, dtype=torch.float64 if isinstance(t, float) else None)
        if t.numel() and not (0 <= t.min() and t.max() <= self.n_steps):
            outside = t.min() if t.min() < 0 else t.max()
            raise ValueError(f"level {outside.item()} is not between 0 and T = {self.n_steps}")
        table = self.alpha_bar.to(t.device)
        if not t.is_floating_point():
            return table[t]
        t = t.double()
        below = t.floor().long().clamp(max=self.n_steps - 1)
        angles = self.angle.to(t.device)
        between = torch.lerp(angles[below], angles[below + 1], t - below).cos().square()
        return torch.where(t == t.round(), table[t.round().long()], between)

    def beta(self, s: Level, t: Level) -> Float64[Tensor, "*batch"]:
        """The variance that the steps from level s to level t > s add, 1 − ᾱ_t / ᾱ_s."""
        return 1 - self.at(t) / self.at(s)


def from_betas(betas: Float[Tensor, " step"], name: str = "custom") -> Schedule:
    """The schedule with β_t = 1 − ᾱ_t / ᾱ_{t−1}, t = 1 … T (Ho et al. 2020, eq. 4).

    Raises:
        ValueError: for a β outside (0, 1): from β = 1 on nothing of the data is left.
    """
    betas = betas.double()
    inside = (betas > 0) & (betas < 1)
    if not inside.all():
        t = int(inside.logical_not().nonzero()[0])
        raise ValueError(
            f"{name} schedule of {len(betas)} steps: beta at step {t + 1} is "
            f"{betas[t].item():.4g}, which is not between 0 and 1; use more steps or smaller betas"
        )
    return Schedule(torch.cat([torch.ones(1).double(), (1 - betas).cumprod(0)]), name)


def linear(
    n_steps: Positive,
    first: PositiveFloat = 1e-4,
    last: PositiveFloat = 0.02,
    rescaled: bool = True,
) -> Schedule:
    """Betas on a straight line (Ho et al. 2020, §4: 1e-4 to .02 over 1,000 steps).

    Args:
        n_steps: T.
        first: β_1 of a schedule of 1,000 steps.
        last: β_T of a schedule of 1,000 steps.
        rescaled: multiply the betas by 1000 / T, so that ᾱ_T is about the same for every T. Without
            it a short schedule ends far from noise: ᾱ_T is .82 at T = 20.
    """
    scale = 1000 / n_steps if rescaled else 1.0
    return from_betas(scale * _line(first, last, n_steps), "linear")


def scaled_linear(
    n_steps: Positive,
    first: PositiveFloat = 0.00085,
    last: PositiveFloat = 0.012,
    rescaled: bool = True,
) -> Schedule:
    """Betas whose square roots lie on a straight line (Rombach et al. 2022, their code).

    The arguments are those of `linear`.
    """
    scale = 1000 / n_steps if rescaled else 1.0
    roots = _line(math.sqrt(first), math.sqrt(last), n_steps)
    return from_betas(scale * roots.square(), "scaled_linear")


def constant(n_steps: Positive, beta: Probability) -> Schedule:
    """The same β at every step, the book's (Prince 2023, notebook 18.2: T = 100, β = .01511)."""
    return from_betas(torch.full((n_steps,), beta, dtype=torch.float64), "constant")


def cosine(
    n_steps: Positive, offset: PositiveFloat = 0.008, largest_beta: Probability = 0.999
) -> Schedule:
    """ᾱ ∝ cos²(½π (t/T + s) / (1 + s)), each β at most .999 (Nichol & Dhariwal 2021, eq. 17)."""
    u = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)
    return _with_largest_beta(
        ((u + offset) / (1 + offset) * math.pi / 2).cos().square(), largest_beta, "cosine"
    )


def sigmoid(
    n_steps: Positive,
    start: float = -3.0,
    end: float = 3.0,
    tau: PositiveFloat = 1.0,
    largest_beta: Probability = 0.999,
) -> Schedule:
    """ᾱ falls from 1 as a piece of a sigmoid (Jabri et al. 2023, algorithm 1), each β at most .999.

    Raises:
        ValueError: when the piece does not rise from start to end.
    """
    if not start < end:
        raise ValueError(f"sigmoid schedule: start={start} must be below end={end}")
    u = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)
    height = ((start + u * (end - start)) / tau).sigmoid()
    left = (height[-1] - height) / (height[-1] - height[0])
    return _with_largest_beta(left, largest_beta, "sigmoid")


def angle_uniform(n_steps: Positive) -> Schedule:
    """φ_t = ½π t/T: equal steps of the angle, ending in pure noise, ᾱ_T = 0.

    With data of unit variance, DDIM of S of these steps ends with the standard deviation
    cos(π/2S)^S.
    """
    angle = torch.linspace(0, math.pi / 2, n_steps + 1, dtype=torch.float64)
    alpha_bar = angle.cos().square()
    alpha_bar[-1] = 0  # the cosine of the nearest double to π/2 is 6e-17
    return Schedule(alpha_bar, "angle_uniform")


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule with √ᾱ shifted and stretched so that ᾱ_T = 0 (Lin et al. 2024, algorithm 1).

    Level 1 keeps its ᾱ. The noise cannot tell the data at level T: predict v or x_0, not ε.

    Raises:
        ValueError: for a schedule of one level, which cannot both keep and lose its ᾱ.
    """
    if schedule.n_steps < 2:
        raise ValueError("a schedule of 1 level has nothing to stretch; take n_steps >= 2")
    root = schedule.alpha_bar.sqrt()
    stretched = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1])
    return Schedule(torch.cat([root[:1], stretched]).square(), f"{schedule.name}_zero_snr")


def refine(schedule: Schedule, times: Positive) -> Schedule:
    """The schedule with each step cut into equal parts of its angle: a finer walk to the same end.

    Level t becomes `times` · t, the same share of T, so a denoiser of shares can serve both.
    """
    t = torch.arange(times * schedule.n_steps + 1, dtype=torch.float64) / times
    return Schedule(schedule.at(t), f"{schedule.name}_x{times}")


def _line(first: float, last: float, n: int) -> Float64[Tensor, " n"]:
    # The only step of a schedule of one is its last.
    return torch.linspace(last if n == 1 else first, last, n, dtype=torch.float64)


def _with_largest_beta(
    alpha_bar: Float64[Tensor, " levels"], largest_beta: float, name: str
) -> Schedule:
    betas = 1 - alpha_bar[1:] / alpha_bar[:-1]
    return from_betas(betas.clamp(max=largest_beta), name)
