"""Training a network to denoise."""

import lightning as L
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import MeanMetric

from udl_lab.data.loader import Batch
from udl_lab.data.noise import drawn
from udl_lab.diffusion.learned import Learned, split_output
from udl_lab.diffusion.objectives import (
    Weighting,
    level_at,
    loss_weight,
    target_errors,
)
from udl_lab.diffusion.process import Kind, against, diffuse, predict
from udl_lab.diffusion.schedule import Schedule
from udl_lab.diffusion.variational_bound import learned_variance_term
from udl_lab.models.lean import known_signature, set_attribute
from udl_lab.models.optimizer import OptimizerSettings, make_optimizer
from udl_lab.models.several_steps import take_steps
from udl_lab.ranges import Positive, PositiveFloat, UnitInterval

_N_BANDS = 10  # of levels, whose losses are logged apart, where there are so many levels
_OF_BOUND = 1e-3  # Nichol & Dhariwal 2021, eq. 16: λ of the hybrid loss


class Diffusion(L.LightningModule):
    """The weighted squared error of the target, averaged over dimensions, levels and the batch.

    Levels and noise come with the batch, from `augment=noise`. A network with two outputs learns a
    variance as well, by the whole bound in nats per dimension (T times the term of its level),
    with weight .001 and its mean held still.
    """

    __setattr__ = set_attribute
    takes_groups = True
    loss_name = "loss"

    def __init__(
        self,
        net: nn.Module,
        schedule: Schedule,
        optimizer: OptimizerSettings,
        kind: Kind = "eps",
        weighting: Weighting = "simple",
        gamma: PositiveFloat = 5.0,
        drop_labels: UnitInterval = 0.0,
    ) -> None:
        """Take the network and say how it is trained.

        Args:
            net: called with x_t and t/T, and with labels if it has an attribute `n_classes`.
            schedule: the levels.
            optimizer: see `OptimizerSettings`.
            kind: what the network predicts.
            weighting: see `loss_weight`.
            gamma: of `min_snr`.
            drop_labels: the share of labels left out, for classifier-free guidance.

        Raises:
            ValueError: for a network that takes no level, labels to drop where there are none, none
                to drop where there are labels, a schedule of one level, or the noise as the target
                of one that ends in nothing else.
        """
        super().__init__()
        if not getattr(net, "takes_level", False):
            raise ValueError(
                f"{type(net).__name__} is no denoiser, it takes no level; use net=time_mlp for "
                "vectors, net=unet for images, net=unet1d for signals"
            )
        if drop_labels and not _n_classes(net):
            raise ValueError(f"drop_labels={drop_labels}, and the network has none; set n_classes")
        if _n_classes(net) and not 0 < drop_labels < 1:
            raise ValueError(
                f"drop_labels={drop_labels}, and the network has labels: measurements ask it "
                "without one, and guidance asks both ways; set drop_labels=0.1"
            )
        if schedule.n_steps < 2:
            raise ValueError("a schedule of 1 level leaves no walk to learn; take n_steps >= 2")
        if kind == "eps" and schedule.alpha_bar[-1] == 0:
            raise ValueError(
                f"kind=eps with the schedule {schedule.name!r}, whose last level is pure noise: ε "
                "would say nothing of x_0 there; use kind=v or kind=x0"
            )
        self.net = net
        self.schedule = schedule
        self.kind = kind
        self.weighting = weighting
        self.gamma = gamma
        self.drop_labels = drop_labels
        self.optimizer_settings = optimizer
        self.val_loss = MeanMetric()
        n_bands = min(_N_BANDS, schedule.n_steps)
        self.val_bands = nn.ModuleList(MeanMetric() for _ in range(n_bands))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The network's outputs for noisy examples, levels as shares of T, and labels."""
        return self.net(x, t, y)

    @known_signature
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step, or those of a group, by `losses`."""
        return take_steps(self, batch, self.losses)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch."""
        return {"loss": self._errors(batch)[1].mean()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather `val/loss` and its part in ten bands of levels."""
        t, errors = self._errors(batch)
        self.val_loss.update(errors)
        self.log("val/loss", self.val_loss, on_epoch=True, prog_bar=True)
        band = (t - 1) * len(self.val_bands) // self.schedule.n_steps
        for i, metric in enumerate(self.val_bands):
            metric.update(errors[band == i])
            self.log(f"val/loss_band{i}", metric, on_epoch=True)

    def denoiser(
        self,
        labels: Int[Tensor, " batch"] | None = None,
        guidance: float = 0.0,
        batch_size: Positive = 500,
    ) -> Learned:
        """The network as samplers want it."""
        return Learned(
            self.net, self.schedule, self.kind, labels, guidance, _n_classes(self.net), batch_size
        )

    def configure_optimizers(self):
        """The optimiser of the settings, over all parameters of the network."""
        return make_optimizer(self.net.parameters(), self.optimizer_settings)

    def _errors(self, batch: Batch) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
        """The level of each example and its weighted error."""
        if batch.drawn is None:
            raise ValueError("a denoiser is trained with augment=noise, which draws the noise")
        schedule, x0, chance = self.schedule, batch.x, drawn(batch.drawn, batch.x)
        t = level_at(chance.level, schedule.n_steps)
        y = None
        if n_classes := _n_classes(self.net):
            y = torch.where(chance.keep < self.drop_labels, n_classes, batch.y)
        x_t = diffuse(schedule, x0, t, chance.eps)
        output, between = split_output(self.net(x_t, (t / schedule.n_steps).to(x0), y), x0.ndim)
        errors = target_errors(schedule, self.kind, output, x0, t, chance.eps)
        weight = loss_weight(schedule, self.kind, self.weighting, t, self.gamma)
        errors = against(weight, errors) * errors
        if between is not None:
            said = predict(schedule, self.kind, output, x_t, t)._replace(between=between)
            nats = learned_variance_term(schedule, said, x0, x_t, t)
            errors = errors + _OF_BOUND * schedule.n_steps * nats / x0[0].numel()
        return t, errors


def _n_classes(net: nn.Module) -> int | None:
    return getattr(net, "n_classes", None)
