"""What a run leaves behind, and where.

config.yaml      the resolved configuration: the run can be repeated from it alone
run.json         how it stands (running, finished, diverged, interrupted, failed), versions, data
checkpoints/     best.ckpt (on the validation split) and last.ckpt
metrics.csv      what was logged while training
results.json     what was measured afterwards: a row per estimate, with its interval
figures/         pictures of both
wandb/           the W&B run
"""

import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from udl_lab.configuration import ROOT
from udl_lab.errors import UsageError

# The processes that DDP starts read the folder that the first one made here.
_SHARED = "UDL_RUN_DIR"


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.metrics = self.path / "metrics.csv"
        self.results = self.path / "results.json"
        self.figures = self.path / "figures"

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder and write the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.config, yaml.safe_dump(config, sort_keys=False))

    def status(self) -> str:
        """How the run stands; "absent" when there is none."""
        return read_json(self.record).get("status", "absent") if self.record.is_file() else "absent"

    def note(self, **fields: Any) -> None:
        """Add to the record of the run."""
        old = read_json(self.record) if self.record.is_file() else {}
        write_text(self.record, json.dumps(old | fields, indent=2) + "\n")

    def write_results(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the table of what was measured; a bound that the data cannot give becomes null."""
        strict = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in rows
        ]
        write_text(self.results, json.dumps({"rows": strict}, indent=1, allow_nan=False) + "\n")


def choose(cfg: DictConfig) -> RunFolder:
    """The folder for a new run: `run_dir`, or the first free `runs_root/study/arm/seed<n>[-k]`.

    Nothing is made yet.

    Raises:
        UsageError: when `run_dir` holds something already.
    """
    if shared := os.environ.get(_SHARED):
        return RunFolder(shared)
    if cfg.run_dir is not None:
        path = Path(cfg.run_dir)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"run_dir={path} is not empty; choose another folder, or go on with the run in it: "
                f"resume={path}"
            )
        return RunFolder(path)
    first = Path(cfg.runs_root) / cfg.study / cfg.arm / f"seed{cfg.seed}"
    path, count = first, 1
    while path.exists():
        count += 1
        path = first.with_name(f"{first.name}-{count}")
    return RunFolder(path)


def share(folder: RunFolder) -> None:
    """Tell the processes that this one will start where the run is."""
    os.environ[_SHARED] = str(folder.path.absolute())


def unshare() -> None:
    """End what `share` began, so that the next run in this process gets a folder of its own."""
    os.environ.pop(_SHARED, None)


def reopen(path: str) -> RunFolder:
    """The folder of an existing run.

    Raises:
        UsageError: when there is no run.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise UsageError(f"{path} holds no run (there is no {folder.config}); give a run's folder")
    return folder


def provenance() -> dict[str, Any]:
    """What else the result may depend on: versions, machine and commit."""
    packages = ("torch", "lightning", "torchvision", "numpy", "udl_lab")
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit of the checkout, with `-dirty` if it is changed; empty outside one."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A configuration with every reference resolved, as plain dictionaries and lists."""
    container = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in container.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content."""
    return json.loads(path.read_text())


def read_config(path: Path) -> dict[str, Any]:
    """A run's resolved configuration."""
    return yaml.safe_load(path.read_text())


def write_text(path: Path, text: str) -> None:
    """Write through a temporary name, so that no reader ever finds half a file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)
