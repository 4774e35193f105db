"""What the measurements of a run are made on."""

import lightning as L
from torch import nn

from udl_lab.data.resident import ResidentData
from udl_lab.models.diffusion import Diffusion
from udl_lab.probes.subject import Subject


def subject_of(
    model: L.LightningModule,
    untrained: nn.Module,
    data: ResidentData,
    unaveraged: L.LightningModule | None,
) -> Subject:
    """The network, its untrained twin and the data, and for a denoiser the denoiser.

    Args:
        model: with the weights to measure.
        untrained: the network before its first step.
        data: read and split.
        unaveraged: the model with its last weights, where `model` has an average of them.
    """
    return Subject(
        model.net,
        untrained,
        data.test,
        data.background,
        data.train,
        model.denoiser() if isinstance(model, Diffusion) else None,
        unaveraged.denoiser() if isinstance(unaveraged, Diffusion) else None,
    )
