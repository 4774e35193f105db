"""Optimisers from plain dictionaries, so that a checkpoint holds nothing but plain values."""

from collections.abc import Iterable
from functools import partial
from typing import Literal, Required

import torch
from pydantic import ConfigDict
from torch import nn
from typing_extensions import TypedDict

from udl_lab.models.burda_adam import Burda2015Adam
from udl_lab.ranges import Fraction, NonNegativeFloat, PositiveFloat


class OptimizerSettings(TypedDict, total=False):
    """What `optimizer:` may say. What is left out takes torch's default."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    name: Required[Literal["sgd", "adam", "adamw", "burda2015"]]
    lr: Required[PositiveFloat]
    momentum: Fraction
    nesterov: bool
    weight_decay: NonNegativeFloat
    betas: tuple[Fraction, Fraction]
    eps: PositiveFloat


_CLASSES = {
    "sgd": torch.optim.SGD,
    # The same update in one call: of a small network's step it saves a millisecond.
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "burda2015": Burda2015Adam,
}


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """Build the optimiser that the settings name.

    Raises:
        ValueError: when a setting is none of that optimiser's.
    """
    arguments = {key: value for key, value in settings.items() if key != "name"}
    try:
        return _CLASSES[settings["name"]](parameters, **arguments)
    except TypeError as error:
        raise ValueError(
            f"model.optimizer: {settings['name']} does not take one of "
            f"{sorted(arguments)} ({error})"
        ) from error
