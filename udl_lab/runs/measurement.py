"""What is known of a run after training: its measurements, and what it watched on the way."""

from dataclasses import replace

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import Row, row
from udl_lab.runs.build import build


def measure(cfg: DictConfig, subject: Subject) -> list[Row]:
    """Every entry of `cfg.measure`, each row marked with the entry that made it."""
    rows = []
    for name, node in cfg.measure.items():
        measurement = build(node, f"measure.{name}")
        rows += [replace(row, measure=str(name)) for row in measurement(subject)]
    return rows


def watched(metrics: pd.DataFrame) -> list[Row]:
    """What `WatchSplits` logged, as rows: after each epoch, how often it fell, and how far.

    For the record and for claims about training; nothing is selected by these numbers.
    """
    rows = []
    for column in sorted(c for c in metrics.columns if c.startswith("watch/")):
        values = metrics[["epoch", column]].dropna()
        name = column.removeprefix("watch/")
        path = values[column].to_numpy()
        rows += [
            _exact(name, value, f"epoch{int(epoch) + 1}")
            for epoch, value in zip(values["epoch"], path, strict=True)
        ]
        rows.append(_exact(f"{name}_falls", int((np.diff(path) < 0).sum())))
        rows.append(_exact(f"{name}_fall_from_peak", path.max() - path[-1]))
    return rows


def _exact(metric: str, value: float, element: str = "") -> Row:
    value = float(value)
    return row(metric, Interval.exact(value), 1, element=element, measure="watch")
