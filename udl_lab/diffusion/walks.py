"""Samplers with their options settled, as a configuration or a table of results names them."""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.diffusion import samplers
from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.plan import Spacing, StepPlan, make_plan
from udl_lab.diffusion.process import Variance
from udl_lab.diffusion.samplers import States
from udl_lab.ranges import NonNegativeFloat, Positive


@runtime_checkable
class Walk(Protocol):
    """A sampler that lacks nothing but a denoiser and noise to start from."""

    @property
    def steps(self) -> Positive: ...

    @property
    def spacing(self) -> Spacing: ...

    @property
    def label(self) -> str:
        """Its name in tables: `ddim20_eta0`."""
        ...

    @property
    def random(self) -> bool:
        """Whether it draws noise on the way."""
        ...

    def along(
        self,
        denoiser: Denoiser,
        plan: StepPlan,
        x: Float[Tensor, " batch *shape"],
        generator: torch.Generator,
    ) -> States:
        """Walk a given plan."""
        ...


def walk(
    sampler: Walk,
    denoiser: Denoiser,
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator,
) -> States:
    """Walk the sampler's own plan down the denoiser's schedule.

    Args:
        sampler: which one.
        denoiser: what knows the data.
        x: noise at the plan's first level.
        generator: of the noise on the way, a CPU generator.

    Warns:
        PriorGapWarning: when the plan does not start at the schedule's last level.
    """
    return sampler.along(denoiser, _plan(sampler, denoiser), x, generator)


def end(
    sampler: Walk,
    denoiser: Denoiser,
    x: Float[Tensor, " batch *shape"],
    generator: torch.Generator,
) -> Float[Tensor, " batch *shape"]:
    """Where `walk` ends, by the shortest way there; without gradients.

    Warns:
        PriorGapWarning: as `walk`.
    """
    plan = _plan(sampler, denoiser)
    if isinstance(sampler, DDIM):
        return samplers.ddim_end(denoiser, plan, x, generator, sampler.eta)
    if isinstance(sampler, DDPM):
        options = sampler.variance, sampler.keep_last_noise
        return samplers.ddpm_end(denoiser, plan, x, generator, *options)
    return samplers.last(sampler.along(denoiser, plan, x, generator))


def suits_oracles(sampler: Walk) -> bool:
    """Whether an exact denoiser can be walked with; not where the network says the variance."""
    return not (isinstance(sampler, DDPM) and sampler.variance == "learned")


def _plan(sampler: Walk, denoiser: Denoiser) -> StepPlan:
    plan = make_plan(denoiser.schedule, sampler.steps, sampler.spacing)
    samplers.warn_of_prior_gap(denoiser, plan)
    return plan


@final
@dataclass(frozen=True)
class DDIM:
    """See `samplers.ddim`."""

    steps: Positive = 20
    eta: NonNegativeFloat = 0.0
    spacing: Spacing = "trailing"

    @property
    def label(self) -> str:
        return f"ddim{self.steps}_eta{self.eta:g}{_other(self.spacing)}"

    @property
    def random(self) -> bool:
        return self.eta > 0

    def along(
        self,
        denoiser: Denoiser,
        plan: StepPlan,
        x: Float[Tensor, " batch *shape"],
        generator: torch.Generator,
    ) -> States:
        """Walk a given plan."""
        return samplers.ddim(denoiser, plan, x, generator, self.eta)


@final
@dataclass(frozen=True)
class DDPM:
    """See `samplers.ddpm`."""

    steps: Positive = 1000
    variance: Variance = "small"
    keep_last_noise: bool = False
    spacing: Spacing = "trailing"

    @property
    def label(self) -> str:
        noisy = "_noisy" if self.keep_last_noise else ""
        return f"ddpm{self.steps}_{self.variance}{noisy}{_other(self.spacing)}"

    @property
    def random(self) -> bool:
        return True

    def along(
        self,
        denoiser: Denoiser,
        plan: StepPlan,
        x: Float[Tensor, " batch *shape"],
        generator: torch.Generator,
    ) -> States:
        """Walk a given plan."""
        return samplers.ddpm(denoiser, plan, x, generator, self.variance, self.keep_last_noise)


@final
@dataclass(frozen=True)
class Heun:
    """See `samplers.heun`."""

    steps: Positive = 20
    spacing: Spacing = "karras"

    @property
    def label(self) -> str:
        return f"heun{self.steps}{_other(self.spacing, 'karras')}"

    @property
    def random(self) -> bool:
        return False

    def along(
        self,
        denoiser: Denoiser,
        plan: StepPlan,
        x: Float[Tensor, " batch *shape"],
        generator: torch.Generator,
    ) -> States:
        """Walk a given plan."""
        return samplers.heun(denoiser, plan, x)


def _other(spacing: Spacing, usual: Spacing = "trailing") -> str:
    return "" if spacing == usual else f"_{spacing}"
