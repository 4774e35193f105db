"""The accuracy on whole splits after each epoch: for the record, never for selection."""

from collections.abc import Sequence
from typing import Literal

import lightning as L
import torch

Split = Literal["train", "clean_train", "test"]


class WatchSplits(L.Callback):
    """Logs `watch/<split>_accuracy` after each epoch, on untransformed examples.

    No checkpoint may be chosen by these numbers; the originals chose by their test set, which is
    why they are logged under a name of their own.
    """

    def __init__(self, splits: Sequence[Split] = ("train", "test")) -> None:
        """Say which splits of the data module to watch."""
        self.splits = list(splits)

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure and log."""
        if not trainer.is_global_zero:
            return
        pl_module.eval()
        values = {}
        for split in self.splits:
            examples = getattr(trainer.datamodule, split)
            hits = sum(
                int((pl_module(x.to(pl_module.device)).argmax(1).cpu() == y).sum())
                for x, y in zip(examples.x.split(5000), examples.y.split(5000), strict=True)
            )
            values[f"watch/{split}_accuracy"] = hits / len(examples.y)
        pl_module.train()
        for logger in trainer.loggers:
            logger.log_metrics(values | {"epoch": trainer.current_epoch}, step=trainer.global_step)
