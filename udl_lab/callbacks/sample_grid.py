"""Samples on the way: a grid of images from the same noise after every few epochs."""

from pathlib import Path
from typing import Any

import lightning as L

from udl_lab.diffusion.samplers import draw_prior
from udl_lab.diffusion.walks import DDIM, Walk, end
from udl_lab.figures.examples import draw_examples
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


class SampleGrid(L.Callback):
    """Draws samples after validation, with the weights that are validated (an average, if kept).

    Writes `figures/samples_epoch<k>.png` into the run's folder and gives the picture to W&B if it
    listens. The noise is the same each time and for every run, so pictures compare. Without a
    validation split nothing is drawn.
    """

    def __init__(
        self, sampler: Walk | None = None, n: Positive = 64, every_n_epochs: Positive = 1
    ) -> None:
        """Say what to draw.

        Args:
            sampler: which; DDIM with 20 steps, or as many as there are levels, if `None`.
            n: samples.
            every_n_epochs: how often.
        """
        self.sampler = sampler
        self.n = n
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
        """Draw after the last batch, in the main process.

        Not at the end of the epoch, when an average may have been taken out of the module again.
        """
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or epoch % self.every_n_epochs or not trainer.is_global_zero:
            return
        if batch_idx + 1 == trainer.num_val_batches[dataloader_idx]:
            self._draw(trainer, pl_module, epoch)

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, epoch: int) -> None:
        denoiser = pl_module.denoiser()
        sampler = self.sampler or DDIM(min(20, denoiser.schedule.n_steps))
        noise = draw_prior(self.n, tuple(denoiser.net.in_shape), generator(0, "sample grid"))
        stream = generator(0, "sample grid", "steps")
        with evaluating(denoiser.net):
            x = end(sampler, denoiser, noise.to(pl_module.device), stream)
        figure = draw_examples(x.cpu(), f"epoch {epoch}, {sampler.label}")
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"samples_epoch{epoch:03d}.png", dpi=130)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("samples", [str(folder / f"samples_epoch{epoch:03d}.png")])
