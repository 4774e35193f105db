"""Monte Carlo against importance sampling on the line, beside the truth (UDL, notebook 17.3).

The mean of f(y) for y ~ p = N(0, 1), from draws of p or of another density q, weighted by p/q. All
variances are of single draws; a mean of n draws has 1/n of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from udl_lab.closed_form.moments import Moments

_PER_WIDTH = 32  # points of the trapezoidal rule per narrowest width: rounding is all that is left
_REACH = 10  # widths of every density that the first interval covers
_EMPTY = 1e-20  # of the largest value: what the integrand may be at the interval's ends
_MOST_POINTS = 2**22


@final
@dataclass(frozen=True)
class Normal:
    """N(mean, std²) on the line."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.std < math.inf and math.isfinite(self.mean)):
            raise ValueError(
                f"Normal(mean={self.mean}, std={self.std}): give a finite mean and a std above 0"
            )

    def sample(self, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
        return self.mean + self.std * eps

    def log_prob(self, y: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
        eps = (y - self.mean) / self.std
        return -eps.square() / 2 - math.log(self.std * math.sqrt(2 * math.pi))


P = Normal()


@final
@dataclass(frozen=True)
class Bump:
    """f(y) = height exp(-rate (y - centre)^power), with power 2 or 4; rate 0 is a constant."""

    height: float
    centre: float
    rate: float = 1.0
    power: Literal[2, 4] = 4

    def __post_init__(self) -> None:
        if not (0 < self.height < math.inf and 0 <= self.rate < math.inf):
            raise ValueError(f"{self}: give a height above 0 and a rate of at least 0")

    def __call__(self, y: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
        return self.log(y).exp()

    def log(self, y: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
        return math.log(self.height) - self.rate * (y - self.centre) ** self.power

    @property
    def width(self) -> float:
        return math.inf if self.rate == 0 else self.rate ** (-1 / self.power)


COMMON = Bump(1.0, 1.0)  # the notebook's f
RARE = Bump(20.446, 3.0)  # its f₂: nearly the same mean, from where p seldom goes
ONE = Bump(1.0, 0.0, rate=0.0)  # f = 1: the weights p/q themselves


@final
@dataclass(frozen=True)
class Best:
    """The density f p / E[f]: the best q for a positive f, whose every draw is E[f] itself.

    To know it is to know E[f], so it is a check and not a method.
    """

    f: Bump

    @property
    def normaliser(self) -> float:
        return _normaliser(self.f)

    def log_prob(self, y: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
        return self.f.log(y) + P.log_prob(y) - math.log(self.normaliser)

    def matched_normal(self) -> Normal:
        """The normal density with the same mean and standard deviation: one that can be drawn."""
        mean = _integral(lambda y: y * self.log_prob(y).exp(), self.f)
        variance = _integral(lambda y: (y - mean).square() * self.log_prob(y).exp(), self.f)
        return Normal(mean, math.sqrt(variance))


def plain(f: Bump, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """Draws of f(y) with y = eps from N(0, 1)."""
    return f(P.sample(eps))


def importance_sampled(f: Bump, q: Normal, eps: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """Draws of f(y) p(y) / q(y) with y from q, whose mean is that of `plain`."""
    return weighted(f, q, q.sample(eps))


def weighted(f: Bump, q: Normal | Best, y: Float[Tensor, "*draw"]) -> Float[Tensor, "*draw"]:
    """f(y) p(y) / q(y), divided in logarithms: far from p and q both densities round to 0."""
    return (f.log(y) + P.log_prob(y) - q.log_prob(y)).exp()


def smallest_std(f: Bump, moment: int = 2) -> float:
    """The std that a normal q has to exceed for the moment (2: the variance) to be finite.

    If f falls as e^{-a y²} (a: the rate for power 2, 0 for a constant), moment k is the integral of
    (f p)^k / q^{k-1}, whose exponent has the term -(k (a + 1/2) - (k - 1) / (2 std²)) y². That must
    fall: std² > (k - 1) / (k (1 + 2a)), which is std² > 1/2 for the variance of the weights alone.
    At equality the integrand does not fall on one side at least. With power 4 f falls faster than
    any normal and any std will do, though the variance soon is astronomical.
    """
    if moment < 2:
        raise ValueError(f"moment = {moment}; give 2 (the variance) or more")
    if f.rate > 0 and f.power == 4:
        return 0.0
    return math.sqrt((moment - 1) / (moment * (1 + 2 * f.rate)))


def exact(f: Bump, q: Normal | Best = P) -> Moments:
    """Mean, variance and fourth central moment of one draw f p / q; of plain Monte Carlo for q = P.

    By the trapezoidal rule, which is exact up to rounding for smooth integrands that vanish at both
    ends. A moment is `inf` where it is infinite (see `smallest_std`) and where it exceeds float64,
    as for narrow q beside a quartic f.

    Raises:
        ValueError: when q is the best density of another f, or when q is so narrow, or so near the
            std at which a moment becomes infinite, that the quadrature needs millions of points.
    """
    if isinstance(q, Best) and q.f != f:
        raise ValueError(f"q is the best density for {q.f}, not for {f}; use Best(f)")
    mean = _normaliser(f)
    return Moments(mean, _central(f, q, mean, 2), _central(f, q, mean, 4))


def effective_share(f: Bump, q: Normal | Best = P) -> float:
    """`Moments.effective_share` of the draws f p / q.

    For f = `ONE` it is that of the weights alone (Kong 1992), which does not know what f asks for:
    N(3, 1) has e^{-9} of it and is a good q for `RARE`. 0 where the variance is infinite.
    """
    return exact(f, q).effective_share


def effective_sample_size(draws: Float[Tensor, " draw"]) -> float:
    """(sum of w)² / sum of w² of weights or draws w >= 0: between 1 and their number.

    A sample whose variance is infinite has a finite one too: ask `exact`.

    Raises:
        ValueError: when a weight is below 0 or not finite, or all are 0.
    """
    bad = draws[~((draws >= 0) & (draws < math.inf))]
    if len(bad) > 0:
        raise ValueError(f"a weight is {bad[0].item()}; give finite weights of at least 0")
    if not bool((draws > 0).any()):
        raise ValueError(f"all {len(draws)} weights are 0; draw more, or from a nearer q")
    scaled = draws.double() / draws.max()  # the ratio is the same and nothing overflows
    return float(scaled.sum().square() / scaled.square().sum())


def _central(f: Bump, q: Normal | Best, mean: float, k: int) -> float:
    """The integral of q (f p / q - mean)^k, as of one power: no small q is divided by."""
    if isinstance(q, Normal) and q.std <= smallest_std(f, k):
        return math.inf

    def integrand(y: Float64[Tensor, " y"]) -> Float64[Tensor, " y"]:
        log_q = q.log_prob(y)
        drawn = (f.log(y) + P.log_prob(y) - (1 - 1 / k) * log_q).exp()
        return (drawn - mean * (log_q / k).exp()) ** k

    return _integral(integrand, f, q if isinstance(q, Normal) else P)


@cache
def _normaliser(f: Bump) -> float:
    return _integral(lambda y: f(y) * P.log_prob(y).exp(), f)


def _integral(integrand: Callable[[Tensor], Tensor], f: Bump, q: Normal = P) -> float:
    """Over an interval that grows until the integrand has vanished at both ends."""
    step = min(P.std, q.std, f.width) / _PER_WIDTH
    wide = max(P.std, q.std)
    low = min(P.mean, q.mean, f.centre) - _REACH * wide
    high = max(P.mean, q.mean, f.centre) + _REACH * wide
    while (high - low) / step <= _MOST_POINTS:
        y = torch.arange(low, high, step, dtype=torch.float64)
        found = integrand(y)
        area = float(found.sum()) * step
        if not math.isfinite(area):
            return math.inf
        if float(found[[0, -1]].abs().max()) <= _EMPTY * float(found.abs().max()):
            return area
        low, high = low - (high - low) / 2, high + (high - low) / 2
    raise ValueError(
        f"the quadrature for f = {f} and q = {q} needs more than {_MOST_POINTS} points; take "
        "widths and places that differ less, or a std further from smallest_std(f)"
    )
