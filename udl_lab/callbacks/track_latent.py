"""A latent model watched while it learns: its bound, and which of its latents it gives up."""

from typing import Any

import lightning as L
import pandas as pd

from udl_lab.probes.latent_bounds import latent_model, look, n_active
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator
from udl_lab.ranges import Positive

OF_UNIT = "latent/kl_unit"  # and the number of the latent


class TrackLatent(L.Callback):
    """Logs, after every n-th epoch, what `LatentBounds` says of the test split in the end.

    On the validation split, with the same pixels and noise after each epoch: `latent/elbo`,
    `latent/rate`, `latent/distortion` in nats per example, `latent/active_units` (by layer if there
    are two) and, where each latent's KL has a closed form, `latent/kl_unit07`, …. Measured after
    the validation, with the weights that are validated (an average, if kept); without a validation
    split nothing is.
    """

    def __init__(self, every_n_epochs: Positive = 1) -> None:
        """Say how often."""
        self.every_n_epochs = every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure after the last batch, in the main process.

        Not at the end of the epoch, when an average may have been taken out of the module again.
        """
        due = not (trainer.current_epoch + 1) % self.every_n_epochs
        if trainer.sanity_checking or not due or not trainer.is_global_zero:
            return
        if batch_idx + 1 == trainer.num_val_batches[dataloader_idx]:
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


def kl_by_epoch(metrics: pd.DataFrame) -> pd.DataFrame:
    """The KL of each latent in nats, a row per epoch (from 1) and a column per latent (from 0).

    Args:
        metrics: a run's `metrics.csv`; without what `TrackLatent` logs the table is empty.
    """
    columns = sorted(c for c in metrics.columns if c.startswith(OF_UNIT))
    table = metrics[["epoch", *columns]].dropna() if columns else pd.DataFrame({"epoch": []})
    table = table.set_index(table.pop("epoch").astype(int) + 1)
    return table.rename(columns={c: int(c.removeprefix(OF_UNIT)) for c in columns}).sort_index(
        axis=1
    )
