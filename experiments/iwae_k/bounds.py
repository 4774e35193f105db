"""`python experiments/iwae_k/bounds.py runs/iwae_k`: the bounds of all its arms against k."""

import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from udl_lab.configuration import exit_with_message
from udl_lab.errors import UsageError
from udl_lab.figures.bound_by_k import bound_by_k
from udl_lab.probes.statistics import over_seeds
from udl_lab.runs.reopen import load_run

PICTURE = Path(__file__).parent / "figures" / "bounds.png"


def draw(study: str) -> None:
    """Draw each arm's mean over seeds, and write the picture beside this file.

    Raises:
        UsageError: for a folder without runs of this study.
    """
    tables = [
        load_run(folder).results.assign(arm=folder.parent.name)
        for folder in sorted(Path(study).glob("k*/seed*"))
    ]
    if not tables:
        raise UsageError(f"{study} has no runs; python -m udl_lab.verify iwae_k makes them")
    runs = pd.concat(tables)
    runs = runs[runs["metric"] == "bound"]
    rows = []
    for (arm, element), of_one in runs.groupby(["arm", "element"], sort=False):
        interval = over_seeds(of_one["estimate"].to_numpy())
        rows.append({"metric": "bound", "site": arm, "element": element} | asdict(interval))
    figure = bound_by_k(
        pd.DataFrame(rows),
        f"training with k samples, {len(of_one)} seeds; 200 test digits",
        bars="95 % t intervals over seeds",
    )
    figure.savefig(PICTURE, dpi=110)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    exit_with_message(lambda: draw(sys.argv[1]))
