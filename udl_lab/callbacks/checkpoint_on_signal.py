"""A run that is asked to stop leaves a checkpoint to go on from."""

from pathlib import Path

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from udl_lab.callbacks.training_log import all_finite


class CheckpointOnSignal(L.Callback):
    """Writes `last.ckpt` on SIGTERM (a preempted job) and on Ctrl-C.

    Lightning's `OnExceptionCheckpoint` would also write one when the loss is no longer finite, over
    the last good one. For the same reason nothing is written of a network that has a non-finite
    weight: the run goes on from the checkpoint before, and diverges at the same step again.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Save, if the exception is a request to stop."""
        stop = isinstance(exception, SIGTERMException | KeyboardInterrupt)
        if stop and all_finite(pl_module):
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(self.path)
