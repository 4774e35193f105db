"""The learning rate of an epoch, as a function of the epoch alone: nothing to save and restore."""

import math
from typing import Literal, Required

from pydantic import ConfigDict
from typing_extensions import TypedDict

from udl_lab.ranges import NonNegative, Positive, PositiveFloat


class ScheduleSettings(TypedDict, total=False):
    """What `schedule:` may say; `last_lr` and `epochs` are of `cosine`."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    name: Required[Literal["constant", "cosine", "burda2015"]]
    last_lr: PositiveFloat
    epochs: Positive


def learning_rate(
    schedule: ScheduleSettings, lr: PositiveFloat, epoch: NonNegative
) -> PositiveFloat:
    """The rate of an epoch, counted from 0.

    - `constant`: lr.
    - `cosine`: half a cosine from lr to `last_lr` in `epochs`, each with the value in its middle,
      and `last_lr` afterwards.
    - `burda2015`: stages i = 1, 2, … of 3^(i − 1) epochs at lr · round(10^(1 − (i − 1)/7), 1), that
      is 10, 7.2, 5.2, 3.7, 2.7, 1.9, 1.4, 1 times lr, where eight stages end after 3,280 epochs
      (Burda et al. 2016, section 5, with lr = 1e-4); lr afterwards.

    Raises:
        ValueError: for a cosine that does not say where and when it ends.
    """
    if schedule["name"] == "constant":
        return lr
    if schedule["name"] == "burda2015":
        stage = next(i for i in range(1, epoch + 3) if epoch < (3**i - 1) // 2)
        return lr * round(10 ** (1 - (min(stage, 8) - 1) / 7), 1)
    if "last_lr" not in schedule or "epochs" not in schedule:
        raise ValueError(
            f"model.schedule={dict(schedule)}: a cosine needs last_lr and epochs, such as "
            "epochs=${trainer.max_epochs}"
        )
    if epoch >= schedule["epochs"]:
        return schedule["last_lr"]
    share = (epoch + 0.5) / schedule["epochs"]
    return schedule["last_lr"] + (lr - schedule["last_lr"]) * (1 + math.cos(math.pi * share)) / 2
