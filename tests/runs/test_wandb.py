"""A run keeps an offline W&B record that the supported tool can read, and says how to go online."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from udl_lab.configuration import compose
from udl_lab.runs.execute import execute


def inspect(folder: Path) -> list[dict]:
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in shown.stdout.splitlines()]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, tiny):
    path = tmp_path_factory.mktemp("tracked") / "run"
    kept = [o for o in tiny if o != "logger=csv"]
    return execute(compose([*kept, f"run_dir={path}"]), quiet=True)


def test_the_offline_run_holds_metrics_configuration_and_figures(tracked):
    [offline] = tracked.path.glob("wandb/offline-run-*")
    text = json.dumps(inspect(offline))
    for word in ("train/loss_nats", "val/accuracy", "figures/rho_rotation", "fingerprints"):
        assert word in text
    pictures = {p.name.split("_")[0] for p in offline.glob("files/media/images/figures/*.png")}
    assert pictures == {"learning", "rho"}


def test_the_run_is_named_as_its_folder_and_grouped_by_its_arm(tracked):
    [offline] = tracked.path.glob("wandb/offline-run-*")
    text = json.dumps(inspect(offline))
    assert "quickstart/rotation/seed0" in text
    assert '"quickstart/rotation"' in text
    assert json.loads(tracked.record.read_text())["wandb_id"] in offline.name


@pytest.mark.slow
def test_going_online_without_an_account_is_refused_with_the_remedy(tmp_path):
    """In a process of its own: Lightning makes a whole process offline once a logger is."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "udl_lab.train", "logger.offline=false"),
            *("measure=classification", f"run_dir={tmp_path / 'run'}"),
        ],
        env=environment | {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 2
    assert "logger.offline=true" in shown.stderr
    assert not (tmp_path / "run").exists()
