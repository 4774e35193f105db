"""Training a network to give one number for a set."""

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import MeanMetric

from udl_lab.data.loader import Batch
from udl_lab.models.lean import known_signature, set_attribute
from udl_lab.models.optimizer import OptimizerSettings, make_optimizer
from udl_lab.models.several_steps import take_steps


class SetRegressor(L.LightningModule):
    """Mean absolute error of the predicted number, in units of the label, over the batch.

    A prediction counts as right when it rounds to the label, which is a whole number.
    """

    __setattr__ = set_attribute
    takes_groups = True
    loss_name = "mae"

    def __init__(self, net: nn.Module, optimizer: OptimizerSettings) -> None:
        """Take the network and say how it is trained.

        Args:
            net: maps a batch of sets to one output each.
            optimizer: see `OptimizerSettings`.
        """
        super().__init__()
        self.net = net
        self.optimizer_settings = optimizer
        self.val_loss = MeanMetric()
        self.val_accuracy = MeanMetric()

    def forward(self, x: Tensor) -> Tensor:
        """The predictions for a batch of sets, a column."""
        return self.net(x)

    @known_signature
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step, or those of a group, by `losses`."""
        return take_steps(self, batch, self.losses)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean absolute error of a batch, and the share of right answers."""
        errors = self._errors(batch)
        return {"loss": errors.mean(), "accuracy": _right(errors).mean()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather `val/mae` and `val/accuracy` over the whole split."""
        errors = self._errors(batch)
        self.val_loss.update(errors)
        self.val_accuracy.update(_right(errors))
        self.log("val/mae", self.val_loss, on_epoch=True)
        self.log("val/accuracy", self.val_accuracy, on_epoch=True, prog_bar=True)

    def configure_optimizers(self):
        """The optimiser of the settings, over all parameters of the network."""
        return make_optimizer(self.net.parameters(), self.optimizer_settings)

    def _errors(self, batch: Batch) -> Float[Tensor, " batch"]:
        # `view` refuses a network with more outputs than one; broadcasting would not.
        return (self.net(batch.x).view(batch.y.shape) - batch.y).abs()


def _right(errors: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return (errors.detach() < 0.5).to(torch.float32)
