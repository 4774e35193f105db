"""The lab's data module: one tensor per split, on the training device, in whole batches."""

from collections.abc import Callable
from typing import Literal

import lightning as L
import numpy as np
import torch

from udl_lab.data.latent_noise import LatentNoise
from udl_lab.data.loader import (
    Augmentation,
    Batch,
    Place,
    ResidentLoader,
    legacy_order,
    named_order,
)
from udl_lab.data.noise import Noise
from udl_lab.data.source import Examples, Source, fingerprint
from udl_lab.errors import UsageError
from udl_lab.randomness import generator
from udl_lab.ranges import NonNegative, Positive, PositiveFloat


class ResidentData(L.LightningDataModule):
    """Normalised, split once, shuffled and augmented from named random streams."""

    def __init__(
        self,
        source: Callable[[str], Source],
        root: str,
        batch_size: Positive,
        n_validation: NonNegative,
        mean: float,
        std: PositiveFloat,
        seed: int,
        n_train: Positive | None = None,
        order: Literal["named", "legacy", "file"] = "named",
        shuffled_inputs: NonNegative = 0,
        augment: Augmentation | None = None,
        copies: Positive = 1,
    ) -> None:
        """Describe the data; nothing is read before `setup`.

        Args:
            source: a function of `root` that returns the published arrays.
            root: the folder of the data sets that have files.
            batch_size: examples per step over all devices together.
            n_validation: training examples set aside, the same ones for every seed; 0 for none.
            mean: subtracted from the inputs.
            std: divides the inputs afterwards.
            seed: of the order, the augmentation and the shuffled inputs.
            n_train: use only the first so many of the training examples that are left; all if
                `None`.
            order: `named` permutes anew each epoch from the lab's streams; `legacy` repeats the
                JAX homework's `RandomState(0)`; `file` does not shuffle.
            shuffled_inputs: the inputs of the first so many training examples are permuted among
                themselves, which leaves their labels wrong. The true ones stay in `clean_train`.
            augment: acts on training batches only; but a `LatentNoise` draws the pixels of the
                other splits too, once.
            copies: an epoch shows each training example so many times, augmented each time anew:
                small sets have epochs of the length of large ones.
        """
        super().__init__()
        self.source = source
        self.root = root
        self.batch_size = batch_size
        self.n_validation = n_validation
        self.mean, self.std = mean, std
        self.background = (0.0 - mean) / std  # what an empty pixel becomes
        self.seed = seed
        self.n_train = n_train
        self.order = {"named": named_order(seed), "legacy": legacy_order, "file": None}[order]
        self.legacy = order == "legacy"
        self.shuffled_inputs = shuffled_inputs
        self.augment = augment
        self.copies = copies
        self.group = 1  # batches that one `training_step` gets; see `models.several_steps`
        self._read = False

    def setup(self, stage: str | None = None) -> None:
        """Read, check, normalise and split; a second call reads nothing again.

        Raises:
            UsageError: when the files cannot be used, a split would be empty, or the devices of the
                trainer cannot share the last batch.
        """
        if not self._read:
            self._prepare()
            self._read = True
        if self.trainer is not None:
            self.check_last_batch(self.trainer.world_size)

    def _prepare(self) -> None:
        published = self.source(self.root)
        train, test = (Examples((part.x - self.mean) / self.std, part.y) for part in published)
        if isinstance(self.augment, LatentNoise):
            test = test._replace(x=self.augment.pinned(test.x, "test"))
            if self.augment.binarise == "fixed":
                train = train._replace(x=self.augment.pinned(train.x, "train"))
        n = len(train.y)
        if self.n_validation + max(self.shuffled_inputs, self.n_train or 1) > n:
            raise UsageError(
                f"data.n_validation={self.n_validation}, data.n_train={self.n_train} and "
                f"data.shuffled_inputs={self.shuffled_inputs} need more than the {n:,} training "
                "examples there are; lower one of them"
            )
        if self.n_train is not None and self.shuffled_inputs > self.n_train:
            raise UsageError(
                f"data.shuffled_inputs={self.shuffled_inputs} is more than "
                f"data.n_train={self.n_train}; use at most {self.n_train}"
            )
        if self.n_validation:
            mixed = torch.randperm(n, generator=generator(0, "validation split"))
            validation = train.rows(mixed[: self.n_validation])
            if isinstance(self.augment, LatentNoise):
                validation = validation._replace(x=self.augment.pinned(validation.x, "validation"))
            train = train.rows(mixed[self.n_validation :].sort().values)
        else:
            validation = train.rows(slice(0, 0))
        self.clean_train = train.rows(slice(0, self.n_train))
        self.train = self._shuffle_inputs(self.clean_train)
        self.validation, self.test = validation, test

    def _shuffle_inputs(self, train: Examples) -> Examples:
        n = self.shuffled_inputs
        if n == 0:
            return train
        if self.legacy:
            mixed = torch.from_numpy(np.random.RandomState(0).permutation(n))
        else:
            mixed = torch.randperm(n, generator=generator(self.seed, "shuffled inputs"))
        return Examples(torch.cat([train.x[:n][mixed], train.x[n:]]), train.y)

    def check_last_batch(self, devices: int) -> None:
        """Equal shares on every device, or the mean of their gradients is not the batch's.

        Raises:
            UsageError: when the devices cannot share the last batch.
        """
        shown = len(self.train.y) * self.copies
        last = shown % self.batch_size
        if last % devices:
            raise UsageError(
                f"the last batch of {shown:,} examples in batches of "
                f"{self.batch_size} has {last} examples, which {devices} devices cannot share "
                f"equally; set data.n_train={len(self.train.y) - len(self.train.y) % devices}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps, whatever their grouping."""
        return -(-len(self.train.y) * self.copies // self.batch_size)

    def fingerprints(self) -> dict[str, str]:
        """The identity of each split, for the record of the run."""
        return {name: fingerprint(getattr(self, name)) for name in ("train", "validation", "test")}

    def train_dataloader(self) -> ResidentLoader:
        """Shuffled, augmented batches of the training split."""
        examples = self._on_device(self.train)
        if self.copies > 1:
            examples = Examples(*(torch.cat([part] * self.copies) for part in examples))
        return ResidentLoader(
            examples,
            self.batch_size,
            self.order,
            self.augment,
            self.seed,
            self._place,
            self.group,
        )

    def val_dataloader(self) -> ResidentLoader | list[ResidentLoader]:
        """The validation split in its own order, or nothing when it is empty.

        For a denoiser or a latent model with its noise, the same after every epoch and for every
        seed.
        """
        if not len(self.validation.y):
            return []
        return ResidentLoader(
            self._on_device(self.validation),
            1000,
            augmentation=self.augment if isinstance(self.augment, Noise | LatentNoise) else None,
            place=lambda: self._place()._replace(epoch=0, batches_done=0),
            stream="validation noise",
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Transform the whole batch, on its device, by the parameters drawn for it."""
        if batch.drawn is None:
            return batch
        x = self.augment(batch.x, batch.drawn, self.background)
        return batch._replace(x=x)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Do nothing for a resident batch: walking its fields costs more than a small step."""
        return (
            batch
            if batch.x.device == device
            else super().transfer_batch_to_device(batch, device, dataloader_idx)
        )

    def _on_device(self, examples: Examples) -> Examples:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return Examples(*(tensor.to(device) for tensor in examples))

    def _place(self) -> Place:
        if self.trainer is None:
            return Place()
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return Place(
            self.trainer.current_epoch, done, self.trainer.global_rank, self.trainer.world_size
        )
