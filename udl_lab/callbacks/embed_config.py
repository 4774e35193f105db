"""A checkpoint that says how to rebuild its model."""

from typing import Any

import lightning as L

KEY = "udl_lab_config"


class EmbedConfig(L.Callback):
    """Writes the resolved configuration into every checkpoint, as plain data.

    Plain lists, dictionaries, numbers and strings are all that `torch.load(weights_only=True)`
    accepts, so a checkpoint that can be opened is one that cannot run code.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration to the checkpoint."""
        checkpoint[KEY] = self.config
