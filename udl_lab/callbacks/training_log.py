"""Running means of the training step, logged every n steps; a non-finite loss ends the run.

`self.log` costs .8 ms a call, more than a small network's whole step. Here a step only appends its
detached numbers to a list; the list is stacked once every `trainer.log_every_n_steps`.
"""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn


class DivergedError(Exception):
    """The training loss is no finite number."""

    def __init__(self, step: int) -> None:
        """Remember the optimiser step, counted from 0, whose loss was not finite."""
        super().__init__(f"the training loss is not finite at step {step}")
        self.step = step


class TrainingLog(L.Callback):
    """Logs the loss, under the module's `loss_name`, and the other numbers of `training_step`.

    A row is the mean over the steps since the last row, over all processes; it never mixes epochs.
    A call of `training_step` returns the numbers of one step, or a row of those of several.
    No checkpoint is written of an epoch in which the loss, or at last a weight, is not finite.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []
        self._steps: list[int] = []  # the optimiser step that each call begins with

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the step: with accumulated gradients a step has several batches."""
        del self._steps[len(self._batches) :]  # of a batch that an interruption left unfinished
        self._steps.append(trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the numbers of the call; log their means when it is time."""
        self._batches.append(outputs)
        if sum(batch["loss"].numel() for batch in self._batches) >= trainer.log_every_n_steps:
            self._flush(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what there is: a checkpoint may follow the validation."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what is left, before the epoch's checkpoint is written."""
        self._end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The batches not logged yet: a resumed run logs the rows of an undisturbed one."""
        return {"batches": list(self._batches), "steps": list(self._steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self._batches, self._steps = list(state_dict["batches"]), list(state_dict["steps"])

    def _end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._flush(trainer)
        if not all_finite(pl_module):
            raise DivergedError(trainer.global_step)  # the next loss would be the first to show it

    def _flush(self, trainer: L.Trainer) -> None:
        """Log the means over the batches since the last time.

        Raises:
            DivergedError: naming the first step whose loss is not finite.
        """
        batches, steps = self._batches, self._steps
        self._batches, self._steps = [], []
        if not batches:
            return
        columns = {
            name: _over_processes(trainer, [batch[name] for batch in batches])
            for name in batches[0]
        }
        # Lightning hands out the loss divided by this, so that accumulated gradients are a mean.
        columns["loss"] = columns["loss"] * trainer.accumulate_grad_batches
        finite = torch.isfinite(columns["loss"])
        if not finite.all():
            of_each = [
                first + further
                for first, batch in zip(steps, batches, strict=True)
                for further in range(batch["loss"].numel())
            ]
            raise DivergedError(of_each[int(finite.logical_not().nonzero()[0])])
        means = {f"train/{name}": float(column.mean()) for name, column in columns.items()}
        means[f"train/{loss_name(trainer.lightning_module)}"] = means.pop("train/loss")
        means["epoch"] = trainer.current_epoch
        for logger in trainer.loggers:
            logger.log_metrics(means, step=trainer.global_step)


def loss_name(module: L.LightningModule) -> str:
    """What the module calls its loss in the logs: with its unit, `loss_nats` unless it says."""
    return getattr(module, "loss_name", "loss_nats")


def _over_processes(trainer: L.Trainer, numbers: list[Tensor]) -> Tensor:
    """Each number averaged over the processes, which have equal shares of the batch behind it.

    So all of them see a non-finite loss at the same step, and stop together.
    """
    device = trainer.strategy.root_device  # the numbers of a resumed run come from the CPU
    column = torch.cat([number.to(device).reshape(-1) for number in numbers])
    return trainer.strategy.reduce(column, reduce_op="mean")


def all_finite(module: nn.Module) -> bool:
    """Whether every weight is a finite number."""
    return all(bool(torch.isfinite(weight).all()) for weight in module.parameters())
