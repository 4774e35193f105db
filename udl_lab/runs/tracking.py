"""Where a run's numbers go while it runs: a CSV file always, a W&B run beside it."""

import csv
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from omegaconf import DictConfig

from udl_lab.errors import UsageError
from udl_lab.probes.table import Row
from udl_lab.runs import folder as folders
from udl_lab.runs.build import build, load_checkpoint
from udl_lab.runs.folder import RunFolder


def loggers(cfg: DictConfig, folder: RunFolder) -> list[Logger]:
    """The loggers of a run; they write nothing before `start`."""
    found: list[Logger] = [CSVLogger(str(folder.path), name="", version="")]
    if cfg.logger is not None:
        resumed = folders.read_json(folder.record) if folder.record.is_file() else {}
        found.append(
            build(
                cfg.logger,
                "logger",
                save_dir=str(folder.path),
                name=f"{cfg.study}/{cfg.arm}/seed{cfg.seed}",
                group=f"{cfg.study}/{cfg.arm}",
                id=resumed.get("wandb_id"),
            )
        )
    return found


def start(
    found: Sequence[Logger], folder: RunFolder, config: dict[str, Any], resumed: bool
) -> None:
    """Begin to record, and go on with the rows and the W&B run of a resumed run.

    Raises:
        UsageError: when W&B is to go online and cannot; a new run's folder is removed again.
    """
    for logger in found:
        if isinstance(logger, CSVLogger) and resumed and folder.metrics.is_file():
            _keep_rows(logger, folder)
        if isinstance(logger, WandbLogger):
            run = _start_wandb(logger, folder, resumed)
            folder.note(wandb_id=run.id)
            run.config.update(config, allow_val_change=True)


def send(
    found: Sequence[Logger],
    rows: Sequence[Row],
    figures: Sequence[Path],
    checkpoint: Path,
    step: int,
) -> None:
    """Send W&B the results as a summary, the pictures and, online, the checkpoint."""
    for logger in found:
        if not isinstance(logger, WandbLogger):
            continue
        run = logger.experiment
        run.summary.update({r.key: r.estimate for r in rows})
        pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        run.log(pictures | {"trainer/global_step": step})
        if not run.offline and checkpoint.is_file():
            artifact = wandb.Artifact(f"model-{run.id}", type="model")
            artifact.add_file(str(checkpoint))
            run.log_artifact(artifact, aliases=[checkpoint.stem])


def finish(found: Sequence[Logger], status: str) -> None:
    """Close everything; without it the next run of this process would join this one's W&B run."""
    for logger in found:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            wandb.finish(exit_code=int(status == "failed"))


def _start_wandb(logger: WandbLogger, folder: RunFolder, resumed: bool) -> Any:
    """The W&B run, or what to do when there is no account or no network."""
    # Lightning passes a setting that wandb has retired, and wandb says so on every start.
    logger._wandb_init.pop("anonymous", None)
    try:
        return logger.experiment
    except wandb.Error as error:
        if not resumed:
            shutil.rmtree(folder.path)
        raise UsageError(
            f"W&B did not start online ({str(error).splitlines()[0]}); log in with `wandb login`, "
            "or run with logger.offline=true and upload later with `wandb sync <run>/wandb/…`"
        ) from error


def _keep_rows(logger: CSVLogger, folder: RunFolder) -> None:
    """Hand the rows up to the checkpoint to the CSV logger, which else deletes them."""
    step = load_checkpoint(str(folder.last))["global_step"]
    with folder.metrics.open() as file:
        rows = [{k: _number(v) for k, v in line.items() if v} for line in csv.DictReader(file)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the folder exists: it does, and the rows are kept
        writer = logger.experiment
    writer.metrics += [row for row in rows if row["step"] <= step]
    writer.metrics_keys = sorted({key for row in writer.metrics for key in row})


def _number(text: str) -> int | float:
    """As it was written: a count stays a count."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
