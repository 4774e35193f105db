"""What the user types is answered at once, by name, and nothing is left behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

IMPORTS_NOTHING_HEAVY = """
import sys
from udl_lab.configuration import command
sys.argv = ["train", *{arguments!r}]
try:
    command(lambda cfg: None)
except SystemExit as stop:
    code = stop.code or 0
else:
    code = 0
heavy = sorted({{"torch", "lightning", "torchvision"}} & set(sys.modules))
print("HEAVY", heavy)
sys.exit(code)
"""


def answer(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Compose what a command line says, in a fresh process standing in another folder."""
    script = IMPORTS_NOTHING_HEAVY.format(arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_help_lists_experiments_groups_and_keys_without_importing_torch(tmp_path):
    shown = answer(["--help"], tmp_path)
    assert shown.returncode == 0
    assert "lab04_rotation/{flips,plain,rotated,rotated_half,translated}" in shown.stdout
    assert "net: c4, cnn, conv_vae, cortex, deepsets, fcn, linear, linear_vae, mlp" in shown.stdout
    calculations = "book_latent, gradient_estimators, importance_sampling, none"
    assert f"calculation: {calculations}" in shown.stdout
    assert "batch_size: 64" in shown.stdout
    assert "HEAVY []" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["experiment=lab04_rotatio/rotated"], ["'lab04_rotatio'", "'lab04_rotation'"]),
        (["experiment=lab04_rotation/rotatd"], ["'rotatd'", "'rotated'"]),
        (["experiment=lab04_rotation/claims"], ["no arm 'claims'"]),
        (["experiment=lab04_rotation"], ["choose one", "rotated_half"]),
        (["experiments=lab04_rotation/rotated"], ["experiment=lab04_rotation/rotated"]),
        (["net=cn"], ["net=cn", "'cnn'"]),
        (["modle=classifier"], ["modle", "'model'"]),
        (["model.lrr=1"], ["model.lrr", "model.optimizer.lr"]),
        (["model.optimizer.nam=sgd"], ["model.optimizer.nam", "'name'"]),
        (["data.batchsize=3"], ["data.batchsize", "'batch_size'"]),
        (["sed=1"], ["sed", "'seed'"]),
        (["calculation=importance_sampling", "net.widths=[3]"], ["net: a calculation"]),
        (["net.widths=[1,2"], ["net.widths=[1,2"]),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest_valid_ones(arguments, words, tmp_path):
    shown = answer(arguments, tmp_path)
    assert shown.returncode == 2
    for word in words:
        assert word in shown.stderr
    assert shown.stderr.count("udl_lab:") == 1
    assert "Traceback" not in shown.stderr
    assert "HEAVY []" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_help_is_answered_in_under_two_seconds(tmp_path):
    """The design's limit; a twentieth of what importing lightning costs, so noise has room."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "udl_lab.train", "--help"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        times.append(time.perf_counter() - start)
    assert min(times) < 2


def test_multirun_composes_each_job_once(tmp_path):
    script = IMPORTS_NOTHING_HEAVY.format(
        arguments=["experiment=lab04_rotation/plain,lab04_rotation/rotated", "seed=0,1", "-m"]
    ).replace("lambda cfg: None", "lambda cfg: print('JOB', cfg.arm, cfg.seed)")
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    jobs = [line for line in shown.stdout.splitlines() if line.startswith("JOB")]
    assert jobs == ["JOB plain 0", "JOB plain 1", "JOB rotated 0", "JOB rotated 1"]


def test_configuration_can_be_looked_at_without_running(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "udl_lab.train", "experiment=jax_mnist/slow", "--cfg", "job"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lr: 0.001" in shown.stdout
    assert not list(tmp_path.iterdir())
