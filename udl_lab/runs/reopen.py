"""A run folder, reopened: its model rebuilt from the checkpoint alone, its numbers as tables.

A calculation left numbers and pictures, and no model.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from lightning import LightningModule
from omegaconf import DictConfig
from torch import nn

from udl_lab.callbacks.embed_config import KEY
from udl_lab.data.resident import ResidentData
from udl_lab.errors import UsageError
from udl_lab.probes.subject import Subject
from udl_lab.runs import folder as folders
from udl_lab.runs.build import (
    as_config,
    build_data,
    build_model,
    build_net,
    load_checkpoint,
    with_last_weights,
)
from udl_lab.runs.folder import RunFolder
from udl_lab.runs.signature import refuse_foreign_targets
from udl_lab.runs.subject import subject_of


@dataclass(frozen=True)
class Run:
    """A reopened run.

    A calculation has its configuration, results, figures and record; all else is a UsageError.
    """

    folder: RunFolder
    config: DictConfig
    restored: LightningModule | None  # nothing, of a calculation
    checkpoint: Path

    @property
    def model(self) -> LightningModule:
        """The model with the weights of the checkpoint."""
        self._training()
        assert self.restored is not None
        return self.restored

    @property
    def net(self) -> nn.Module:
        """The trained network."""
        return self.model.net

    @cached_property
    def untrained(self) -> nn.Module:
        """The same network before its first step."""
        return build_net(self._training()).eval()

    @cached_property
    def last_weights(self) -> LightningModule | None:
        """The model with its last weights, if the run kept an average of them; else `None`."""
        config = self._training()
        content = load_checkpoint(str(self.checkpoint))
        return with_last_weights(content, lambda: build_model(config))

    @cached_property
    def data(self) -> ResidentData:
        """The run's data, read and split."""
        data = build_data(self._training())
        data.setup()
        return data

    @property
    def metrics(self) -> pd.DataFrame:
        """What was logged while training, a row per logged step."""
        self._training()
        return pd.read_csv(self.folder.metrics)

    @property
    def results(self) -> pd.DataFrame:
        """What was measured afterwards, a row per estimate, by its key."""
        rows = folders.read_json(self.folder.results)["rows"]
        return pd.DataFrame(rows).set_index("key", drop=False)

    @property
    def figures(self) -> dict[str, Path]:
        """The pictures' files, by name."""
        return {path.stem: path for path in sorted(self.folder.figures.glob("*.png"))}

    @property
    def record(self) -> dict[str, Any]:
        """How the run stands, and what it was run with."""
        return folders.read_json(self.folder.record)

    def subject(self) -> Subject:
        """What a measurement takes: the network, its untrained twin and the test split."""
        return subject_of(self.model, self.untrained, self.data, self.last_weights)

    def _training(self) -> DictConfig:
        """The configuration, if it is one of a training."""
        if "calculation" in self.config:
            raise UsageError(
                f"{self.folder.path} is a calculation, which trains nothing: it has no model, no "
                "data and no metrics; look at its results and figures"
            )
        return self.config


def load_run(path: Path | str, weights: Literal["best", "last"] | None = None) -> Run:
    """Reopen a run.

    Args:
        path: the run's folder.
        weights: which checkpoint; `None` for the one that the run itself measured. A calculation
            has none.

    Raises:
        UsageError: when there is no run, or its checkpoint cannot be opened safely.
    """
    folder = folders.reopen(str(path))
    written = as_config(folders.read_config(folder.config))
    if "calculation" in written:
        return Run(folder, written, None, folder.last)
    if weights is None:
        weights = folders.read_json(folder.record).get("weights", "last")
    checkpoint = folder.best if weights == "best" else folder.last
    config, model = load_model(checkpoint)
    return Run(folder, config, model, checkpoint)


def load_model(checkpoint: Path | str) -> tuple[DictConfig, LightningModule]:
    """The configuration in a checkpoint, and the model that it and the weights describe.

    Raises:
        UsageError: when the checkpoint is damaged, unsafe, or not one of the lab's.
    """
    content = load_checkpoint(str(checkpoint))
    if KEY not in content:
        raise UsageError(f"{checkpoint} holds no configuration; it is no checkpoint of this lab")
    config = as_config(content[KEY])
    refuse_foreign_targets(config)
    model = build_model(config)
    with torch.no_grad():
        model.load_state_dict(content["state_dict"])
    return config, model.eval()
