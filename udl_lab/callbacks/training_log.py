"""Running means of the training step, logged every n steps; a non-finite loss ends the run.

`self.log` costs .8 ms a call, more than a small network's whole step. Here a step only appends its
detached numbers to a list; the list is stacked once every `trainer.log_every_n_steps`.
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor


class DivergedError(Exception):
    """The training loss is no finite number."""

    def __init__(self, step: int) -> None:
        """Remember the optimiser step, counted from 0, whose loss was not finite."""
        super().__init__(f"the training loss is not finite at step {step}")
        self.step = step


class TrainingLog(L.Callback):
    """Logs `train/loss_nats` and the other numbers that `training_step` returns."""

    def __init__(self) -> None:
        self._steps: list[dict[str, Tensor]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin a new mean: means never mix epochs."""
        self._steps.clear()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the numbers of the step; log their means when it is time."""
        self._steps.append(outputs)
        if len(self._steps) >= trainer.log_every_n_steps:
            self._flush(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what is left, before the epoch's checkpoint is written."""
        self._flush(trainer)

    def _flush(self, trainer: L.Trainer) -> None:
        """Log the means over the steps since the last time.

        Raises:
            DivergedError: naming the first step whose loss is not finite.
        """
        if not self._steps:
            return
        columns = {
            name: torch.stack([step[name] for step in self._steps]) for name in self._steps[0]
        }
        finite = torch.isfinite(columns["loss"])
        if not finite.all():
            first = trainer.global_step - len(self._steps)
            raise DivergedError(first + int(finite.logical_not().nonzero()[0]))
        means = {f"train/{name}": float(column.mean()) for name, column in columns.items()}
        means["train/loss_nats"] = means.pop("train/loss")
        means["epoch"] = trainer.current_epoch
        for logger in trainer.loggers:
            logger.log_metrics(means, step=trainer.global_step)
        self._steps.clear()
