"""Two processes give what one gives, to rounding."""

import subprocess
import sys

from udl_lab.runs.reopen import load_run  # isort: skip  # repairs torchvision, for lightning

import pandas as pd
import pytest
import torch

SMALL = [
    "logger=csv",
    "measure=classification",
    "trainer.enable_progress_bar=false",
    "data.n_train=1024",
]


@pytest.mark.slow
def test_a_run_of_two_processes_is_measured_by_one_and_tracked_by_both(tmp_path):
    """After the fit one process measures alone: a collective there would wait for ever."""
    folder = tmp_path / "run"
    short = ["n_images=40", "n_boot=40", "action.degrees=[90,180,270]"]
    subprocess.run(
        [
            *(sys.executable, "-m", "udl_lab.train", "trainer=ddp_cpu", "callbacks=track_symmetry"),
            *("logger=csv", "data.n_train=256", "trainer.max_epochs=1", f"run_dir={folder}"),
            *("measure=c4", "trainer.enable_progress_bar=false"),
            *(f"measure.{m}.{setting}" for m in ("c4", "rotation") for setting in short),
        ],
        check=True,
        capture_output=True,
        timeout=120,
        cwd=tmp_path,
    )
    measured = load_run(folder).results
    assert {"c4/index/output", "rotation/rho/output"} <= set(measured.index)
    assert measured.loc["c4/index/output", "n"] == 40
    assert "probe/index/output" in pd.read_csv(folder / "metrics.csv")


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path):
    metrics, weights = [], []
    for trainer in ("cpu", "ddp_cpu"):
        folder = tmp_path / trainer
        # max_epochs stands in the arm's trainer, so it is repeated after the choice of another.
        subprocess.run(
            [
                *(sys.executable, "-m", "udl_lab.train", f"trainer={trainer}"),
                *SMALL,
                "trainer.max_epochs=2",
                f"run_dir={folder}",
            ],
            check=True,
            capture_output=True,
            timeout=300,
            cwd=tmp_path,
        )
        metrics.append(pd.read_csv(folder / "metrics.csv"))
        weights.append(
            torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        )
    # 32 steps in float32: the mean of two halves rounds otherwise than the mean of the whole.
    pd.testing.assert_frame_equal(metrics[0], metrics[1], rtol=1e-5)
    for name, whole in weights[0].items():
        torch.testing.assert_close(weights[1][name], whole, rtol=0, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cpu", "ddp_cpu"]
