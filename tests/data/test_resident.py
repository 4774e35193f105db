"""The data module: what is split, normalised, shuffled and augmented, and what is left alone."""

from udl_lab.data.resident import ResidentData  # isort: skip  # repairs torchvision, for lightning

import lightning as L
import numpy as np
import pytest
import torch

from udl_lab.data.augment import Rotation
from udl_lab.data.digits import digits
from udl_lab.data.loader import Place
from udl_lab.data.source import Examples, Source, fingerprint
from udl_lab.errors import UsageError
from udl_lab.models.classifier import Classifier
from udl_lab.nets.fcn import FCN
from udl_lab.symmetry.rotation import rotate

MEAN, STD = 0.25, 0.5  # powers of two: normalisation is exact and can be undone


def numbered(root):
    """Example i is a constant image i / 64, of class i % 10: 64 for training and 16 for test."""
    i = torch.arange(80)
    x = (i / 64).reshape(80, 1, 1, 1).expand(80, 1, 8, 8).clone()
    return Source(Examples(x[:64], i[:64] % 10), Examples(x[64:], i[64:] % 10))


def make(source=numbered, **settings):
    usual = {"batch_size": 8, "n_validation": 16, "mean": MEAN, "std": STD, "seed": 0}
    return ResidentData(source, "", **(usual | settings))


def ready(**settings):
    data = make(**settings)
    data.setup()
    return data


def numbers(examples):
    """Which of the published examples these are."""
    return ((examples.x[:, 0, 0, 0] * STD + MEAN) * 64).round().long().tolist()


def test_nothing_is_read_before_setup_and_nothing_twice():
    reads = []
    data = make(lambda root: reads.append(root) or numbered(root))
    assert reads == []
    data.setup()
    data.setup("fit")
    assert reads == [""]


def test_training_and_validation_share_no_example_and_leave_none_out():
    data = ready()
    assert len(data.train.y) == 48
    assert len(data.validation.y) == 16
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(64))
    assert numbers(data.test) == list(range(64, 80))


def test_labels_stay_with_their_images():
    data = ready()
    for part in (data.train, data.validation, data.test):
        assert part.y.tolist() == [i % 10 for i in numbers(part)]


def test_the_split_is_the_same_for_every_seed_and_mixes_the_published_order():
    validation = numbers(ready(seed=0).validation)
    assert numbers(ready(seed=1).validation) == validation
    assert sorted(validation) not in (list(range(16)), list(range(48, 64)))


def test_the_training_examples_keep_the_published_order():
    assert numbers(ready().train) == sorted(numbers(ready().train))


def test_no_validation_leaves_every_training_example():
    data = ready(n_validation=0)
    assert numbers(data.train) == list(range(64))
    assert len(data.validation.y) == 0
    assert data.val_dataloader() == []


def test_n_train_takes_the_first_of_those_that_are_left():
    assert numbers(ready(n_train=10).train) == numbers(ready().train)[:10]
    assert numbers(ready(n_train=10).validation) == numbers(ready().validation)
    assert numbers(ready(n_train=48).train) == numbers(ready().train)


def test_inputs_are_normalised_everywhere_and_the_background_with_them():
    data = ready(n_validation=0)
    published = numbered("")
    for part, raw in ((data.train, published.train), (data.test, published.test)):
        assert torch.equal(part.x, (raw.x - MEAN) / STD)
    assert data.background == (0 - MEAN) / STD
    assert data.train.x[0, 0, 0, 0] == data.background  # example 0 is all empty


def test_the_mean_and_deviation_of_normalised_digits_are_0_and_1():
    data = ready(source=digits, n_validation=0, mean=0.1556, std=0.2774)
    x = data.train.x.double()
    # The constants are rounded to 4 digits: .5e-4 / .2774 each.
    assert abs(x.mean()) < 2e-4
    assert abs(x.std() - 1) < 2e-4


def test_shuffled_inputs_permute_the_inputs_and_leave_the_labels():
    data, plain = ready(shuffled_inputs=20), ready()
    assert torch.equal(data.train.y, plain.train.y)
    assert sorted(numbers(data.train)[:20]) == sorted(numbers(plain.train)[:20])
    assert numbers(data.train)[:20] != numbers(plain.train)[:20]
    assert numbers(data.train)[20:] == numbers(plain.train)[20:]


def test_shuffled_inputs_leave_the_clean_examples_and_the_other_splits_alone():
    data, plain = ready(shuffled_inputs=20), ready()
    for name in ("clean_train", "validation", "test"):
        assert fingerprint(getattr(data, name)) == fingerprint(getattr(plain, name))
    assert fingerprint(plain.train) == fingerprint(plain.clean_train)


def test_shuffled_inputs_depend_on_the_seed():
    assert numbers(ready(shuffled_inputs=20, seed=0).train) == numbers(
        ready(shuffled_inputs=20, seed=0).train
    )
    assert numbers(ready(shuffled_inputs=20, seed=0).train) != numbers(
        ready(shuffled_inputs=20, seed=1).train
    )


def test_legacy_shuffled_inputs_are_the_homeworks_whatever_the_seed():
    data = ready(shuffled_inputs=20, n_validation=0, order="legacy", seed=7)
    images = np.arange(64)
    perm = np.random.RandomState(0).permutation(20)
    images[:20] = images[perm]
    assert numbers(data.train) == images.tolist()


def test_the_fingerprints_are_those_of_the_splits():
    data = ready(shuffled_inputs=20)
    assert data.fingerprints() == {
        name: fingerprint(getattr(data, name)) for name in ("train", "validation", "test")
    }
    assert data.fingerprints()["train"] != ready().fingerprints()["train"]


@pytest.mark.parametrize(
    "settings",
    [
        {"n_validation": 64},
        {"n_validation": 63, "n_train": 2},
        {"n_validation": 0, "n_train": 65},
        {"n_validation": 50, "shuffled_inputs": 20},
    ],
)
def test_splits_that_need_more_examples_than_there_are_are_refused(settings):
    with pytest.raises(UsageError, match="more than the 64 training examples") as caught:
        ready(**settings)
    for name, value in settings.items():
        assert f"data.{name}={value}" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_validation": 63},
        {"n_validation": 63, "n_train": 1},
        {"n_validation": 0, "n_train": 64},
        {"n_validation": 44, "shuffled_inputs": 20},
        {"n_train": 20, "shuffled_inputs": 20},
    ],
)
def test_splits_that_need_exactly_what_there_is_are_accepted(settings):
    assert len(ready(**settings).train.y) > 0


def test_shuffling_more_inputs_than_are_trained_on_is_refused():
    with pytest.raises(UsageError, match=r"data\.shuffled_inputs=20 is more than data\.n_train=10"):
        ready(n_train=10, shuffled_inputs=20)


def devices(n):
    """A trainer of n processes, which it starts only when it fits."""
    return L.Trainer(
        accelerator="cpu",
        devices=n,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def test_a_last_batch_that_the_devices_cannot_share_is_refused():
    data = make(n_validation=15)  # 49 = 6 · 8 + 1
    data.trainer = devices(2)
    with pytest.raises(UsageError, match=r"has 1 examples, which 2 devices") as caught:
        data.setup()
    assert "data.n_train=48" in str(caught.value)
    make(n_validation=15, n_train=48).setup()


def test_a_last_batch_is_checked_even_if_the_data_were_read_before_there_was_a_trainer():
    data = make(n_validation=15)
    data.setup()
    data.trainer = devices(2)
    with pytest.raises(UsageError, match="2 devices"):
        data.setup()


def test_the_remedy_for_the_last_batch_is_accepted():
    for n_validation in (15, 14, 13):
        data = make(n_validation=n_validation, batch_size=6)
        data.trainer = devices(3)
        last = (64 - n_validation) % 6
        if last % 3 == 0:
            data.setup()
            continue
        with pytest.raises(UsageError) as caught:
            data.setup()
        n_train = int(str(caught.value).rpartition("=")[2])
        cured = make(n_validation=n_validation, batch_size=6, n_train=n_train)
        cured.trainer = data.trainer
        cured.setup()
        assert n_train > 64 - n_validation - 3


def test_outside_a_trainer_the_loaders_begin_the_first_epoch():
    batches = list(ready().train_dataloader())
    assert sorted(i for batch in batches for i in numbers(batch)) == numbers(ready().train)


class Watch(L.Callback):
    """Keeps every batch that reached the network."""

    def __init__(self):
        self.train, self.validation = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train.append((trainer.current_epoch, batch))

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ):
        self.validation.append((trainer.current_epoch, batch))


@pytest.fixture
def fitted(make_trainer):
    """The data and every batch of two epochs of a real fit on 100 digits."""
    data = make(
        source=digits,
        batch_size=32,
        n_validation=1200,
        n_train=100,
        mean=0.1556,
        std=0.2774,
        augment=Rotation(),
    )
    watch = Watch()
    model = Classifier(FCN([1, 28, 28], 10), 10, {"name": "sgd", "lr": 0.1})
    make_trainer(watch, max_epochs=2).fit(model, data)
    return data, watch


def test_a_fit_sees_each_training_example_once_an_epoch_in_another_order(fitted):
    data, watch = fitted
    assert [len(batch.y) for _, batch in watch.train] == [32, 32, 32, 4] * 2
    epochs = [torch.cat([b.y for e, b in watch.train if e == epoch]) for epoch in (0, 1)]
    assert torch.equal(epochs[0].sort().values, data.train.y.sort().values)
    assert torch.equal(epochs[1].sort().values, data.train.y.sort().values)
    assert not torch.equal(*epochs)


def test_a_fit_transforms_training_batches_by_the_recorded_parameters(fitted):
    data, watch = fitted
    for epoch in (0, 1):
        data.trainer = None  # the loader alone, without the fit
        plain = data.train_dataloader()
        plain.place = lambda epoch=epoch: Place(epoch=epoch)
        for (_, seen), batch in zip(
            [pair for pair in watch.train if pair[0] == epoch], plain, strict=True
        ):
            assert torch.equal(seen.drawn, batch.drawn)
            turned = rotate(batch.x, batch.drawn, "nearest", data.background)
            assert torch.equal(seen.x, turned)
            assert not torch.equal(seen.x, batch.x)


def test_a_fit_leaves_validation_images_as_they_are_and_in_order(fitted):
    data, watch = fitted
    for epoch in (0, 1):
        seen = [batch for e, batch in watch.validation if e == epoch]
        assert [len(batch.y) for batch in seen] == [1000, 200]
        assert torch.equal(torch.cat([batch.x for batch in seen]), data.validation.x)
        assert torch.equal(torch.cat([batch.y for batch in seen]), data.validation.y)
        assert all(batch.drawn is None for batch in seen)


def test_the_tensors_themselves_are_not_augmented(fitted):
    data, _ = fitted
    fresh = make(source=digits, n_validation=1200, n_train=100, mean=0.1556, std=0.2774)
    fresh.setup()
    assert data.fingerprints() == fresh.fingerprints()
