"""Samples are drawn while a denoiser learns, and the learning is not disturbed."""

from udl_lab.callbacks.sample_grid import SampleGrid  # isort: skip  # first

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from udl_lab.data.law_samples import law_samples
from udl_lab.data.noise import Noise
from udl_lab.data.resident import ResidentData
from udl_lab.diffusion.schedule import cosine
from udl_lab.diffusion.walks import DDIM
from udl_lab.models.diffusion import Diffusion
from udl_lab.nets.time_mlp import TimeMLP
from udl_lab.randomness import seeded


class Watched:
    """A sampler that notes the weights it is given, the noise it starts from and where it ends."""

    steps, spacing, label, random = 3, "trailing", "watched", True

    def __init__(self):
        self.weights, self.starts, self.ends = [], [], []

    def along(self, denoiser, plan, x, generator):
        self.weights.append(denoiser.net.mlp.output.weight.clone())
        self.starts.append(x)
        for state in DDIM(3, eta=1.0).along(denoiser, plan, x, generator):
            end = state
            yield state
        self.ends.append(end.x)


def tiny(n_steps=50, **settings):
    """Four steps an epoch; the validation split comes in two batches."""
    usual = {"batch_size": 32, "n_validation": 1100, "mean": 0.0, "std": 1.0, "n_train": 128}
    data = ResidentData(
        lambda root: law_samples(root, "ring", 1300, 10),
        "",
        seed=0,
        augment=Noise([2]),
        **(usual | settings),
    )
    with seeded(0, "init"):
        net = TimeMLP([2], 8, 1)
    return Diffusion(net, cosine(n_steps), {"name": "adam", "lr": 0.01}), data


def drawn(folder):
    return sorted(path.name for path in (folder / "figures").glob("*"))


def test_a_picture_is_drawn_every_n_epochs_from_the_same_noise(make_trainer, tmp_path):
    sampler = Watched()
    grid = SampleGrid(sampler, n=5, every_n_epochs=2)
    make_trainer(grid, max_epochs=5, default_root_dir=str(tmp_path)).fit(*tiny())
    assert drawn(tmp_path) == ["samples_epoch002.png", "samples_epoch004.png"]
    assert sampler.starts[0].shape == (5, 2)
    assert torch.equal(*sampler.starts)
    assert not torch.equal(*sampler.ends)


def test_lightnings_check_before_the_training_draws_nothing(make_trainer, tmp_path):
    sampler = Watched()
    trainer = make_trainer(
        SampleGrid(sampler, n=5), num_sanity_val_steps=-1, default_root_dir=str(tmp_path)
    )
    trainer.fit(*tiny())
    assert len(sampler.starts) == trainer.max_epochs


def test_the_learning_goes_on_bit_for_bit(make_trainer, tmp_path):
    learned = []
    for callbacks in ([SampleGrid(DDIM(3, eta=1.0), n=4)], []):
        model, data = tiny()
        trainer = make_trainer(
            *callbacks, max_epochs=2, logs=f"logs{len(callbacks)}", default_root_dir=str(tmp_path)
        )
        trainer.fit(model, data)
        assert model.net.training
        learned.append((model.net.state_dict(), trainer.callback_metrics))
    (weights, logged), (alone, logged_alone) = learned
    assert all(torch.equal(w, alone[name]) for name, w in weights.items())
    assert logged == logged_alone and "val/loss" in logged
    assert drawn(tmp_path) == ["samples_epoch001.png", "samples_epoch002.png"]


@pytest.mark.parametrize("average_first", [True, False])
def test_an_average_of_the_weights_is_what_samples_are_drawn_of(
    average_first, make_trainer, tmp_path
):
    """Whatever the order of the callbacks. The average begins at step 100: here it is the start."""
    sampler = Watched()
    callbacks = [EMAWeightAveraging(update_starting_at_step=100), SampleGrid(sampler, n=2)]
    model, data = tiny()
    start = model.net.mlp.output.weight.clone()
    trainer = make_trainer(
        *(callbacks if average_first else reversed(callbacks)), default_root_dir=str(tmp_path)
    )
    trainer.fit(model, data)
    assert len(sampler.weights) == 1
    assert torch.equal(sampler.weights[0], start)


def test_a_short_schedule_is_walked_level_by_level(make_trainer, tmp_path):
    """Where there are fewer levels than the usual 20 steps, or than bands of the logged loss."""
    trainer = make_trainer(SampleGrid(n=2), default_root_dir=str(tmp_path))
    trainer.fit(*tiny(7))
    assert drawn(tmp_path) == ["samples_epoch001.png"]
    bands = [name for name in trainer.callback_metrics if name.startswith("val/loss_band")]
    assert len(bands) == 7
    assert all(trainer.callback_metrics[name].isfinite() for name in bands)


@pytest.mark.filterwarnings("ignore:Total length of `list`")  # lightning's, of no validation
def test_nothing_is_drawn_without_a_validation_split(make_trainer, tmp_path):
    make_trainer(SampleGrid(n=2), default_root_dir=str(tmp_path)).fit(*tiny(n_validation=0))
    assert drawn(tmp_path) == []
