"""What a calculation is, and what it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.figure import Figure

from udl_lab.probes.table import Row


@dataclass(frozen=True)
class Result:
    """Numbers, a row per estimate, and pictures by the names of their files."""

    rows: Sequence[Row]
    figures: Mapping[str, Figure]


class Calculation(Protocol):
    """Settings, made by the configuration; called with a run's seed, which draws every number."""

    def __call__(self, seed: int) -> Result: ...
