"""The progress bar, and a profiler that costs nothing: less work of Lightning's in every step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.profilers import PassThroughProfiler

_EVERY = 20  # steps


@final
class ProgressBar(RichProgressBar):
    """Rich's bar, touched every twenty steps and at an epoch's end, not at every step."""

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update, when it is time."""
        if (batch_idx + 1) % _EVERY == 0 or batch_idx + 1 == self.total_train_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


@final
class NoProfiler(PassThroughProfiler):
    """Measures nothing, with one empty context for all the places where Lightning would measure."""

    _NOTHING = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager:
        """The empty context."""
        return self._NOTHING
