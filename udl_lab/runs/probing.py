"""The symmetry report of a run, from its checkpoint: a table, a file and figures."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from omegaconf import OmegaConf
from rich.table import Table

from udl_lab.configuration import SYMMETRIES
from udl_lab.errors import UsageError
from udl_lab.figures.by_depth import bracket_by_depth, channel_heat_map, index_by_depth
from udl_lab.figures.by_element import rho_by_element
from udl_lab.probes.audit import Finding, audit, disagreements
from udl_lab.probes.invariance import Invariance
from udl_lab.probes.layerwise import Layerwise
from udl_lab.probes.table import records
from udl_lab.runs.option import make_option
from udl_lab.runs.reopen import Run, load_run
from udl_lab.runs.report import results_tables, terminal
from udl_lab.symmetry.actions import Action


def probe(
    path: str,
    symmetry: str,
    changes: dict[str, str],
    sites: list[str],
    n_images: int,
    n_boot: int,
    batch_size: int,
    undivided: Literal["refuse", "skip"],
    weights: Literal["best", "last"] | None,
    root: str | None,
) -> pd.DataFrame:
    """Measure a symmetry in every layer of a run; write `probes/SYMMETRY.csv` and figures there.

    Nothing is written before everything is measured.

    Args:
        path: the run's folder.
        symmetry: a file of `configs/symmetry`.
        changes: arguments of the action that replace those of the file, as typed.
        sites: layers, as patterns for the recorder.
        n_images: test images.
        n_boot: resamples behind each interval.
        batch_size: images at once.
        undivided: what to do where a layer's stride does not divide a shift.
        weights: which checkpoint; `None` for the one that the run itself measured.
        root: the folder of the data; `None` for the run's own.

    Returns:
        The table, a row per estimate.

    Raises:
        UsageError: for an unknown run, layer or argument, or a symmetry that the network's inputs
            or layers cannot carry.
    """
    action: Action = make_option(SYMMETRIES, symmetry, changes)
    run = load_run(path, weights)
    net = run.net
    if root is not None:
        OmegaConf.update(run.config, "data.root", root)
    shape = tuple(run.config.example.shape)
    try:
        action.check((3, *shape))
    except ValueError as error:
        raise UsageError(f"symmetry={symmetry} on inputs of shape {shape}: {error}") from error
    subject = run.subject()
    images = {"n_images": n_images, "n_boot": n_boot}
    layers = Layerwise(action, sites, batch_size=batch_size, undivided=undivided, **images)
    distances = Invariance(action, sites, batch_size=batch_size, **images)
    try:
        rows = [*distances(subject), *layers(subject)]
        findings = audit(net, shape, action)
    except ValueError as error:
        raise UsageError(f"symmetry={symmetry}: {error}") from error
    table = pd.DataFrame(records(replace(r, measure=symmetry) for r in rows))
    table = table.assign(**_provenance(run, action))
    said = {finding.site: str(finding).partition(": ")[2] for finding in findings}
    table["audit"] = table["site"].map(said).fillna("")
    title = f"{run.config.study}/{run.config.arm}, seed {run.config.seed}, under {symmetry}"
    _write(table, run.folder.path / "probes", symmetry, title)
    _say(table, symmetry, title, findings)
    return table


def _provenance(run: Run, action: Action) -> dict[str, Any]:
    """What every row's number depends on, besides the image sample."""
    return {
        "study": run.config.study,
        "arm": run.config.arm,
        "seed": run.config.seed,
        "checkpoint": hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()[:16],
        "action": action.name,
        "interpolation": action.interpolation,
    }


def _write(table: pd.DataFrame, folder: Path, symmetry: str, title: str) -> None:
    figures = {
        "index": index_by_depth(table, title),
        "bracket": bracket_by_depth(table, title),
        "rho": rho_by_element(table, symmetry, table["site"].iloc[-1], title),
        "channels": channel_heat_map(table, title),
    }
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(folder / f"{symmetry}_{name}.png", dpi=130)
    path = folder / f"{symmetry}.csv"
    table.to_csv(path.with_suffix(".tmp"), index=False)
    os.replace(path.with_suffix(".tmp"), path)  # whole, or not there


def _say(table: pd.DataFrame, symmetry: str, title: str, findings: Sequence[Finding]) -> None:
    """Print the table by layer, with what the architecture allows."""
    console = terminal()
    for part in results_tables(title, table.to_dict("records"))[1:]:
        console.print(part)
    layers = Table(
        title=f"{symmetry}, layer by layer; errors are relative, the worst of all elements",
        caption="sorted ≤ best permutation (held out) ≤ known action; index 1: invariant",
    )
    for heading in (
        "layer",
        "index",
        "sorted",
        "permutation",
        "known action",
        "audit, certificate",
    ):
        layers.add_column(
            heading, justify="left" if "l" == heading[0] or "audit" in heading else "right"
        )
    metrics = ("index", "bracket_sorted", "bracket_permutation", "bracket_known")
    for site in dict.fromkeys(table["site"]):
        here = table[table["site"] == site]
        if not site or "index" not in set(here["metric"]):
            continue
        cells = [_worst(here, metric) for metric in metrics]
        audited = here["audit"].iloc[0].partition(": at")[0]  # where it broke is a row above
        said = [audited, *here.loc[here["metric"] == "certificate", "note"]]
        layers.add_row(site, *cells, "\n".join(part for part in said if part))
    console.print(layers)
    measured = table[table["metric"] == "bracket_known"]
    errors = {(r.site, r.element): float(r.estimate) for r in measured.itertuples()}
    for contradiction in disagreements(findings, errors):
        console.print(f"[bold]the audit is contradicted[/bold]: {contradiction}")


def _worst(here: pd.DataFrame, metric: str) -> str:
    values = here.loc[here["metric"] == metric, "estimate"]
    if values.empty:
        return "–"
    worst = values.max()
    return f"{worst:.3f}" if worst >= 0.001 or worst == 0 else f"{worst:.0e}"
