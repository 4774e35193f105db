"""A symmetry measured while a network learns: when does it appear, and in which layer?"""

import math

import lightning as L

from udl_lab.probes.layerwise import Layerwise
from udl_lab.probes.subject import Subject
from udl_lab.ranges import Positive


class TrackSymmetry(L.Callback):
    """Logs `probe/<metric>/<site>[@element]` of a `Layerwise` report after every n-th epoch.

    On the validation split, or on the training split without augmentation where there is none;
    never on the test split. The trained network alone: its untrained control is in the run's
    results. In a distributed run every process measures its share of the images.
    """

    def __init__(self, measurement: Layerwise, every_n_epochs: Positive = 1) -> None:
        """Say what is measured, and how often."""
        self.measurement = measurement
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, in all processes together, and log once."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        data = trainer.datamodule
        examples = data.validation if len(data.validation.y) else data.train
        subject = Subject(pl_module.net, pl_module.net, examples, data.background)
        rows = self.measurement.measure(subject, {"": pl_module.net}, shared=True)
        values = {
            f"probe/{row.key.lstrip('/')}": row.estimate
            for row in rows
            if row.metric != "index_channel" and not math.isnan(row.estimate)
        }
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(
                    values | {"epoch": trainer.current_epoch}, step=trainer.global_step
                )
