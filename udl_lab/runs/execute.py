"""One run, from a configuration to a folder with its results."""

import signal
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from omegaconf import DictConfig, OmegaConf

from udl_lab.callbacks.checkpoint_on_signal import CheckpointOnSignal
from udl_lab.callbacks.embed_config import EmbedConfig
from udl_lab.callbacks.progress_bar import NoProfiler, ProgressBar
from udl_lab.callbacks.training_log import DivergedError, TrainingLog, loss_name
from udl_lab.data.resident import ResidentData
from udl_lab.errors import UsageError
from udl_lab.models.several_steps import steps_per_call
from udl_lab.probes.statistics import Interval
from udl_lab.probes.table import Row, records, row
from udl_lab.runs import folder as folders
from udl_lab.runs import report, tracking
from udl_lab.runs.build import (
    build,
    build_data,
    build_model,
    build_net,
    load_checkpoint,
    start_from_data,
    with_last_weights,
)
from udl_lab.runs.calculation import calculate
from udl_lab.runs.folder import RunFolder
from udl_lab.runs.lifetime import begin, end, quieten
from udl_lab.runs.measurement import build_measurements, measure, watched
from udl_lab.runs.signature import check
from udl_lab.runs.subject import subject_of

# Overrides that may accompany `resume`: they change how far, where and how loudly a run goes on.
_MAY_CHANGE = ("trainer.max_epochs", "trainer.enable_progress_bar", "data.root", "logger.offline")


def execute(cfg: DictConfig, quiet: bool = False) -> RunFolder:
    """Run one experiment: check, build, fit, measure, draw; or calculate, where nothing is trained.

    Nothing is written before the configuration is checked, every object built and the data read.

    Args:
        cfg: what to run.
        quiet: print no results.

    Raises:
        UsageError: on a user's mistake.
        SystemExit: with code 143 after SIGTERM, 130 after Ctrl-C; a checkpoint is written, the run
            can be resumed.
    """
    resumed = cfg.resume is not None
    if "calculation" in cfg and not resumed:
        return calculate(cfg, quiet)
    folder = folders.reopen(cfg.resume) if resumed else None
    if folder is not None:
        cfg = _resumed(cfg, folder)
    check(cfg)
    folder = folder or folders.choose(cfg)
    quieten()
    config = folders.plain(cfg)
    data = build_data(cfg)
    model = build_model(cfg)
    build_measurements(cfg)  # made again when they are due; what they refuse is told now
    watchers = [build(node, f"callbacks.{name}") for name, node in cfg.callbacks.items()]
    # The best checkpoint has the least of this: of the loss, unless the module names another.
    monitored = getattr(model, "monitored", f"val/{loss_name(model)}")
    trainer = _trainer(cfg, config, folder, watchers, monitored if data.n_validation else None)
    _check_devices(cfg, trainer)
    data.group = steps_per_call(trainer, model, watchers)
    model.automatic_optimization = data.group == 1
    if resumed:
        load_checkpoint(str(folder.last))  # refused here if it is unsafe, before anything starts
    data.prepare_data()
    data.setup()
    data.check_last_batch(trainer.world_size)
    if not resumed:
        start_from_data(model, data)
    _open(folder, config, data.fingerprints(), resumed, trainer)
    try:
        diverged = _fit(trainer, model, data, folder, resumed)
        if trainer.is_global_zero:
            table, figures = _measure(cfg, folder, trainer, model, data, diverged)
            if not quiet:
                report.say(cfg, folder, table, figures, diverged)
    except SIGTERMException:
        _stop(folder, trainer)
        raise SystemExit(128 + _what_stopped(trainer)) from None
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the second Ctrl-C into an exit
        _stop(folder, trainer)
        raise
    except BaseException:
        _close(folder, trainer, "failed")
        raise
    _close(folder, trainer, "diverged" if diverged is not None else "finished")
    return folder


def _stop(folder: RunFolder, trainer: L.Trainer) -> None:
    _close(folder, trainer, "interrupted")
    if trainer.is_global_zero and folder.last.is_file():
        report.say_how_to_resume(folder)


def _what_stopped(trainer: L.Trainer) -> int:
    by_keyboard = any(getattr(callback, "by_keyboard", False) for callback in trainer.callbacks)
    return signal.SIGINT if by_keyboard else signal.SIGTERM


def _resumed(cfg: DictConfig, folder: RunFolder) -> DictConfig:
    """The configuration of the run to resume, with the few overrides that it may be given."""
    saved = OmegaConf.load(folder.config)
    if "calculation" in saved:
        raise UsageError(
            f"{folder.path} is a calculation, which has no steps to go on with; run its experiment "
            "again, in a folder of its own"
        )
    if not folder.last.is_file():
        raise UsageError(
            f"{folder.path} holds no checkpoint yet ({folder.last}); remove the folder, start again"
        )
    typed = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    for override in typed:
        key = override.partition("=")[0]
        if key == "resume":
            continue
        if key not in _MAY_CHANGE:
            raise UsageError(
                f"{override}: a resumed run keeps its configuration; only {', '.join(_MAY_CHANGE)} "
                "may be given with resume"
            )
        OmegaConf.update(saved, key, OmegaConf.create({"value": OmegaConf.select(cfg, key)}).value)
    if folder.status() == "finished" and not any("max_epochs" in o for o in typed):
        raise UsageError(
            f"{folder.path} is finished; to train on, give a larger trainer.max_epochs as well"
        )
    return saved


def _trainer(
    cfg: DictConfig,
    config: dict[str, Any],
    folder: RunFolder,
    watchers: list[L.Callback],
    monitored: str | None,
) -> L.Trainer:
    """The trainer with the lab's own callbacks and loggers; it writes nothing before it fits."""
    callbacks = [
        EmbedConfig(config),
        TrainingLog(),
        CheckpointOnSignal(str(folder.last)),
        *watchers,
        ModelCheckpoint(str(folder.checkpoints), "last", enable_version_counter=False),
    ]
    if monitored is not None:
        callbacks.append(
            ModelCheckpoint(
                str(folder.checkpoints),
                "best",
                monitor=monitored,
                mode="min",
                enable_version_counter=False,
            )
        )
    if cfg.trainer.get("enable_progress_bar", True):
        callbacks.append(ProgressBar())
    try:
        return build(
            cfg.trainer,
            "trainer",
            callbacks=callbacks,
            logger=tracking.loggers(cfg, folder),
            default_root_dir=str(folder.path),
            **({} if cfg.trainer.get("profiler") else {"profiler": NoProfiler()}),
        )
    except MisconfigurationException as error:
        raise UsageError(f"trainer: {error}") from error


def _check_devices(cfg: DictConfig, trainer: L.Trainer) -> None:
    batch_size, devices = cfg.data.batch_size, trainer.world_size
    if batch_size % devices:
        below = batch_size - batch_size % devices
        remedy = f"{below + devices}" if not below else f"{below} or {below + devices}"
        raise UsageError(
            f"data.batch_size={batch_size} counts the examples over all devices and does not "
            f"divide over {devices}; use {remedy}"
        )


def _open(
    folder: RunFolder,
    config: dict[str, Any],
    fingerprints: dict[str, str],
    resumed: bool,
    trainer: L.Trainer,
) -> None:
    if not trainer.is_global_zero:
        return
    known = {"fingerprints": fingerprints, "checkpoint": str(folder.last)}
    noted = {"weights": config["weights"], "data": fingerprints}
    begin(folder, config, trainer.loggers, noted, known, resumed)
    folders.share(folder)


def _fit(
    trainer: L.Trainer,
    model: L.LightningModule,
    data: L.LightningDataModule,
    folder: RunFolder,
    resumed: bool,
) -> int | None:
    """Train; the step at which the loss ceased to be finite, or `None`."""
    checkpoint = str(folder.last) if resumed else None
    try:
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    except DivergedError as error:
        return error.step
    return None


def _measure(
    cfg: DictConfig,
    folder: RunFolder,
    trainer: L.Trainer,
    model: L.LightningModule,
    data: ResidentData,
    diverged: int | None,
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Measure the chosen weights, write the results and draw."""
    chosen = folder.best if cfg.weights == "best" else folder.last
    rows = [_outcome(diverged)]
    if chosen.is_file():
        content = load_checkpoint(str(chosen))
        model.load_state_dict(content["state_dict"])
        model.cpu().float().eval()  # as `load_model` reopens it, whatever it was trained in
        last = with_last_weights(content, lambda: build_model(cfg))
        subject = subject_of(model, build_net(cfg).eval(), data, last)
        try:
            for measured in measure(cfg, subject):
                rows.append(measured)
        except UsageError:  # what was measured before is not lost with it
            folder.write_results(records(rows))
            raise
    for logger in trainer.loggers:
        logger.save()
    if folder.metrics.is_file():
        rows += watched(pd.read_csv(folder.metrics))
    table = records(rows)
    folder.write_results(table)
    figures = report.draw(cfg, folder, model, table, data.test)
    tracking.send(trainer.loggers, rows, figures, chosen, trainer.global_step)
    return table, figures


def _outcome(diverged: int | None) -> Row:
    value = float(diverged is not None)
    note = "" if diverged is None else f"loss not finite at step {diverged}"
    return row("diverged", Interval.exact(value), 1, note=note, measure="run")


def _close(folder: RunFolder, trainer: L.Trainer, status: str) -> None:
    if trainer.is_global_zero:
        end(folder, trainer.loggers, status)
    folders.unshare()
