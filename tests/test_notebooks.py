"""Every notebook runs on a fresh run, and the rendered one is made from its script."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.py"))


def test_notebooks_were_found():
    assert NOTEBOOKS


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_rendered_notebook_has_the_cells_of_its_script(script):
    source = jupytext.read(script)
    rendered = jupytext.read(script.with_suffix(".ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in nb.cells] for nb in (source, rendered)]
    remedy = f"run `make notebook NAME={script.stem} RUN=…`: the .ipynb is out of step"
    assert cells[0] == cells[1], remedy


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_rendered_notebook_is_small_and_without_errors(script):
    rendered = script.with_suffix(".ipynb")
    assert rendered.stat().st_size < 500_000
    outputs = [out for cell in jupytext.read(rendered).cells for out in cell.get("outputs", [])]
    assert outputs
    assert all(out.output_type != "error" for out in outputs)


def shown(script, run):
    """What a notebook's script prints when it looks at a run."""
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "UDL_RUN": str(run), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(run, *overrides):
    command = [sys.executable, "-m", "udl_lab.train", "logger=csv", *overrides, f"run_dir={run}"]
    subprocess.run(command, check=True, capture_output=True, cwd=run.parent)


@pytest.mark.slow
def test_notebook_01_runs_on_a_fresh_run(tmp_path):
    run = tmp_path / "run"
    train(run, "experiment=lab04_rotation/rotated", "measure=rotation", "trainer.max_epochs=20")
    [script] = [path for path in NOTEBOOKS if path.stem == "01_rotation"]
    assert "training did it:               True" in shown(script, run)


@pytest.mark.slow
def test_notebook_02_runs_on_a_fresh_run(tmp_path):
    run = tmp_path / "run"
    train(run, "experiment=rotated_mnist/c4", "data.n_train=null", "measure.c4.n_images=100")
    [script] = [path for path in NOTEBOOKS if path.stem == "02_symmetry"]
    printed = shown(script, run)
    assert "granted  regular: 12 free orbits of 4 channels (simple cells)" in printed
    assert "output                   granted  trivial" in printed


@pytest.mark.slow
def test_notebook_03_runs_on_a_fresh_run(tmp_path):
    run = tmp_path / "run"
    small = ["trainer.max_epochs=2", "+measure.table.n=1000", "+measure.table.n_train=1000"]
    train(run, "experiment=udl18_mixture/mlp", *small, "measure.ancestral.n=500")
    [script] = [path for path in NOTEBOOKS if path.stem == "03_diffusion"]
    printed = shown(script, run)
    assert "exact score, 20 steps: W1 = 0.0759" in printed
    assert "exact score and true start, 100 steps: W1 = 0.0177" in printed


@pytest.mark.slow
def test_notebook_04_runs_on_a_fresh_run(tmp_path):
    run = tmp_path / "run"
    small = ["data=digits", "data.n_train=null", "measure.posterior.n=5", "trainer.max_epochs=20"]
    train(run, "experiment=posterior_gap/elbo", *small, "measure.posterior.n_grid=601")
    [script] = [path for path in NOTEBOOKS if path.stem == "04_latent"]
    printed = shown(script, run)
    assert "the bounds rise for every image: True" in printed
    assert "Σ w̃ log w − log 1/K Σ w = KL(w̃ ‖ uniform): True" in printed
    [right] = re.findall(r"^log 1/K Σ w: by (.*) nats", printed, re.MULTILINE)
    [wrong] = re.findall(r"^Σ w̃ log w: by (.*) nats", printed, re.MULTILINE)
    assert float(right) <= 0 < float(wrong)
