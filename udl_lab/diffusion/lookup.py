"""A denoiser without a network: the mean noise of each bin of a line, counted level by level.

The model of notebooks 18.2 to 18.4 (Prince 2023), a histogram in place of a regression. Row t of
the table is noise level t, as everywhere here; `legacy_lookup` has the tables as published.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from udl_lab.diffusion.process import Kind, Prediction, diffuse, predict
from udl_lab.diffusion.schedule import Level, Schedule
from udl_lab.ranges import PositiveFloat


@final
@dataclass(frozen=True, eq=False)
class LookupTable:
    """E[ε | x_t] as a constant in each bin of the line. It does not know Var[x_0 | x_t].

    Row 0 is never looked at: nothing is noise at level 0. What lies below the first edge belongs to
    the first bin, and what lies above the last edge to the last.

    Raises:
        ValueError: unless there is a row for each level and a bin between any two edges, and the
            edges rise.
    """

    schedule: Schedule
    table: Float64[Tensor, "level bin"]
    edges: Float64[Tensor, " edge"]

    def __post_init__(self) -> None:
        wanted = (self.schedule.n_steps + 1, len(self.edges) - 1)
        if tuple(self.table.shape) != wanted:
            raise ValueError(
                f"the table has the shape {tuple(self.table.shape)}; {wanted[0]} levels (0 to T) "
                f"and {len(self.edges)} edges need {wanted}"
            )
        if not (self.edges.diff() > 0).all():
            raise ValueError(f"the edges {self.edges.tolist()} must rise")

    def __call__(self, x: Float[Tensor, "batch 1"], t: Level) -> Prediction:
        """The mean noise of x's bin, and the x_0 that follows from it.

        Raises:
            ValueError: for a level without a row: between whole ones, or outside 0 … T; and at a
                level of pure noise (see `process.predict`).
        """
        return predict(self.schedule, "eps", self.output(x, t), x, t)

    @property
    def kind(self) -> Kind:
        """What is in the table."""
        return "eps"

    def output(self, x: Float[Tensor, "batch 1"], t: Level) -> Float[Tensor, "batch 1"]:
        """The mean noise of x's bin.

        Raises:
            ValueError: as when called.
        """
        bins = bin_of(x[:, 0], self.edges.to(x.device))
        table = self.table.to(x.device)
        if isinstance(t, int) and 0 <= t <= self.schedule.n_steps:  # the usual, and the quickest
            return table[t].to(x.dtype).index_select(0, bins).unsqueeze(1)
        level = torch.as_tensor(t, device=x.device)
        has_row = (level == level.round()) & (level >= 0) & (level <= self.schedule.n_steps)
        if not has_row.all():
            raise ValueError(
                f"level {level[~has_row].flatten()[0].item()} has no row in the table; take whole "
                f"levels from 0 to T = {self.schedule.n_steps}"
            )
        eps = table[level.long(), bins]
        return eps.unsqueeze(1).to(x)


def fit_lookup(
    schedule: Schedule,
    x0: Float[Tensor, "n dimension"],
    generator: torch.Generator,
    low: float = -3.0,
    high: float = 3.0,
    bin_width: PositiveFloat = 0.01,
) -> LookupTable:
    """The table of a data set: every example is noised once at each level from 1 to T.

    A bin's value is the mean of ε over the pairs (ε, x_t) whose x_t fell into it: their sum over
    their number. A bin without pairs has the value of the nearest one with some, of the lower one
    where two are as near.

    Args:
        schedule: the levels.
        x0: examples on the line.
        generator: of the noise, a CPU generator; one call for each level, from 1 up.
        low: the first edge, in the data's unit.
        high: the last edge.
        bin_width: the distance of neighbouring edges.

    Raises:
        ValueError: without examples, for examples that are not on a line, or when the bins do not
            fill the range.
    """
    if x0.ndim != 2 or x0.shape[1] != 1 or len(x0) == 0:
        raise ValueError(
            f"x0 has the shape {tuple(x0.shape)}; a table is for examples on a line: give (n, 1)"
        )
    edges = _edges(low, high, bin_width)
    table = torch.zeros(schedule.n_steps + 1, len(edges) - 1, dtype=torch.float64)
    for t in range(1, schedule.n_steps + 1):
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        bins = bin_of(diffuse(schedule, x0, t, eps)[:, 0], edges)
        table[t] = _means(bins, eps[:, 0].double(), len(edges) - 1)
    return LookupTable(schedule, table, edges)


def bin_of(x: Float[Tensor, " batch"], edges: Float64[Tensor, " edge"]) -> Int64[Tensor, " batch"]:
    """The bin that each number falls into, the outer ones open; an edge belongs to its right.

    With edges as even as rounding leaves them the bin is computed in place of searched for, in the
    precision of x, and what lies on an edge but for rounding may fall to either side.
    """
    n_bins = len(edges) - 1
    low, width = edges[0], float(edges[-1] - edges[0]) / n_bins
    if (edges.diff() - width).abs().max() > 1e-9 * width:
        return torch.bucketize(x.double(), edges[1:-1], right=True)
    place = torch.add((-low / width).to(x), x, alpha=1 / width)
    # Once more as whole numbers, for what was not a number.
    return place.clamp_(0, n_bins - 1).long().clamp_(0, n_bins - 1)


def _edges(low: float, high: float, width: float) -> Float64[Tensor, " edge"]:
    n_bins = round((high - low) / width)
    if n_bins < 1 or abs(n_bins * width - (high - low)) > 1e-6 * width:
        raise ValueError(
            f"bins of width {width} do not fill the range from {low} to {high}; take a width that "
            "divides it"
        )
    return torch.linspace(low, high, n_bins + 1, dtype=torch.float64)


def _means(
    bins: Int64[Tensor, " n"], values: Float64[Tensor, " n"], n_bins: int
) -> Float64[Tensor, " bin"]:
    counts = torch.bincount(bins, minlength=n_bins)
    sums = torch.bincount(bins, weights=values, minlength=n_bins)
    filled = counts.nonzero()[:, 0]
    # Up to the middle between two filled bins the lower one is nearer, or as near.
    middles = (filled[1:] + filled[:-1]) / 2
    nearest = filled[torch.bucketize(torch.arange(n_bins), middles)]
    return sums[nearest] / counts[nearest]
