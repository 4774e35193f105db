"""Two processes give what one gives, to rounding."""

import subprocess
import sys

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
