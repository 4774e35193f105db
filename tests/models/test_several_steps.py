"""Ten steps in one call are the ten single steps, bit for bit; and where they may not be taken."""

from udl_lab.configuration import compose
from udl_lab.models.several_steps import steps_per_call
from udl_lab.runs.execute import execute

import json  # isort: skip
import os  # isort: skip
import signal  # isort: skip

import lightning as L  # isort: skip
import pandas as pd  # isort: skip
import pytest  # isort: skip
import torch  # isort: skip
from lightning.pytorch.callbacks import EMAWeightAveraging, Timer  # isort: skip

from udl_lab.models.classifier import Classifier  # isort: skip

GROUP = "udl_lab.models.several_steps._GROUP"

# 46 steps an epoch, of which the last has 6 examples: four whole groups, and one of six steps.
SETTINGS = (
    "net=fcn",
    "logger=csv",
    "measure=classification",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=20",
    "data.n_train=366",
    "data.batch_size=8",
)


def run(folder, *overrides):
    return execute(compose([*SETTINGS, *overrides, f"run_dir={folder}"]), quiet=True)


def content(folder):
    return torch.load(folder.last, weights_only=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ("augment=rotation",),
        ("augment=translation",),
        (
            "model.optimizer.name=adam",
            "model.optimizer.lr=0.01",
        ),
        ("+model.optimizer.momentum=0.9", "trainer.precision=64-true"),
    ],
)
def test_grouped_steps_are_the_single_steps_bit_for_bit(overrides, tmp_path, monkeypatch):
    calls = []
    step = Classifier.training_step
    monkeypatch.setattr(
        Classifier,
        "training_step",
        lambda self, batch, batch_idx: calls.append(len(batch.y)) or step(self, batch, batch_idx),
    )
    grouped = run(tmp_path / "grouped", *overrides)
    assert calls == 2 * [80, 80, 80, 80, 46]
    monkeypatch.setattr(GROUP, 1)
    single = run(tmp_path / "single", *overrides)
    a, b = content(grouped), content(single)
    assert a["global_step"] == b["global_step"] == 92
    for name, weight in a["state_dict"].items():
        assert torch.equal(weight, b["state_dict"][name]), name
    pd.testing.assert_frame_equal(pd.read_csv(grouped.metrics), pd.read_csv(single.metrics))
    results = [json.loads((f.path / "results.json").read_text()) for f in (grouped, single)]
    assert results[0] == results[1]


def test_a_run_stopped_inside_a_group_ends_the_group_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", "augment=rotation")
    losses = Classifier.losses

    def preempted(self, batch):
        if self.trainer.global_step == 46 + 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch)

    monkeypatch.setattr(Classifier, "losses", preempted)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "run", "augment=rotation")
    monkeypatch.undo()
    assert stop.value.code == 143
    stopped = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert stopped["global_step"] == 46 + 20
    resumed = execute(compose([f"resume={tmp_path / 'run'}"]), quiet=True)
    a, b = content(whole)["state_dict"], content(resumed)["state_dict"]
    assert all(torch.equal(weight, b[name]) for name, weight in a.items())
    pd.testing.assert_frame_equal(
        pd.read_csv(whole.metrics), pd.read_csv(resumed.metrics), check_like=True
    )


def test_ctrl_c_leaves_with_its_own_code(tmp_path, monkeypatch):
    losses = Classifier.losses

    def interrupted(self, batch):
        if self.trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return losses(self, batch)

    monkeypatch.setattr(Classifier, "losses", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "run")
    assert stop.value.code == 130
    stopped = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert stopped["global_step"] == 10


def test_the_step_named_as_diverging_is_the_step_and_not_its_group(tmp_path, monkeypatch):
    losses = Classifier.losses

    def not_a_number(self, batch):
        numbers = losses(self, batch)
        factor = float("nan") if self.trainer.global_step == 13 else 1.0
        return {**numbers, "loss": numbers["loss"] * factor}

    monkeypatch.setattr(Classifier, "losses", not_a_number)
    folder = run(tmp_path / "run")
    assert folder.status() == "diverged"
    results = json.loads((folder.path / "results.json").read_text())
    [row] = [row for row in results["rows"] if row["metric"] == "diverged"]
    assert row["note"] == "loss not finite at step 13"


class Watcher(L.Callback):
    def on_train_batch_end(self, *arguments):
        """Wants to see every step."""


class AtTheEnd(L.Callback):
    def on_train_epoch_end(self, *arguments):
        """Does not."""


class Plain(L.LightningModule):
    takes_groups = True


class Stepping(Plain):
    def on_before_optimizer_step(self, optimizer):
        """A module may watch as well."""


USUAL = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
USUAL |= {"log_every_n_steps": 50, "enable_checkpointing": False, "enable_model_summary": False}


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 7},
        {"min_steps": 3},
        {"limit_train_batches": 5},
        {"limit_train_batches": 0.5},
        {"val_check_interval": 2},
        {"gradient_clip_val": 1.0},
        {"accumulate_grad_batches": 2},
        {"overfit_batches": 1},
        {"fast_dev_run": True},
        {"log_every_n_steps": 7},
        {"precision": "bf16-mixed"},
        {"devices": 2, "strategy": "ddp"},
    ],
)
def test_what_counts_or_alters_single_steps_gets_them(settings):
    assert steps_per_call(L.Trainer(**(USUAL | settings)), Plain()) == 1


def test_whoever_watches_single_steps_gets_them():
    trainer, module = L.Trainer(**USUAL), Plain()
    assert steps_per_call(trainer, module) == 10
    assert steps_per_call(trainer, module, [AtTheEnd()]) == 10
    assert steps_per_call(trainer, module, [Watcher()]) == 1
    assert steps_per_call(trainer, module, [AtTheEnd(), EMAWeightAveraging(decay=0.9)]) == 1
    assert steps_per_call(trainer, module, [Timer("00:00:01:00")]) == 1
    assert steps_per_call(trainer, Stepping()) == 1
    assert steps_per_call(trainer, L.LightningModule()) == 1
