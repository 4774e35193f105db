"""A bracket around log p(x): annealed importance sampling, forwards and backwards.

Chains walk from a density that can be sampled (the prior, or q) to p(z | x) through
log f_t = (1 - beta_t) log start + beta_t log p(x, z). Their weights give a bound from below (Neal
2001). Chains that walk back from an exact posterior sample give one from above (Grosse, Ghahramani
& Adams 2015); such a sample is at hand where x itself was drawn from the model.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.latent.hamiltonian import LogDensity, transition
from udl_lab.ranges import Positive


@dataclass(frozen=True)
class Path:
    """From where to where the chains walk, and how.

    Args:
        log_start: the density of the start, normalised: an error in its constant is one of log p.
        log_joint: log p(x, z) of each example.
        betas: from 0 to 1, rising; one move of Hamiltonian Monte Carlo is made at each but the
            first.
        steps: the length of a leapfrog step for each move and example, as `tuned_steps` finds it.
            It must not depend on the chains that are weighed with it.
        n_leapfrog: leapfrog steps per move.

    Raises:
        ValueError: for betas that do not rise from 0 to 1, or steps for another number of moves.
    """

    log_start: LogDensity
    log_joint: LogDensity
    betas: Float64[Tensor, " temperature"]
    steps: Float[Tensor, "move batch"]
    n_leapfrog: Positive = 10

    def __post_init__(self) -> None:
        rising = len(self.betas) > 1 and bool((self.betas.diff() > 0).all())
        if not rising or self.betas[0] != 0 or self.betas[-1] != 1:
            raise ValueError("betas must rise from 0 to 1; sigmoid_betas(n) makes such")
        if len(self.steps) != len(self.betas) - 1:
            raise ValueError(
                f"{len(self.steps)} step lengths for {len(self.betas) - 1} moves: one for each "
                "temperature but the first"
            )

    def at(self, t: int) -> LogDensity:
        """The log-density f_t, up to a constant."""
        beta = float(self.betas[t])
        return lambda z: (1 - beta) * self.log_start(z) + beta * self.log_joint(z)

    @torch.no_grad()
    def rise(self, z: Float[Tensor, "chain batch latent"]) -> Float64[Tensor, "chain batch"]:
        """What the weight gains per unit of beta: log p(x, z) - log start."""
        return (self.log_joint(z) - self.log_start(z)).double()


@dataclass(frozen=True)
class Chains:
    """Where the chains ended, with their weights."""

    z: Float[Tensor, "chain batch latent"]
    # Forwards, E[exp] is p(x); backwards, E[exp] is 1 / p(x).
    log_weights: Float64[Tensor, "chain batch"]
    acceptance: Float[Tensor, "move batch"]  # mean over chains


@dataclass(frozen=True)
class Bracket:
    """Bounds of log p(x) in nats, each holding on average over chains, not in each run."""

    lower: Float64[Tensor, " batch"]
    upper: Float64[Tensor, " batch"]


def sigmoid_betas(n: Positive, sharpness: float = 4.0) -> Float64[Tensor, " temperature"]:
    """Temperatures: 0 and n more, dense near both ends, where the density changes fastest.

    Grosse et al. 2015, section 5: sigmoid(sharpness * u), u uniform on [-1, 1], scaled to [0, 1].
    """
    raw = torch.linspace(-sharpness, sharpness, n + 1, dtype=torch.float64).sigmoid()
    betas = (raw - raw[0]) / (raw[-1] - raw[0])
    betas[-1] = 1  # exactly, whatever the division rounds to
    return betas


def forward(
    path: Path, start: Float[Tensor, "chain batch latent"], generator: torch.Generator
) -> Chains:
    """Annealed importance sampling: chains from the start's density to the posterior.

    Neal 2001, eqs. 9 to 11. The log of the mean weight is, on average, at most log p(x).

    Args:
        path: what the chains walk through.
        start: exact and independent samples of the start's density.
        generator: of momenta and acceptance, a CPU generator.
    """
    z, log_weights, acceptance = start, torch.zeros(start.shape[:2], dtype=torch.float64), []
    log_weights = log_weights.to(start.device)
    for t, gain in enumerate(path.betas.diff().tolist(), start=1):
        log_weights = log_weights + gain * path.rise(z)
        z, accepted = transition(path.at(t), z, path.steps[t - 1], path.n_leapfrog, generator)
        acceptance.append(accepted.mean(0))
    return Chains(z, log_weights, torch.stack(acceptance))


def backward(
    path: Path, exact: Float[Tensor, "chain batch latent"], generator: torch.Generator
) -> Chains:
    """The same chains reversed: from exact posterior samples to the start's density.

    Minus the log of the mean weight is, on average, at least log p(x).

    Args:
        path: as for the forward chains.
        exact: exact samples of p(z | x). Chains of one example may share theirs.
        generator: of momenta and acceptance, a CPU generator.
    """
    z, log_weights, acceptance = exact, torch.zeros(exact.shape[:2], dtype=torch.float64), []
    log_weights = log_weights.to(exact.device)
    gains = path.betas.diff().tolist()
    for t in range(len(gains), 0, -1):
        z, accepted = transition(path.at(t), z, path.steps[t - 1], path.n_leapfrog, generator)
        log_weights = log_weights - gains[t - 1] * path.rise(z)
        acceptance.append(accepted.mean(0))
    return Chains(z, log_weights, torch.stack(acceptance[::-1]))


def tuned_steps(
    path: Path,
    start: Float[Tensor, "chain batch latent"],
    generator: torch.Generator,
    target: float = 0.65,
) -> Float[Tensor, "move batch"]:
    """Step lengths for each temperature and example, from chains that are then thrown away.

    Each move's step is the last one's, a tenth longer or shorter as more or fewer than `target` of
    its moves were accepted. Steps tuned on the weighed chains themselves would spoil both bounds.

    Args:
        path: whose first step lengths to begin with; its others are not used.
        start: as for the forward chains, but other samples.
        generator: another stream than the weighed chains'.
        target: acceptance to aim at; 0.65 is the best for many dimensions (Neal 2011).
    """
    z, step, steps = start, path.steps[0].to(start), []
    for t in range(1, len(path.betas)):
        z, accepted = transition(path.at(t), z, step, path.n_leapfrog, generator)
        steps.append(step)
        step = torch.where(accepted.mean(0) > target, step * 1.1, step / 1.1)
    return torch.stack(steps)


def bracket(forwards: Chains, backwards: Chains) -> Bracket:
    """Both bounds of each example, from the means of its chains' weights."""
    lower = forwards.log_weights.logsumexp(0) - math.log(len(forwards.log_weights))
    upper = math.log(len(backwards.log_weights)) - backwards.log_weights.logsumexp(0)
    return Bracket(lower, upper)
