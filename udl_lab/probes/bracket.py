"""What kind of action a layer carries, between two bounds (probes notes §4.5).

For each element g and over many images: *sorted* ≤ *best shared permutation of the channels* ≤
*the known action*, all as relative errors `|f(g x) - R_g f(x)| / |R_g f(x)|` in root mean square.
Sorting allows every image a permutation of its own, so its error refutes all permutations at once
and proves none. The shared permutation is found on one half of the images and scored on the other:
fitted and scored on the same images it would look like an action where there is none.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from udl_lab.activations.costs import ChannelCostResult
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.statistics import Interval


@dataclass(frozen=True)
class Permutation:
    """The permutation of channels that comes nearest to a layer's action under one element."""

    index: Int[np.ndarray, " channel"]  # f_c(g x) ≈ (R_g f(x))_{index[c]}
    error: Interval  # relative, on images that it was not fitted on
    control: Interval  # the same with another image in the place of x
    gap: float  # how much the fit worsens by the next best swap of two channels, relative


def shared_permutations(cost: ChannelCostResult, n_boot: int = 1000) -> list[Permutation]:
    """The best permutation for each element, fitted on the first half of the blocks.

    Minimises `sum_i |f(g x_i) - P R_g f(x_i)|^2` by linear assignment (Kuhn 1955). Where the layer
    action is unknown, the permutation is the identity and its errors are nan.

    Raises:
        ValueError: for fewer than two blocks, which cannot be split.
    """
    n_blocks = cost.cost.shape[1]
    if n_blocks < 2:
        raise ValueError("one block of images cannot be split into a fit and a test; use more")
    half = n_blocks // 2
    return [_permutation(cost, element, half, n_boot) for element in range(len(cost.cost))]


def _permutation(cost: ChannelCostResult, element: int, half: int, n_boot: int) -> Permutation:
    fitted = cost.cost[element, :half].sum(axis=0)
    if not np.isfinite(fitted).all():
        nothing = Interval(np.nan, np.nan, np.nan)
        return Permutation(np.arange(len(fitted)), nothing, nothing, np.nan)
    channels, index = linear_sum_assignment(fitted)
    norm = cost.norm[element, half:]
    error, control = (
        relative(matrix[element, half:, channels, index].sum(axis=0), norm, n_boot)
        for matrix in (cost.cost, cost.control)
    )
    scale = cost.norm[element, :half].sum()
    return Permutation(index, error, control, _gap(fitted, index) / scale if scale else np.nan)


def relative(
    squares: Float[np.ndarray, " cluster"], norms: Float[np.ndarray, " cluster"], n_boot: int
) -> Interval:
    """The root of a ratio of sums of squares over independent clusters; nan without a norm."""
    if not norms.sum() > 0:  # no norm, or unknown
        return Interval(np.nan, np.nan, np.nan)
    [found] = ratio_of_sums(np.maximum(squares, 0)[:, None], norms, n_boot=n_boot)
    return Interval(*(float(np.sqrt(x)) for x in (found.estimate, found.low, found.high)))


def _gap(cost: Float[np.ndarray, "channel channel"], index: Int[np.ndarray, " channel"]) -> float:
    """The least that a swap of two assigned channels costs: 0 says that the choice is arbitrary."""
    n = len(index)
    if n < 2:
        return np.nan  # nothing to swap
    assigned = cost[:, index]  # column c is what c was assigned
    own = np.diag(assigned)
    swapped = assigned + assigned.T - own[:, None] - own[None]
    return float(swapped[~np.eye(n, dtype=bool)].min())


def compose(
    first: Int[np.ndarray, " channel"], second: Int[np.ndarray, " channel"]
) -> Int[np.ndarray, " channel"]:
    """The permutation of "first, then second" in the convention of `Permutation.index`.

    With p for g and q for h: f_c(h g x) = f(g x)_{q[c]} = f(x)_{p[q[c]]}.
    """
    return first[second]
