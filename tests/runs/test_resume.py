"""A run that is killed at any step, and resumed, ends with the weights of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.execute import execute

# About 300 steps an epoch: a signal sent at any time lands in the middle of one.
LONG = [
    "net=linear",
    "logger=csv",
    "measure=classification",
    "trainer.max_epochs=12",
    "data.batch_size=4",
    "trainer.enable_progress_bar=false",
]


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "udl_lab.train", *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def state(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def same_weights(a: Path, b: Path) -> bool:
    first, second = state(a)["state_dict"], state(b)["state_dict"]
    return all(torch.equal(first[name], second[name]) for name in first)


def interrupt(folder: Path, how: signal.Signals, after_s: float = 0.3) -> tuple[int, str]:
    """Start a run, send it a signal in an epoch after the first checkpoint: exit code, output."""
    run = start(folder, *LONG, f"run_dir={folder}")
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert run.poll() is None, run.stdout.read()
        time.sleep(0.02)
    time.sleep(after_s)
    run.send_signal(how)
    output = run.communicate(timeout=60)[0]
    return run.returncode, output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    execute(compose([*LONG, f"run_dir={folder}"]), quiet=True)
    return folder


@pytest.mark.slow
def test_kill_9_in_the_middle_of_an_epoch_loses_nothing(undisturbed, tmp_path):
    folder = tmp_path / "run"
    code, _ = interrupt(folder, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert state(folder)["global_step"] < state(undisturbed)["global_step"]
    resumed = start(folder, f"resume={folder}")
    output = resumed.communicate(timeout=120)[0]
    assert resumed.returncode == 0, output
    assert same_weights(folder, undisturbed)
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    before, after = (pd.read_csv(f / "metrics.csv") for f in (undisturbed, folder))
    pd.testing.assert_frame_equal(before, after, check_like=True)
    results = [json.loads((f / "results.json").read_text()) for f in (undisturbed, folder)]
    assert results[0] == results[1]


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_the_run_goes_on_from_that_very_step(undisturbed, tmp_path):
    for attempt in range(5):  # a signal may happen to land between two epochs
        folder = tmp_path / f"run{attempt}"
        code, output = interrupt(folder, signal.SIGTERM, 0.3 + 0.07 * attempt)
        assert code == 128 + signal.SIGTERM
        assert f"resume={folder}" in output
        assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
        if state(folder)["global_step"] % 300:
            break
    assert state(folder)["global_step"] % 300, "no signal landed in the middle of an epoch"
    resumed = start(folder, f"resume={folder}")
    output = resumed.communicate(timeout=120)[0]
    assert resumed.returncode == 0, output
    assert same_weights(folder, undisturbed)


def test_a_signal_inside_the_process_is_resumed_to_the_same_weights(tiny, tmp_path, monkeypatch):
    """The same as above without processes: SIGTERM at step 6, in the middle of the second epoch."""
    from udl_lab.models.classifier import Classifier

    # An epoch has four steps: in groups of ten there would be no middle.
    monkeypatch.setattr("udl_lab.models.several_steps._GROUP", 1)
    whole = execute(compose([*tiny, f"run_dir={tmp_path / 'whole'}"]), quiet=True)
    step = Classifier.training_step

    def preempted(self, batch, batch_idx):
        if self.trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", preempted)
    with pytest.raises(SystemExit) as stop:
        execute(compose([*tiny, f"run_dir={tmp_path / 'run'}"]), quiet=True)
    monkeypatch.setattr(Classifier, "training_step", step)
    assert stop.value.code == 143
    assert state(tmp_path / "run")["global_step"] == 6
    execute(compose([f"resume={tmp_path / 'run'}"]), quiet=True)
    assert same_weights(tmp_path / "run", whole.path)


def test_a_finished_run_is_not_resumed_by_accident(finished):
    with pytest.raises(UsageError, match=r"larger trainer\.max_epochs"):
        execute(compose([f"resume={finished.path}"]))


def test_a_run_without_a_checkpoint_cannot_be_resumed(finished, tmp_path):
    (tmp_path / "config.yaml").write_text(finished.config.read_text())
    with pytest.raises(UsageError, match="no checkpoint yet"):
        execute(compose([f"resume={tmp_path}"]))
