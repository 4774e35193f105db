"""The measurements of a run, made again from its checkpoint."""

from typing import Any, Literal

from omegaconf import OmegaConf

from udl_lab.probes.table import records
from udl_lab.runs.measurement import measure
from udl_lab.runs.reopen import load_run
from udl_lab.runs.report import results_tables, terminal


def evaluate(
    path: str, weights: Literal["best", "last"] | None, root: str | None
) -> list[dict[str, Any]]:
    """Rebuild the model, measure what its configuration asks for, print and return the rows.

    Raises:
        UsageError: when there is no run, its checkpoint is unsafe, or its data are not there.
    """
    run = load_run(path, weights)
    if root is not None:
        OmegaConf.update(run.config, "data.root", root)
    rows = records(measure(run.config, run.subject()))
    for table in results_tables(f"{run.folder.path}, measured again", rows):
        terminal().print(table)
    return rows
