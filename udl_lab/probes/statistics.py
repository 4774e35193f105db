"""How far a measured number can be trusted: intervals, tests and corrections.

The unit of every interval is an independent draw: an image (or a disjoint pair of images) inside
one network, a seed across networks. Many angles of one image are one unit, not many, and many
images never stand in for many seeds. Everything is computed in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from udl_lab.randomness import derive

EXACT_UP_TO = 14  # differences; 2**14 sign patterns are quicker to list than to sample
BLOCK_NUMBERS = 2**20  # 8 MiB in float64; at most eight such arrays are alive at once


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its two-sided confidence bounds, all in the unit of the estimate.

    Bounds that the data cannot give (a single independent unit) are nan, never zero width.
    """

    estimate: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Interval":
        """A number that is counted or computed, not estimated."""
        return cls(value, value, value)

    @classmethod
    def alone(cls, value: float) -> "Interval":
        """An estimate whose bounds the data do not give."""
        return cls(value, np.nan, np.nan)


def proportion(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a probability, from independent trials.

    Wilson 1927. It stays inside [0, 1] and has width at 0 and at `trials` successes, where the
    usual normal interval has none. Trials that share an image are not independent: use
    `bootstrap.ratio_of_sums` for those.

    Raises:
        ValueError: without trials, or with more successes than trials.
    """
    tail_of(level)
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(
            f"{successes} successes in {trials} trials is not a proportion; "
            "give at least one trial and between 0 and that many successes"
        )
    bounds = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def mean(values: Float[np.ndarray, " unit"], level: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values.

    One value has no spread: its bounds are nan. Equal values give an interval without width.

    Raises:
        ValueError: without values, or with one that is not finite.
    """
    tail = tail_of(level)
    values = _finite("values", values)
    n = len(values)
    estimate = float(values.mean())
    if n == 1:
        return Interval(estimate, np.nan, np.nan)
    half = float(stats.t.ppf(1 - tail, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(estimate, estimate - half, estimate + half)


def over_seeds(values: Float[np.ndarray, " seed"], level: float = 0.95) -> Interval:
    """Student's t interval over training seeds, one value per seed (nan bounds for one seed).

    Raises:
        ValueError: without values, or with one that is not finite.
    """
    return mean(values, level)


def paired_difference(
    a: Float[np.ndarray, " seed"], b: Float[np.ndarray, " seed"], level: float = 0.95
) -> Interval:
    """Student's t interval of the mean of `a - b`, paired by seed.

    What the seed does to both arms alike (initial weights, data order) cancels.

    Raises:
        ValueError: if the arms have different numbers of seeds, none, or a value is not finite.
    """
    a, b = np.stack([a, b])  # unlike a - b, refuses one seed against several
    return mean(_finite("a", a) - _finite("b", b), level)


def paired_ratio(
    a: Float[np.ndarray, " seed"], b: Float[np.ndarray, " seed"], level: float = 0.95
) -> Interval:
    """Geometric mean over seeds of `a / b`, with its t interval computed on the log ratio.

    Raises:
        ValueError: as `paired_difference`, and if a value is not positive.
    """
    a, b = np.stack([a, b])
    for name, values in (("a", a), ("b", b)):
        if np.any(values <= 0):
            raise ValueError(
                f"{name} has the value {values.min()}, which has no logarithm; a ratio over seeds "
                "needs positive values: use paired_difference"
            )
    log = mean(np.log(_finite("a", a)) - np.log(_finite("b", b)), level)
    return Interval(*(float(np.exp(x)) for x in (log.estimate, log.low, log.high)))


def sign_flip_test(
    differences: Float[np.ndarray, " pair"], *, n_flips: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value that paired differences are symmetric about 0, statistic |sum|.

    Exact up to 14 differences, by listing all sign patterns. Above, `n_flips` random patterns, and
    the observed one counted among them, so that p is never 0 and never too small (Phipson & Smyth
    2010). The listing holds the observed pattern already.

    Raises:
        ValueError: without differences, or with one that is not finite.
    """
    differences = _finite("differences", differences)
    n = len(differences)
    # Two sums that are equal in exact arithmetic differ by rounding, at most n eps sum|d| in each.
    slack = 2 * n * np.finfo(np.float64).eps * np.abs(differences).sum()
    threshold = np.abs(differences.sum()) - slack
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) % 2)
        return float(np.mean(np.abs(signs @ differences) >= threshold))
    rng = np.random.default_rng(derive(seed, "sign_flip"))
    n_as_extreme = 1
    for rows in blocks(n_flips, n):
        signs = 1 - 2 * rng.integers(2, size=(rows, n))
        n_as_extreme += np.count_nonzero(np.abs(signs @ differences) >= threshold)
    return float(n_as_extreme / (n_flips + 1))


def holm(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Holm's adjusted p-values (Holm 1979), in the order given.

    Rejecting where the result is <= alpha keeps the chance of any false rejection among all the
    tests (layers, say) at alpha or below, however they depend on each other.

    Raises:
        ValueError: if a value is not a probability.
    """
    p_values = p_values.astype(np.float64)
    if not np.all((p_values >= 0) & (p_values <= 1)):
        raise ValueError(f"{p_values} holds a value outside [0, 1]; give p-values")
    order = np.argsort(p_values)
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def blocks(total: int, width: int) -> Iterator[int]:
    """Numbers of rows that add up to total, each block of rows x width small in memory."""
    rows = max(1, BLOCK_NUMBERS // width)
    for start in range(0, total, rows):
        yield min(rows, total - start)


def tail_of(level: float) -> float:
    """The probability that a two-sided interval of this level leaves out on each side.

    Raises:
        ValueError: when the level is no probability.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not a probability; write 0.95 for 95 %")
    return (1 - level) / 2


def _finite(name: str, values: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(values) == 0 or len(bad) > 0:
        found = f"the value {values[bad[0]]} at position {bad[0]}" if len(bad) else "no values"
        raise ValueError(
            f"{name} has {found}; give finite numbers, at least one (a run that diverged or the "
            "logarithm of a distance 0 has to be dealt with, and reported, before)"
        )
    return values.astype(np.float64)
