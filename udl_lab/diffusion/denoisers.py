"""Denoisers that know the truth: for simple laws E[x_0 | x_t] has a closed form at every level.

A denoiser is called with examples and their level and gives a `Prediction`. Wherever a trained
network may stand, one of these may stand as well; so the share of an error that is the network's
can be told from the rest.
"""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from udl_lab.diffusion.process import Kind, Prediction, amplitudes, predict
from udl_lab.diffusion.schedule import Level, Schedule
from udl_lab.ranges import NonNegative, Positive


@runtime_checkable
class Denoiser(Protocol):
    """What samplers, likelihoods and budgets need to know."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x: Float[Tensor, " batch *shape"], t: Level) -> Prediction: ...


@runtime_checkable
class Regressor(Denoiser, Protocol):
    """A denoiser that knows one of ε, x_0 and v, a network's or a table's, and derives the rest."""

    @property
    def kind(self) -> Kind: ...

    def output(
        self, x: Float[Tensor, " batch *shape"], t: Level
    ) -> Float[Tensor, " batch *shape"]: ...


@final
@dataclass(frozen=True)
class PointMass:
    """All data are one point: the sampler's last word is known from the first step."""

    schedule: Schedule
    point: Float[Tensor, " *shape"]

    def __call__(self, x: Float[Tensor, " batch *shape"], t: Level) -> Prediction:
        """The point, whatever x is."""
        x0 = self.point.to(x).expand_as(x)
        return predict(self.schedule, "x0", x0, x, t)._replace(x0_variance=torch.zeros_like(x))


@final
@dataclass(frozen=True)
class Gaussian:
    """Independent normal coordinates; one of variance 0 is known beforehand.

    Raises:
        ValueError: for a negative variance.
    """

    schedule: Schedule
    mean: Float[Tensor, " *shape"]
    variance: Float[Tensor, " *shape"]

    def __post_init__(self) -> None:
        if not (self.variance >= 0).all():
            raise ValueError(f"a variance of {self.variance.min().item()}; give none below 0")

    def __call__(self, x: Float[Tensor, " batch *shape"], t: Level) -> Prediction:
        """Linear in x: the conditional mean of two joint normal variables."""
        signal, noise = amplitudes(self.schedule, t, x)
        mean, variance = self.mean.to(x), self.variance.to(x)
        total = signal.square() * variance + noise.square()
        total = torch.where(total == 0, 1, total)  # variance 0, at level 0
        surprise = (x - signal * mean) / total
        return Prediction(
            mean + signal * variance * surprise,
            noise * surprise,
            (variance * noise.square() / total).expand_as(x),
        )


@final
@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of spherical normals, in any number of dimensions.

    Raises:
        ValueError: unless there are as many weights, means and variances, the weights are positive
            and sum to 1, and the variances are positive.
    """

    schedule: Schedule
    weights: Float[Tensor, " component"]
    means: Float[Tensor, "component dimension"]
    variances: Float[Tensor, " component"]

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.means) == len(self.variances):
            raise ValueError(
                f"{len(self.weights)} weights, {len(self.means)} means and {len(self.variances)} "
                "variances; give one of each for every component"
            )
        if not (self.weights > 0).all() or not math.isclose(self.weights.sum(), 1, abs_tol=1e-6):
            raise ValueError(f"weights {self.weights.tolist()} must be positive and sum to 1")
        if not (self.variances > 0).all():
            raise ValueError(f"variances {self.variances.tolist()} must be positive")

    def __call__(self, x: Float[Tensor, "batch dimension"], t: Level) -> Prediction:
        """The components' answers, weighed by how likely each of them made x."""
        signal, noise = amplitudes(self.schedule, t, x)
        means, variances = self.means.to(x), self.variances.to(x)
        total = signal.square() * variances + noise.square()  # batch component, or component
        apart = x.unsqueeze(1) - signal.reshape(-1, 1, 1) * means
        d = x.shape[1]
        logits = self.weights.to(x).log() - 0.5 * (apart.square().sum(2) / total + d * total.log())
        share = logits.softmax(1)
        surprise = apart / total.unsqueeze(-1)
        of_each = means + signal.reshape(-1, 1, 1) * variances.unsqueeze(-1) * surprise
        x0 = (share.unsqueeze(2) * of_each).sum(1)
        within = (share * variances * noise.square() / total).sum(1, keepdim=True)
        between = (share.unsqueeze(2) * (of_each - x0.unsqueeze(1)).square()).sum(1)
        eps = noise * (share.unsqueeze(2) * surprise).sum(1)
        return Prediction(x0, eps, within + between)

    def log_prob(
        self, x: Float[Tensor, "batch dimension"], t: Level = 0
    ) -> Float[Tensor, " batch"]:
        """The log-density of x_t in nats; the data's own at level 0."""
        signal, noise = amplitudes(self.schedule, t, x)
        total = signal.square() * self.variances.to(x) + noise.square()
        apart = x.unsqueeze(1) - signal.reshape(-1, 1, 1) * self.means.to(x)
        d = x.shape[1]
        of_each = -0.5 * (apart.square().sum(2) / total + d * (2 * math.pi * total).log())
        return (self.weights.to(x).log() + of_each).logsumexp(1)

    def sample(self, n: int, generator: torch.Generator) -> Float64[Tensor, "n dimension"]:
        """Draw from the data, in double precision."""
        component = torch.multinomial(self.weights.double(), n, True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], dtype=torch.float64, generator=generator)
        deviations = self.variances.double().sqrt()[component].unsqueeze(1)
        return self.means.double()[component] + deviations * noise


@final
@dataclass(frozen=True)
class Empirical:
    """A finite data set taken for the whole truth: a softmax over its examples.

    The perfect answer to the training loss. Every sample that it leads to is a training example.
    """

    schedule: Schedule
    data: Float[Tensor, " example *shape"]
    batch_size: Positive = 256  # rows whose distances to all examples are held at once

    def __call__(self, x: Float[Tensor, " batch *shape"], t: Level) -> Prediction:
        """The examples' mean, weighed by how likely each of them became x."""
        data = self.data.to(x).flatten(1)
        signal, noise = amplitudes(self.schedule, t, x)
        x0, variance = [], []
        levels = torch.stack(
            [
                signal.expand(len(x), *signal.shape[1:]).flatten(),
                noise.expand(len(x), *noise.shape[1:]).flatten(),
            ],
            1,
        )
        for rows, level in zip(
            x.flatten(1).split(self.batch_size), levels.split(self.batch_size), strict=True
        ):
            # The signal cannot be divided out where there is none: |x − √ᾱ y|², expanded.
            a, b = level[:, :1], level[:, 1:]
            fit = a * (rows @ data.T) - 0.5 * a.square() * data.square().sum(1)
            # Less the best, which at level 0 is divided by next to nothing and must stay finite.
            worse = fit - fit.amax(1, keepdim=True)
            share = (worse / b.square().clamp(min=torch.finfo(x.dtype).tiny)).softmax(1)
            mean = share @ data
            x0.append(mean)
            variance.append((share @ data.square() - mean.square()).clamp(min=0))
        found = torch.cat(x0).reshape_as(x)
        return predict(self.schedule, "x0", found, x, t)._replace(
            x0_variance=torch.cat(variance).reshape_as(x)
        )


@final
@dataclass(frozen=True)
class LocalPatch:
    """The empirical denoiser that sees, for each pixel, only the pixels around it.

    The local score machine of Kamb & Ganguli 2025, eq. 5: for each pixel a softmax over the
    training images' patches at the same place, their middle pixels averaged. It can put pieces of
    different images together, which the empirical denoiser never does.
    """

    schedule: Schedule
    data: Float[Tensor, "example channel height width"]
    radius: NonNegative  # pixels to each side of the middle one

    def __call__(self, x: Float[Tensor, "batch channel height width"], t: Level) -> Prediction:
        """Pixel by pixel, the mean over what the training images have there."""
        data = self.data.to(x)
        signal, noise = amplitudes(self.schedule, t, x)
        signal, noise = signal.expand(len(x), 1, 1, 1), noise.expand(len(x), 1, 1, 1)
        tiny = torch.finfo(x.dtype).tiny
        side = 2 * self.radius + 1
        found, spread = [], []
        for image, a, b in zip(x, signal, noise, strict=True):
            apart = (image - a * data).square().sum(1, keepdim=True)
            # Sums over windows; what lies outside the image adds nothing.
            around = side**2 * F.avg_pool2d(apart, side, 1, self.radius)
            worse = around - around.amin(0)  # at level 0 the best must stay finite
            share = (-0.5 * worse / b.square().clamp(min=tiny)).softmax(0)
            mean = (share * data).sum(0)
            found.append(mean)
            spread.append((share * (data - mean).square()).sum(0))
        return predict(self.schedule, "x0", torch.stack(found), x, t)._replace(
            x0_variance=torch.stack(spread)
        )


@final
@dataclass(frozen=True)
class Clipped:
    """A denoiser whose x̂_0 is kept inside a range, and whose ε̂ follows from that.

    Never the default: it changes the sampler's law, and unbounded data with it.

    Raises:
        ValueError: when the range is empty.
    """

    denoiser: Denoiser
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x: Float[Tensor, " batch *shape"], t: Level) -> Prediction:
        """The denoiser's answer, clipped."""
        answer = self.denoiser(x, t)
        clipped = predict(self.schedule, "x0", answer.x0.clamp(self.low, self.high), x, t)
        return answer._replace(x0=clipped.x0, eps=clipped.eps)
