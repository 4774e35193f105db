"""Training a classifier whose hidden weights are pushed towards an orbit."""

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
from udl_lab.ranges import NonNegativeFloat, Positive
from udl_lab.symmetry.gram import commutator_norm, first_weights, sorted_gram_penalty


class SymmetryDiscovery(L.LightningModule):
    """Cross-entropy + α · sorted-Gram penalty + β · squared commutator norm (challenge 2023-2).

    W are the weights of the first linear layer, a row per hidden unit, without its biases. The
    commutator is that of the batch's XᵀX / n and of WᵀW / m. On whole orbits of C_n, n ≥ 3, the
    first is a multiple of the identity and the commutator is 0: what is left is the noise of the
    batches, which punishes every WᵀW that is no multiple of the identity itself.
    """

    __setattr__ = set_attribute
    takes_groups = True
    loss_name = "loss"  # cross-entropy and penalties, no longer in nats
    monitored = "val/loss_nats"

    def __init__(
        self,
        net: nn.Module,
        n_classes: Positive,
        optimizer: OptimizerSettings,
        alpha: NonNegativeFloat,
        beta: NonNegativeFloat,
    ) -> None:
        """Take the network and say how it is trained.

        Args:
            net: maps a batch of inputs to a batch of logits through at least one hidden layer.
            n_classes: how many classes there are.
            optimizer: see `OptimizerSettings`.
            alpha: of `sorted_gram_penalty`.
            beta: of `commutator_norm`.
        """
        super().__init__()
        first_weights(net)  # refuses a network without a hidden layer
        self.net = net
        self.optimizer_settings = optimizer
        self.alpha, self.beta = alpha, beta
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
        """The loss and its three parts, and the share of right answers.

        The loss is in nats for α = β = 0 only; the log calls it `train/loss`.
        """
        logits = self.net(batch.x)
        weights = first_weights(self.net)
        x = batch.x.flatten(1)
        cross_entropy = F.cross_entropy(logits, batch.y)
        penalty = sorted_gram_penalty(weights)
        commutator = commutator_norm(x.T @ x / len(x), weights.T @ weights / len(weights))
        return {
            "loss": cross_entropy + self.alpha * penalty + self.beta * commutator,
            "cross_entropy_nats": cross_entropy.detach(),
            "sorted_gram": penalty.detach(),
            "commutator": commutator.detach(),
            "accuracy": (logits.argmax(1) == batch.y).mean(dtype=torch.float32),
        }

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather `val/loss_nats`, the cross-entropy alone, and `val/accuracy` over the split."""
        logits = self.net(batch.x)
        self.val_loss.update(F.cross_entropy(logits, batch.y, reduction="none"))
        self.val_accuracy.update(logits, batch.y)
        self.log("val/loss_nats", self.val_loss, on_epoch=True)
        self.log("val/accuracy", self.val_accuracy, on_epoch=True, prog_bar=True)

    def configure_optimizers(self):
        """The optimiser of the settings, over all parameters of the network."""
        return make_optimizer(self.net.parameters(), self.optimizer_settings)
