"""Intervals of a ratio of sums, by resampling the independent units that both sums run over.

The distance ratios of the probes are such ratios. A cluster is one independent unit, as in
`statistics.py`: an image, or a disjoint pair of images (`pairing.py`), with all its angles.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from udl_lab.probes.statistics import BLOCK_NUMBERS, Interval, blocks, tail_of
from udl_lab.randomness import derive

BCA_BELOW = 100  # clusters; from here on the percentile interval is close enough


def ratio_of_sums(
    numerator: Float[np.ndarray, "cluster element"],
    denominator: Float[np.ndarray, "cluster element"] | Float[np.ndarray, " cluster"],
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Ratio of the two sums over clusters, with a bootstrap over clusters, for each element.

    A ratio of sums, not a mean of ratios: one denominator near zero must not decide the result.
    A cluster is one independent unit: an image, its angles already averaged, or a disjoint pair of
    images where the denominator is the distance between two (`pairing.py`). Numerator and
    denominator are resampled together, and every element meets the same resamples, so elements can
    be compared. Bounds: percentile, and BCa below 100 clusters (Efron & Tibshirani 1993, §13.3 and
    §14.3). They are nan for a single cluster, and for an element that so few clusters carry that
    some resample has denominator 0.

    Raises:
        ValueError: for a value that is not finite, a negative denominator, a denominator that sums
            to 0, or too few resamples for the level.
    """
    tail = tail_of(level)
    if n_boot * tail < 1:
        raise ValueError(
            f"{n_boot} resamples cannot place level {level}; use n_boot >= {int(np.ceil(1 / tail))}"
        )
    if len(numerator) == 0:
        raise ValueError("there are no clusters to resample; give at least one row")
    denominator = np.broadcast_to(denominator.reshape(len(denominator), -1), numerator.shape)
    _check_ratio(numerator, denominator)
    width = max(1, BLOCK_NUMBERS // max(len(numerator), n_boot))
    intervals = []
    for start in range(0, numerator.shape[1], width):
        block = np.s_[:, start : start + width]
        # A fresh generator of the same stream: every block of elements meets the same resamples.
        rng = np.random.default_rng(derive(seed, "bootstrap"))
        d = numerator[block].astype(np.float64)
        c = denominator[block].astype(np.float64)
        intervals += _ratio_intervals(d, c, n_boot, rng, tail)
    return intervals


def _ratio_intervals(
    d: Float[np.ndarray, "cluster element"],
    c: Float[np.ndarray, "cluster element"],
    n_boot: int,
    rng: np.random.Generator,
    tail: float,
) -> list[Interval]:
    estimates = d.sum(axis=0) / c.sum(axis=0)
    if len(d) == 1:
        return [Interval(float(estimate), np.nan, np.nan) for estimate in estimates]
    ratios = np.empty((n_boot, d.shape[1]))
    filled = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        for rows in blocks(n_boot, len(d)):
            weights = _resample_counts(rows, len(d), rng)
            ratios[filled : filled + rows] = (weights @ d) / (weights @ c)
            filled += rows
    defined = np.isfinite(ratios).all(axis=0)
    levels = np.tile([[tail], [1 - tail]], (1, d.shape[1]))
    if len(d) < BCA_BELOW:
        levels[:, defined] = _bca_levels(
            ratios[:, defined], estimates[defined], d[:, defined], c[:, defined], tail
        )
    bounds = np.full((2, d.shape[1]), np.nan)
    for e in np.flatnonzero(defined):
        bounds[:, e] = np.quantile(ratios[:, e], levels[:, e])
    return [Interval(*map(float, row)) for row in zip(estimates, *bounds, strict=True)]


def _bca_levels(
    ratios: Float[np.ndarray, "resample element"],
    estimates: Float[np.ndarray, " element"],
    d: Float[np.ndarray, "cluster element"],
    c: Float[np.ndarray, "cluster element"],
    tail: float,
) -> Float[np.ndarray, "2 element"]:
    """The quantiles to read off the bootstrap, corrected for bias and skewness.

    Efron & Tibshirani 1993, eqs 14.10 (levels), 14.14 (bias) and 14.15 (acceleration).
    """
    n_boot = len(ratios)
    below = ((ratios < estimates).mean(axis=0) + (ratios <= estimates).mean(axis=0)) / 2
    # n_boot resamples cannot show a share nearer to 0 or 1 than this; keeps the bias finite.
    bias = ndtri(np.clip(below, 0.5 / n_boot, 1 - 0.5 / n_boot))
    leave_one_out = (d.sum(axis=0) - d) / (c.sum(axis=0) - c)
    influence = leave_one_out.mean(axis=0) - leave_one_out
    norm = np.linalg.norm(influence, axis=0)
    # Of unit norm, so |acceleration| <= 1/6; all zero if every cluster has the same ratio.
    influence = np.divide(influence, norm, out=np.zeros_like(influence), where=norm > 0)
    acceleration = (influence**3).sum(axis=0) / 6
    z = bias + ndtri([[tail], [1 - tail]])
    return ndtr(bias + z / (1 - acceleration * z))


def _resample_counts(
    rows: int, n: int, rng: np.random.Generator
) -> Float[np.ndarray, "{rows} {n}"]:
    """How often each of n clusters is drawn in `rows` resamples with replacement."""
    # Counting drawn indices: the same law as rng.multinomial, at a fraction of the time.
    drawn = rng.integers(n, size=(rows, n))
    drawn += n * np.arange(rows)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=rows * n)
    return counts.reshape(rows, n).astype(np.float64)


def _check_ratio(
    numerator: Float[np.ndarray, "cluster element"],
    denominator: Float[np.ndarray, "cluster element"],
) -> None:
    # Sums and minima show every bad value and need no array of the inputs' size.
    with np.errstate(invalid="ignore"):
        totals = denominator.sum(axis=0, dtype=np.float64)
        finite = np.isfinite(totals + numerator.sum(axis=0, dtype=np.float64))
    _refuse(~finite, "a value that is not finite; mend or drop those clusters")
    _refuse(
        denominator.min(axis=0) < 0,
        "a negative denominator; the ratio has no interval where its denominator may change sign: "
        "use a distance or a variance as denominator",
    )
    _refuse(
        totals == 0,
        "a denominator that sums to 0, so no ratio; leave these degenerate elements out and report "
        "how many they are, or choose a control that differs from the image",
    )


def _refuse(bad: Bool[np.ndarray, " element"], complaint: str) -> None:
    elements = np.flatnonzero(bad)
    if len(elements) > 0:
        raise ValueError(
            f"{len(elements)} of {len(bad)} elements (the first: {elements[:5].tolist()}) have "
            + complaint
        )
