"""The invariance index: which share of a layer's variance lies between orbits (probes notes §4.2).

`total = between + within`: *within* is the variance along an orbit (an image and all its copies),
*between* that of the orbits' means. The index `between / total` is 1 exactly when the layer is
invariant on the sample, and it is bounded and additive over units, so a layer's number and its heat
map by channel agree.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from udl_lab.activations.variance import OrbitVarianceResult
from udl_lab.probes.jackknife import leave_one_block_out
from udl_lab.probes.statistics import Interval


@dataclass(frozen=True)
class Index:
    """The index of one layer."""

    index: Interval  # between / total, summed over units; nan for a layer that is constant
    degenerate: float  # the share of units that are constant: they are in neither sum
    between: Float[np.ndarray, " unit"]  # as estimated; 0 where degenerate, as the next
    total: Float[np.ndarray, " unit"]
    n: int  # images

    def by_channel(self, n_channels: int) -> Float[np.ndarray, " channel"]:
        """The index of each channel, whose units follow one another; nan for a constant one."""
        between, total = (
            part.reshape(n_channels, -1).sum(axis=1) for part in (self.between, self.total)
        )
        return np.divide(between, total, out=np.full(n_channels, np.nan), where=total > 0)


def invariance_index(
    variance: OrbitVarianceResult, n_elements: int, whole_group: bool, level: float = 0.95
) -> Index:
    """The index, with the interval of a jackknife over blocks of image pairs.

    Args:
        variance: the sums of an `OrbitVariance` reducer.
        n_elements: points of an orbit, the identity among them.
        whole_group: whether these are the orbit itself, or a sample from it. From a sample the
            plain between-variance is too large by `within / (n_elements - 1)`, so the one-way
            ANOVA estimate takes its place, which may come out negative.
        level: of the interval.
    """
    counts = variance.counts

    def parts(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The between-variance and the total, by unit."""
        n = counts[blocks].sum()
        mean = variance.mean_sum[blocks].sum(axis=0) / n
        square = variance.square_sum[blocks].sum(axis=0) / n
        within = variance.within_sum[blocks].sum(axis=0) / n
        between = square - mean**2
        # The difference of two sums is known to their rounding: a constant unit has no variance.
        between[between <= 64 * np.finfo(np.float64).eps * square] = 0.0
        excess = 0.0 if whole_group else within / (n_elements - 1)
        return between - excess, between + within

    def of_layer(blocks: np.ndarray) -> float:
        between, total = (float(part.sum()) for part in parts(blocks))
        return between / total if total else np.nan

    between, total = parts(np.ones(len(counts), dtype=bool))
    return Index(
        leave_one_block_out(of_layer, len(counts), level),
        float(np.mean(total == 0)),
        between,
        total,
        int(counts.sum()),
    )
