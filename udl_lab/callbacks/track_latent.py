"""A latent model watched while it learns: its bound, and which of its latents it gives up."""

from typing import Any

import lightning as L

from udl_lab.callbacks.after_validation import AfterValidation
from udl_lab.probes.latent_bounds import latent_model, look, n_active
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator

OF_UNIT = "latent/kl_unit"  # and the number of the latent


class TrackLatent(AfterValidation):
    """Logs, after every n-th epoch, what `LatentBounds` says of the test split in the end.

    On the validation split, with the same pixels and noise after each epoch: `latent/elbo`,
    `latent/rate`, `latent/distortion` in nats per example, `latent/active_units` (by layer if there
    are two) and, where each latent's KL has a closed form, `latent/kl_unit07`, …. Measured after
    the validation, with the weights that are validated (an average, if kept); without a validation
    split nothing is.
    """

    def act(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, and log to all loggers."""
        values = self._measure(pl_module, trainer.datamodule.validation.x)
        values["epoch"] = trainer.current_epoch
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _measure(self, pl_module: L.LightningModule, x: Any) -> dict[str, float]:
        net = latent_model(pl_module.net)
        with evaluating(net):
            seen = look(net, x, generator(0, "tracked latents"))
        values = {
            "latent/elbo": float(seen.elbo.mean()),
            "latent/rate": float(seen.kl.mean()),
            "latent/distortion": -float(seen.log_likelihood.mean()),
        }
        for layer, activity in seen.activity.items():
            name = f"latent/active_units_{layer}" if layer else "latent/active_units"
            values[name] = n_active(activity)
        kls = [] if seen.kl_per_unit is None else seen.kl_per_unit.tolist()
        return values | {f"{OF_UNIT}{i:02d}": kl for i, kl in enumerate(kls)}
