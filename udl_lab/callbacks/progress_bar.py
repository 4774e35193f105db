"""The progress bar, and a profiler that costs nothing: less work of Lightning's in every step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.profilers import PassThroughProfiler

_EVERY = 20  # steps


@final
class ProgressBar(RichProgressBar):
    """Rich's bar in optimiser steps, touched every twenty of them and at an epoch's end."""

    @property
    def total_train_batches(self) -> int | float:
        """The steps of an epoch; Lightning counts calls of `training_step`, of several steps."""
        data = self.trainer.datamodule
        return data.steps_per_epoch if data.group > 1 else super().total_train_batches

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update, when it is time."""
        group = trainer.datamodule.group
        done = min((batch_idx + 1) * group, self.total_train_batches)
        if done % max(_EVERY, group) == 0 or done == self.total_train_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, int(done) - 1)


@final
class NoProfiler(PassThroughProfiler):
    """Measures nothing, with one empty context for all the places where Lightning would measure."""

    _NOTHING = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager:
        """The empty context."""
        return self._NOTHING
