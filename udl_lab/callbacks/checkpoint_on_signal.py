"""A run that is asked to stop leaves a checkpoint to go on from."""

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from udl_lab.callbacks.training_log import all_finite


class CheckpointOnSignal(L.Callback):
    """Writes `last.ckpt` on SIGTERM (a preempted job) and on Ctrl-C.

    Both wait until the running step, or group of steps, is done, so that the run goes on from there
    bit for bit. A second Ctrl-C stops at once, and leaves the checkpoint before.

    Lightning's `OnExceptionCheckpoint` would also write one when the loss is no longer finite, over
    the last good one. For the same reason nothing is written of a network that has a non-finite
    weight: the run goes on from the checkpoint before, and diverges at the same step again.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.by_keyboard = False  # whether it was Ctrl-C that asked
        self._before: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the first Ctrl-C a SIGTERM, which Lightning heeds between two steps."""
        # With several processes the terminal sends it to each; they must not stop one by one.
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let Ctrl-C mean what it did."""
        self._restore()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Save, if the exception is a request to stop that came between two steps."""
        self._restore()
        stop = isinstance(exception, SIGTERMException | KeyboardInterrupt)
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        if stop and progress.ready == progress.completed and all_finite(pl_module):
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(self.path)

    def _ask(self, number: int, frame: Any) -> None:
        self._restore()
        self.by_keyboard = True
        signal.raise_signal(signal.SIGTERM)

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
