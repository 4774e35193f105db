"""The one tidy table of the lab: a row per estimate, each with its interval."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from udl_lab.probes.statistics import Interval


@dataclass(frozen=True)
class Row:
    """One number, where it was measured, and how far it can be trusted."""

    metric: str
    estimate: float
    low: float
    high: float
    n: int  # independent units behind the interval: images, or pairs of images
    site: str = ""  # the layer
    element: str = ""  # the transformation; empty for the mean over all of them
    note: str = ""  # interpolation, exactness, what it is divided by
    measure: str = ""  # which entry of the configuration's `measure` made the row

    @property
    def key(self) -> str:
        """The name by which a claim asks for the number: `measure/metric[/site][@element]`."""
        site = f"/{self.site}" if self.site else ""
        element = f"@{self.element}" if self.element else ""
        return f"{self.measure}/{self.metric}{site}{element}"


def row(metric: str, interval: Interval, n: int, **where: str) -> Row:
    """A row from an interval."""
    return Row(metric, interval.estimate, interval.low, interval.high, n, **where)


def records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as plain dictionaries, each with its key."""
    return [{"key": r.key, **asdict(r)} for r in rows]
