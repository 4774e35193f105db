"""`python experiments/beta_vae/curve.py runs/beta_vae`: the rate-distortion curve of all runs."""

import sys
from pathlib import Path

import pandas as pd

from udl_lab.configuration import exit_with_message
from udl_lab.errors import UsageError
from udl_lab.figures.rate_distortion import rate_distortion
from udl_lab.runs.reopen import load_run

PICTURE = Path(__file__).parent / "figures" / "rate_distortion.png"


def draw(study: str) -> None:
    """Draw a point per run of the study's folder, and write the picture beside this file.

    Raises:
        UsageError: for a folder without runs of this study.
    """
    rows = []
    for folder in sorted(Path(study).glob("beta_*/seed*")):
        run = load_run(folder)
        measured = run.results["estimate"]
        rows.append(
            {
                "beta": run.config.model.beta,
                "rate": measured["latent/rate"],
                "distortion": measured["latent/distortion"],
            }
        )
    if not rows:
        raise UsageError(f"{study} has no runs; python -m udl_lab.verify beta_vae makes them")
    title = f"a VAE after ten epochs on 10,000 digits, all test digits; {len(rows)} runs"
    rate_distortion(pd.DataFrame(rows), title).savefig(PICTURE, dpi=110)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    exit_with_message(lambda: draw(sys.argv[1]))
