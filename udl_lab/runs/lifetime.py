"""How any run begins and ends, in its folder and for those who record it."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger

from udl_lab.runs import folder as folders
from udl_lab.runs import tracking
from udl_lab.runs.folder import RunFolder


def begin(
    folder: RunFolder,
    config: dict[str, Any],
    loggers: Sequence[Logger],
    noted: Mapping[str, Any],
    known: Mapping[str, Any],
    resumed: bool = False,
) -> None:
    """Make the folder, note what runs, and begin to record.

    Args:
        folder: the run's.
        config: what runs.
        loggers: made, and silent until now.
        noted: what the run's record says beside status, versions and commit.
        known: what W&B is told beside the configuration.
        resumed: whether the run goes on, with the record that it has.

    Raises:
        UsageError: when W&B is to go online and cannot; a new run's folder is removed again.
    """
    folder.create(config)
    folder.note(status="running", **noted, **({} if resumed else folders.provenance()))
    tracking.start(loggers, folder, {**config, **known}, resumed)


def end(folder: RunFolder, loggers: Sequence[Logger], status: str) -> None:
    """Note how the run ended, and cease to record."""
    if folder.path.is_dir():
        folder.note(status=status)
        tracking.finish(loggers, status)


def quieten() -> None:
    """One voice: the lab prints its own summary, and known noise of the libraries is left out."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for noise in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*Total length of `list` across ranks is zero.*",
        ".*exists and is not empty.*",
        ".*isinstance.treespec.*",
    ):
        warnings.filterwarnings("ignore", noise)
