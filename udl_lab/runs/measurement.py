"""The measurements that a configuration asks for, made on one trained network."""

from dataclasses import replace

from omegaconf import DictConfig

from udl_lab.probes.subject import Subject
from udl_lab.probes.table import Row
from udl_lab.runs.build import build


def measure(cfg: DictConfig, subject: Subject) -> list[Row]:
    """Every entry of `cfg.measure`, each row marked with the entry that made it."""
    rows = []
    for name, node in cfg.measure.items():
        measurement = build(node, f"measure.{name}")
        rows += [replace(row, measure=str(name)) for row in measurement(subject)]
    return rows
