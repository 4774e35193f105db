"""Training a network to name the class of its input."""

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from udl_lab.data.loader import Batch
from udl_lab.models.lean import known_signature, set_attribute
from udl_lab.models.optimizer import OptimizerSettings, make_optimizer
from udl_lab.models.several_steps import take_steps


class Classifier(L.LightningModule):
    """Cross-entropy on logits, in nats, averaged over the batch."""

    __setattr__ = set_attribute
    takes_groups = True

    def __init__(self, net: nn.Module, n_classes: int, optimizer: OptimizerSettings) -> None:
        """Take the network and say how it is trained.

        Args:
            net: maps a batch of inputs to a batch of logits.
            n_classes: how many classes there are.
            optimizer: see `OptimizerSettings`.
        """
        super().__init__()
        self.net = net
        self.optimizer_settings = optimizer
        self.val_accuracy = MulticlassAccuracy(n_classes, average="micro")
        self.val_loss = MeanMetric()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of inputs."""
        return self.net(x)

    @known_signature
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step, or those of a group, by `losses`."""
        return take_steps(self, batch, self.losses)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean cross-entropy of a batch, in nats, and the share of right answers."""
        logits = self.net(batch.x)
        loss = F.cross_entropy(logits, batch.y)
        accuracy = (logits.argmax(1) == batch.y).mean(dtype=torch.float32)
        return {"loss": loss, "accuracy": accuracy}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather `val/loss_nats` and `val/accuracy` over the whole split."""
        logits = self.net(batch.x)
        self.val_loss.update(F.cross_entropy(logits, batch.y, reduction="none"))
        self.val_accuracy.update(logits, batch.y)
        self.log("val/loss_nats", self.val_loss, on_epoch=True)
        self.log("val/accuracy", self.val_accuracy, on_epoch=True, prog_bar=True)

    def configure_optimizers(self):
        """The optimiser of the settings, over all parameters of the network."""
        return make_optimizer(self.net.parameters(), self.optimizer_settings)
