"""The accuracy on whole splits after each epoch: for the record, never for selection."""

from collections.abc import Sequence
from typing import Literal

import lightning as L
import torch
from torch import Tensor

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
                int((self._classes(trainer, pl_module, x) == y).sum())
                for x, y in zip(examples.x.split(5000), examples.y.split(5000), strict=True)
            )
            values[f"watch/{split}_accuracy"] = hits / len(examples.y)
        pl_module.train()
        for logger in trainer.loggers:
            logger.log_metrics(values | {"epoch": trainer.current_epoch}, step=trainer.global_step)

    def _classes(self, trainer: L.Trainer, pl_module: L.LightningModule, x: Tensor) -> Tensor:
        """The class of each example, computed at the precision that the network is trained in."""
        x = trainer.precision_plugin.convert_input(x.to(pl_module.device))
        with trainer.precision_plugin.forward_context():
            return pl_module(x).argmax(1).cpu()
