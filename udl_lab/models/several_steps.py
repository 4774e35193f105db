"""Several optimiser steps in one call of `training_step`: the same numbers, in less time.

Around every call Lightning runs about forty hooks and contexts, .3 to .8 ms, which is more than a
small network's whole step. Where nothing looks at single steps, the lab hands it ten batches as one
and takes the ten steps inside. The weights and the rows of the logs are those of single steps, bit
for bit; a signal waits until the group is done.
"""

from collections.abc import Callable, Iterable

import lightning as L
import torch
from torch import Tensor

from udl_lab.data.loader import Batch

_GROUP = 10  # a group of 128 MNIST images each is 4 MB, which the cache still holds

# What sees, or changes, a single step: whoever overrides one of these must get every one of them.
_STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_batch_transfer",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
)


def steps_per_call(
    trainer: L.Trainer, model: L.LightningModule, callbacks: Iterable[L.Callback] = ()
) -> int:
    """How many steps a call may take: one where something counts, watches or alters single ones.

    Args:
        trainer: its limits, clipping, accumulation, precision and devices are looked at.
        model: the module to train; a class attribute `takes_groups` says that its `training_step`
            calls `take_steps`.
        callbacks: the callbacks that may watch steps; the lab's own know of groups.
    """
    plain = (
        getattr(model, "takes_groups", False)
        and trainer.world_size == 1
        and trainer.precision in ("32-true", "64-true")
        and not trainer.gradient_clip_val
        and trainer.accumulate_grad_batches == 1
        and trainer.max_steps == -1
        and trainer.min_steps is None
        and trainer.limit_train_batches == 1.0
        and trainer.val_check_interval == 1.0
        and not trainer.overfit_batches
        and not trainer.fast_dev_run
    )
    watched = _overrides(type(model), L.LightningModule) or any(
        _overrides(type(callback), L.Callback) for callback in callbacks
    )
    # A row of the log is a mean over whole groups: they must fill it.
    return _GROUP if plain and not watched and trainer.log_every_n_steps % _GROUP == 0 else 1


def _overrides(cls: type, base: type) -> bool:
    return any(getattr(cls, hook, None) is not getattr(base, hook, None) for hook in _STEP_HOOKS)


def take_steps(
    module: L.LightningModule, batch: Batch, losses: Callable[[Batch], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """A `training_step` of one step or of several.

    With automatic optimisation Lightning takes the step, and these are its numbers. With manual
    optimisation the batch is a group: every batch of it is a step that is taken here, and the
    numbers of each are stacked.

    Args:
        module: attached to a trainer, with one optimiser.
        batch: one batch, or a group of those of the data module's size.
        losses: the numbers of one batch: `loss`, and others to log.
    """
    if module.automatic_optimization:
        return losses(batch)
    # The optimiser itself: Lightning's wrapper costs as much a step as the hooks saved here.
    optimizer = module.optimizers().optimizer  # type: ignore[union-attr]  # one, and not a list
    # What `trainer.global_step` counts where the module takes its steps itself.
    loop = module.trainer.fit_loop.epoch_loop
    taken = loop.manual_optimization.optim_step_progress
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    rows = []
    for step in batch.split(module.trainer.datamodule.batch_size):
        for weight in parameters:  # `zero_grad` without its profiling
            weight.grad = None
        numbers = losses(step)
        taken.increment_ready()
        numbers["loss"].backward()
        optimizer.step()
        taken.increment_completed()
        rows.append({name: number.detach() for name, number in numbers.items()})
    loop._batches_that_stepped += len(rows) - 1  # what the loggers call the step; it adds 1 itself
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
