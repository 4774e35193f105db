"""The two training loops that every benchmark compares: a bare one in torch, and the lab's own."""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from udl_lab.configuration import compose
from udl_lab.runs.execute import execute  # before lightning: it repairs torchvision

import lightning as L  # isort: skip

# W&B's own process writes its diary here, until this one ends.
_TRACKER_FOLDER = tempfile.TemporaryDirectory()


def bare_epoch(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> None:
    """Plain SGD on the mean cross-entropy, and nothing else: no log, no accuracy, no checkpoint."""
    optimizer = torch.optim.SGD(net.parameters(), lr)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def shuffled(x: Tensor, y: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of resident tensors in a new order, chosen as the lab chooses them."""
    for rows in torch.randperm(len(y)).split(batch_size):
        yield x.index_select(0, rows), y.index_select(0, rows)


class LabSeconds(NamedTuple):
    """How long the parts of one run took, each within the next."""

    epoch: float  # from the epoch's first batch to its last row in the logs
    fit: float  # with setting up the trainer and writing the checkpoint
    run: float  # with reading the data, starting W&B, measuring and drawing


@final
class FitClock(L.Callback):
    """Takes the times of a run of one epoch."""

    # Hydra makes the clock inside `execute`, so there is no other way to get hold of it.
    newest: ClassVar["FitClock | None"] = None

    def __init__(self) -> None:
        FitClock.newest = self
        self.epoch = self.fit = math.nan

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._fit_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch = time.perf_counter() - self._epoch_start

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.fit = time.perf_counter() - self._fit_start


def lab_epoch(overrides: Sequence[str], measure: Sequence[str] = ("classification",)) -> LabSeconds:
    """One epoch of what `python -m udl_lab.train <overrides>` runs, loggers and all.

    Nothing is left on disk. There is no validation split, so that the epoch is training alone; as
    few measurements as possible follow it: an option of that group, and changes of its keys.
    """
    option, *changes = measure
    os.environ.update(
        WANDB_SILENT="true", WANDB_MODE="offline", WANDB_CACHE_DIR=_TRACKER_FOLDER.name
    )
    deterministic = torch.are_deterministic_algorithms_enabled()
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            *overrides,
            "data.n_validation=0",
            "trainer.max_epochs=1",
            "weights=last",
            f"measure={option}",
            *(f"measure.{change}" for change in changes),
            "callbacks=none",
            "+callbacks.clock._target_=_loops.FitClock",
            f"run_dir={Path(folder) / 'run'}",
        ]
        start = time.perf_counter()
        try:
            execute(compose(settings), quiet=True)
        finally:
            # A trainer may switch it for the whole process, and it would slow the other cases.
            torch.use_deterministic_algorithms(deterministic)
        run = time.perf_counter() - start
    clock = FitClock.newest
    return LabSeconds(clock.epoch, clock.fit, run)


def print_fit(runs: Sequence[LabSeconds]) -> None:
    """What surrounds the epoch that is compared."""
    fit, run = (statistics.median(times) for times in list(zip(*runs, strict=True))[1:])
    print(f"The whole fit of ours took {fit:.2f} s, the whole run with W&B's start {run:.2f} s.")
