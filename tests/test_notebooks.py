"""Every notebook runs on a fresh run, and the rendered one is made from its script."""

import os
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
    assert cells[0] == cells[1], f"run `make notebooks`: {script.stem}.ipynb is out of step"


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_rendered_notebook_is_small_and_without_errors(script):
    rendered = script.with_suffix(".ipynb")
    assert rendered.stat().st_size < 500_000
    outputs = [out for cell in jupytext.read(rendered).cells for out in cell.get("outputs", [])]
    assert outputs
    assert all(out.output_type != "error" for out in outputs)


@pytest.mark.slow
def test_notebook_01_runs_on_a_fresh_run(tmp_path):
    script = NOTEBOOKS[0]
    assert script.stem == "01_rotation"
    run = tmp_path / "run"
    train = [sys.executable, "-m", "udl_lab.train", "experiment=lab04_rotation/rotated"]
    options = ["logger=csv", "measure=rotation", "trainer.max_epochs=20", f"run_dir={run}"]
    subprocess.run([*train, *options], check=True, capture_output=True, cwd=tmp_path)
    shown = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "UDL_RUN": str(run), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert shown.returncode == 0, shown.stderr
    assert "training did it:               True" in shown.stdout
