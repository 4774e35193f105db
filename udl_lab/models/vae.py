"""Training a latent model by a bound on log p(x)."""

from typing import Literal

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from udl_lab.data.latent_noise import eps_of
from udl_lab.data.loader import Batch
from udl_lab.errors import UsageError
from udl_lab.latent.bounds import warm_up
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.latent.objective import Estimator, Objective, check_free_bits, objective
from udl_lab.models.lean import known_signature, set_attribute
from udl_lab.models.learning_rate import ScheduleSettings, learning_rate
from udl_lab.models.optimizer import OptimizerSettings, make_optimizer
from udl_lab.models.several_steps import take_steps
from udl_lab.ranges import NonNegative, NonNegativeFloat, Positive


class VAE(L.LightningModule):
    """The negative bound in nats per example, averaged over the batch.

    Noise comes with the batch, from `augment=latent_noise`. `val/loss` is the objective with its
    whole weight, and with `free_bits` depends on the size of the validation batches, each of which
    has its own maximum. `val/elbo` = `val/reconstruction` - `val/kl` is a bound whatever is
    minimised, but for a head with `soft_targets=True`, whose loss is no log-probability.
    """

    __setattr__ = set_attribute
    takes_groups = True
    loss_name = "loss"

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        estimator: Estimator = "elbo",
        k: Positive = 1,
        beta: NonNegativeFloat = 1.0,
        free_bits: NonNegativeFloat = 0.0,
        warm_up: NonNegative = 0,
        gradients: Literal["mean", "sum"] = "mean",
    ) -> None:
        """Take the model and say how it is trained.

        Args:
            net: one or two stochastic layers.
            optimizer: see `OptimizerSettings`.
            schedule: see `learning_rate`; the rate is constant within an epoch.
            estimator: `elbo` averages over k samples, with the KL in closed form where there is
                one; the others are of the IWAE bound L_k, see `udl_lab.latent.gradients`.
            k: samples of the latents for each example.
            beta: weight of the ELBO's KL; with another than 1 the loss is not the ELBO.
            free_bits: nats that each latent's KL, averaged over the batch, may have at no cost; on
                one process, whose batch is the whole one.
            warm_up: steps in which the weight of the KL rises from 0 to beta.
            gradients: whether the optimiser sees the mean or the sum over the batch of each
                example's gradient; what is logged is the mean.

        Raises:
            ValueError: for a network without latents, k = 0, or settings of the ELBO with another
                estimator, or where there is no closed form.
        """
        super().__init__()
        if not isinstance(net, LatentModel | HierarchicalModel):
            raise ValueError(
                f"{type(net).__name__} is no latent model; use net=mlp_vae, two_layer_vae, "
                "conv_vae or linear_vae"
            )
        if k < 1:
            raise ValueError(f"k={k}: a bound needs at least one sample; use k=1 or more")
        if estimator != "elbo" and (beta != 1 or free_bits or warm_up):
            raise ValueError(
                f"estimator={estimator} is of the bound itself, and beta={beta}, "
                f"free_bits={free_bits}, warm_up={warm_up} change it; leave them out, or use "
                "estimator=elbo"
            )
        learning_rate(schedule, optimizer["lr"], 0)  # refuses an incomplete one
        check_free_bits(net, free_bits)
        self.net = net
        self.optimizer_settings, self.schedule = optimizer, schedule
        self.estimator, self.k = estimator, k
        self.beta, self.free_bits, self.warm_up = beta, free_bits, warm_up
        self.gradients = gradients
        names = ("loss", "elbo", "reconstruction", "kl")
        self.val_means = nn.ModuleDict({name: MeanMetric() for name in names})

    def setup(self, stage: str) -> None:
        """Refuse what several processes would compute otherwise than one.

        Raises:
            UsageError: for free bits.
        """
        check_processes(self.free_bits, self.trainer.world_size)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions without noise."""
        return self.net(x)

    @known_signature
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step, or those of a group, by `losses`."""
        return take_steps(self, batch, self.losses)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch, in nats per example."""
        loss = self._objective(batch, warm_up(self.global_step, self.warm_up)).loss
        if self.gradients == "sum":
            # The mean's value, and the gradient of the sum; processes average their gradients.
            n = len(batch.x) * _n_processes()
            loss = loss.detach() + (n * loss - (n * loss).detach())
        return {"loss": loss}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather `val/loss`, `val/elbo` and its parts over the whole split."""
        loss, log_likelihood, kl = self._objective(batch, 1.0)
        self.val_means["loss"].update(loss, len(batch.x))
        self.val_means["elbo"].update(log_likelihood - kl)
        self.val_means["reconstruction"].update(log_likelihood)
        self.val_means["kl"].update(kl)
        for name, metric in self.val_means.items():
            self.log(f"val/{name}", metric, on_epoch=True, prog_bar=name == "loss")

    def configure_optimizers(self):
        """The optimiser of the settings, over all parameters of the network."""
        return make_optimizer(self.net.parameters(), self.optimizer_settings)

    def on_train_epoch_start(self) -> None:
        """Set the epoch's learning rate; an epoch that is resumed has it from its checkpoint."""
        rate = learning_rate(self.schedule, self.optimizer_settings["lr"], self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def _objective(self, batch: Batch, weight: float) -> Objective:
        """The loss and its parts; `weight` is the warm-up's."""
        if batch.drawn is None:
            raise ValueError("a latent model is trained with augment=latent_noise, which draws ε")
        eps = eps_of(batch.drawn, self.k, self.net.n_noise, batch.x[0].numel())
        beta = self.beta * weight
        return objective(self.net, batch.x, eps, self.estimator, beta, self.free_bits)


def check_processes(free_bits: NonNegativeFloat, n: Positive) -> None:
    """Refuse free bits on several processes: each would hold the KL of its own share at the floor.

    Raises:
        UsageError: naming both.
    """
    if free_bits and n > 1:
        raise UsageError(
            f"model.free_bits={free_bits} is of the mean KL of the whole batch, and each of {n} "
            "processes sees a share of it; set trainer.devices=1 or model.free_bits=0"
        )


def _n_processes() -> int:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1
