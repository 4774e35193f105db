"""What is done with the validated weights, before an average is taken out of the module again."""

from abc import ABC, abstractmethod
from typing import Any

import lightning as L

from udl_lab.ranges import Positive


class AfterValidation(L.Callback, ABC):
    """Acts after the last validation batch of every n-th epoch, in the main process.

    Not at the end of the epoch: an average of weights that was validated may then have been taken
    out of the module again. Without a validation split it never acts.
    """

    def __init__(self, every_n_epochs: Positive = 1) -> None:
        """Say how often."""
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def act(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What is done, with the weights that were validated in the module."""

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Act after the last batch; Lightning's check before the training does not count."""
        due = not (trainer.current_epoch + 1) % self.every_n_epochs
        last = batch_idx + 1 == trainer.num_val_batches[dataloader_idx]
        if due and last and trainer.is_global_zero and not trainer.sanity_checking:
            self.act(trainer, pl_module)
