"""Samples on the way: a grid of images from the same noise after every few epochs."""

from pathlib import Path

import lightning as L

from udl_lab.callbacks.after_validation import AfterValidation
from udl_lab.diffusion.samplers import draw_prior
from udl_lab.diffusion.walks import DDIM, Walk, end
from udl_lab.figures.examples import draw_examples
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


class SampleGrid(AfterValidation):
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
        super().__init__(every_n_epochs)
        self.sampler = sampler
        self.n = n

    def act(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, write the picture, and hand it to the loggers that take pictures."""
        epoch = trainer.current_epoch + 1
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
