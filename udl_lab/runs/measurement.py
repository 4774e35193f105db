"""What is known of a run after training: its measurements, and what it watched on the way."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from udl_lab.callbacks.track_latent import OF_UNIT
from udl_lab.errors import UsageError
from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import Row, row
from udl_lab.runs.build import build

Measurement = Callable[[Subject], list[Row]]


def build_measurements(cfg: DictConfig) -> dict[str, Measurement]:
    """Every entry of `cfg.measure`, by its name.

    Raises:
        UsageError: for settings that do not go together.
    """
    return {str(name): build(node, f"measure.{name}") for name, node in cfg.measure.items()}


def measure(cfg: DictConfig, subject: Subject) -> Iterator[Row]:
    """Every entry of `cfg.measure`, each row marked with the entry that made it.

    Raises:
        UsageError: where an entry does not fit the network or the data, after the rows before it.
    """
    for name, measurement in build_measurements(cfg).items():
        try:
            rows = measurement(subject)
        except ValueError as error:
            raise UsageError(f"measure.{name}: {error}") from error
        yield from (replace(row, measure=name) for row in rows)


def watched(metrics: pd.DataFrame) -> list[Row]:
    """What `WatchSplits` logged, as rows: after each epoch, how often it fell, and how far.

    And what `TrackLatent` logged, but for single latents, after each epoch. For the record and for
    claims about training; nothing is selected by these numbers.
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
    for column in sorted(c for c in metrics.columns if c.startswith("latent/")):
        if not column.startswith(OF_UNIT):
            values = metrics[["epoch", column]].dropna()
            rows += [
                _exact(column.removeprefix("latent/"), value, f"epoch{int(epoch) + 1}")
                for epoch, value in zip(values["epoch"], values[column], strict=True)
            ]
    return rows


def _exact(metric: str, value: float, element: str = "") -> Row:
    value = float(value)
    return row(metric, Interval.exact(value), 1, element=element, measure="watch")
