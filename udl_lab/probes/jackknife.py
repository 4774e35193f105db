"""Intervals of any function of sums, by leaving out one block of independent units at a time.

For estimates that are no ratio of two sums over images, such as a share of variance around a mean
of the whole sample. The sums are kept by block, so nothing of an image's size is stored.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from udl_lab.probes.statistics import Interval, tail_of


def leave_one_block_out(
    estimate: Callable[[np.ndarray], float], n_blocks: int, level: float = 0.95
) -> Interval:
    """The delete-a-group jackknife of a number between 0 and 1 (Shao & Tu 1995, §2.3; Kott 2001).

    Args:
        estimate: the number from the blocks that a boolean mask chooses; `nan` where it has none.
        n_blocks: how many blocks there are; each holds an equal share of independent units.
        level: of the interval.

    Returns:
        The estimate of all blocks and a Student interval with `n_blocks - 1` degrees of freedom.
        It is computed on the logit when every estimate lies strictly inside (0, 1), so that it
        stays inside, and is `nan` for fewer than two blocks.
    """
    tail = tail_of(level)
    everything = np.ones(n_blocks, dtype=bool)
    whole = float(estimate(everything))
    if n_blocks < 2 or np.isnan(whole):
        return Interval(whole, np.nan, np.nan)
    without = np.array([estimate(everything & (np.arange(n_blocks) != b)) for b in range(n_blocks)])
    inside = bool(np.all((without > 0) & (without < 1))) and 0 < whole < 1
    forward, back = (logit, expit) if inside else (np.asarray, np.asarray)
    values = forward(without)
    spread = np.sqrt((n_blocks - 1) / n_blocks * np.sum((values - values.mean()) ** 2))
    half = stats.t.ppf(1 - tail, n_blocks - 1) * spread
    centre = forward(np.float64(whole))
    return Interval(whole, float(back(centre - half)), float(back(centre + half)))
