"""The scripts that draw over all runs of a study name what to do where there are none."""

import runpy
from pathlib import Path

import pytest

from udl_lab.errors import UsageError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.mark.parametrize("script", ["beta_vae/curve.py", "iwae_k/bounds.py"])
def test_a_folder_without_runs_is_refused(script, tmp_path):
    draw = runpy.run_path(str(EXPERIMENTS / script))["draw"]
    with pytest.raises(UsageError, match=f"udl_lab.verify {script.split('/')[0]}"):
        draw(str(tmp_path))
