"""What a run tells its user: figures in the folder, and a table on the terminal."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import LightningModule
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.figures.by_element import rho_by_element
from udl_lab.figures.distance_by_steps import sampler_name
from udl_lab.figures.learning_curves import learning_curves
from udl_lab.figures.weight_images import weight_images
from udl_lab.models.diffusion import Diffusion
from udl_lab.models.vae import VAE
from udl_lab.runs.diffusion_figures import draw_diffusion
from udl_lab.runs.folder import RunFolder
from udl_lab.runs.latent_figures import draw_latent


def draw(
    cfg: DictConfig,
    folder: RunFolder,
    model: LightningModule,
    table: Sequence[dict[str, Any]],
    examples: Examples,
) -> list[Path]:
    """Draw what there is to draw of a run and its test examples, and return the files."""
    name = f"{cfg.study}/{cfg.arm}/seed{cfg.seed}"
    figures = {}
    metrics = pd.DataFrame({"epoch": []})
    if folder.metrics.is_file():
        metrics = pd.read_csv(folder.metrics)
        figures["learning_curves"] = learning_curves(metrics, name)
    output = getattr(model.net, "output", None)
    images = len(cfg.example.shape) == 3 and cfg.example.shape[0] == 1
    if images and isinstance(output, nn.Linear) and output.in_features == 28 * 28:
        labels = [f"class {i}" for i in range(output.out_features)]
        figures["weights"] = weight_images(output.weight, labels, f"{name}: weights of `output`")
    frame = pd.DataFrame(table)
    if isinstance(model, Diffusion):
        figures |= draw_diffusion(cfg, model, frame, name)
    if isinstance(model, VAE):
        figures |= draw_latent(cfg, model, frame, metrics, examples, name)
    for measure in dict.fromkeys(frame.loc[frame["metric"] == "rho", "measure"]):
        figures[f"rho_{measure}"] = rho_by_element(frame, measure, "output", name)
    return save(figures, folder)


def save(figures: Mapping[str, Figure], folder: RunFolder) -> list[Path]:
    """Write the figures of a run, and return the files."""
    folder.figures.mkdir(exist_ok=True)
    paths = []
    for title, figure in figures.items():
        paths.append(folder.figures / f"{title}.png")
        figure.savefig(paths[-1], dpi=130)
    return paths


def say(
    cfg: DictConfig,
    folder: RunFolder,
    table: Sequence[dict[str, Any]],
    figures: Sequence[Path],
    diverged: int | None,
) -> None:
    """Print the summary rows, and where everything is."""
    console = terminal()
    for part in results_tables(f"{cfg.study}/{cfg.arm}, seed {cfg.seed}", table):
        console.print(part)
    if diverged is not None:
        console.print(f"[bold]diverged[/bold]: the loss was not finite at step {diverged}")
    left_out = sum(1 for row in table if not (_is_plain(row) or _is_of_sampler(row)))
    if left_out:
        console.print(f"… and {left_out} rows in detail in {folder.results}")
    _say_where(folder, figures)


def say_calculated(
    cfg: DictConfig, folder: RunFolder, table: Sequence[dict[str, Any]], figures: Sequence[Path]
) -> None:
    """Print every row of a calculation, and where everything is."""
    terminal().print(_calculated_table(f"{cfg.study}/{cfg.arm}, seed {cfg.seed}", table))
    _say_where(folder, figures)


def _say_where(folder: RunFolder, figures: Sequence[Path]) -> None:
    console = terminal()
    console.print(f"run:      {folder.path}", soft_wrap=True, highlight=False)
    for path in figures:
        console.print(f"figure:   {path}", soft_wrap=True, highlight=False)
    console.print(
        f"reopen:   load_run({str(folder.path)!r}) from udl_lab.runs.reopen",
        soft_wrap=True,
        highlight=False,
    )


def results_tables(title: str, rows: Sequence[dict[str, Any]]) -> list[Table]:
    """The plain numbers, for each action a table of ρ by layer, and one of distances by sampler.

    Means over all transformations; the single ones are in the run's `results.json`.
    """
    plain = Table(title=title)
    for column in ("measured", "estimate", "95 % interval", "n", "note"):
        plain.add_column(column, justify="left" if column in ("measured", "note") else "right")
    for row in rows:
        if _is_plain(row):
            number, interval = _shown(row)
            plain.add_row(row["key"], number, interval, f"{row['n']:,}", row["note"])
    actions = dict.fromkeys(row["measure"] for row in rows if row["metric"] == "rho")
    sampled = [row for row in rows if _is_of_sampler(row)]
    return [
        plain,
        *(_layers_table(action, rows) for action in actions),
        *(_samplers_table(name, sampled) for name in dict.fromkeys(r["measure"] for r in sampled)),
    ]


def _calculated_table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Every row; its note is in the run's `results.json`."""
    table = Table(title=title)
    table.add_column("calculated", no_wrap=True)
    for column in ("estimate", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["key"].partition("/")[2], *_shown(row), f"{row['n']:,}")
    return table


def _is_plain(row: dict[str, Any]) -> bool:
    return not row["site"] and (row["element"] in ("", "identity") or row["metric"] == "bound")


def _is_of_sampler(row: dict[str, Any]) -> bool:
    return not row["site"] and sampler_name(row["element"]) is not None


_RHO = {
    "rho": "another image",
    "rho_same_class": "another of its class",
    "rho_round_trip": "there and back",
    "rho_untrained": "untrained net",
}


def _layers_table(action: str, rows: Sequence[dict[str, Any]]) -> Table:
    """ρ of every layer with its controls."""
    here = [r for r in rows if r["measure"] == action and r["site"] and not r["element"]]
    n = max(row["n"] for row in here)
    table = Table(
        title=f"ρ under {action}: how far it moves a layer, by what it is divided by",
        caption=f"0: invariant, 1: as far as another image; {n:,} image pairs; {here[0]['note']}",
    )
    table.add_column("layer")
    for heading in _RHO.values():
        table.add_column(heading, justify="right")
    for site in dict.fromkeys(row["site"] for row in here):
        cells = {row["metric"]: "\n".join(_shown(row, 3)) for row in here if row["site"] == site}
        table.add_row(site, *(cells.get(metric, "–") for metric in _RHO))
    return table


def _samplers_table(measure: str, rows: Sequence[dict[str, Any]]) -> Table:
    """The numbers of every sampler; what to hold them against is in the plain table.

    The error budget of one of them is in its figure and in the run's `results.json`.
    """
    here = [r for r in rows if r["measure"] == measure and not r["metric"].startswith("budget_")]
    table = Table(title=f"{measure}: by sampler", caption=here[0]["note"])
    metrics = list(dict.fromkeys(row["metric"] for row in here))
    table.add_column("sampler", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right")
    for element in dict.fromkeys(row["element"] for row in here):
        cells = {r["metric"]: f"{r['estimate']:.4f}" for r in here if r["element"] == element}
        table.add_row(element, *(cells.get(metric, "–") for metric in metrics))
    return table


def _shown(row: dict[str, Any], digits: int = 4) -> tuple[str, str]:
    """The number and its interval; a count has none, nor has an estimate that stands alone."""
    if math.isnan(row["low"]):
        return f"{row['estimate']:.{digits}f}", "none"
    exact = row["low"] == row["high"] == row["estimate"]
    interval = "exact" if exact else f"[{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
    return f"{row['estimate']:.{digits}f}", interval


def terminal() -> Console:
    """Where to print: as wide as the terminal, and wide enough for a table in a file."""
    return Console(width=None if sys.stdout.isatty() else 110)


def say_how_to_resume(folder: RunFolder) -> None:
    """Print the command that goes on with a run that was asked to stop."""
    terminal().print(
        f"stopped; go on with:  python -m udl_lab.train resume={folder.path}",
        soft_wrap=True,
        highlight=False,
    )
