"""A run without training: numbers and figures are calculated, and kept like those of any run."""

from dataclasses import replace

from omegaconf import DictConfig

from udl_lab.calculations.result import Calculation
from udl_lab.probes.table import records
from udl_lab.runs import folder as folders
from udl_lab.runs import report, tracking
from udl_lab.runs.build import build
from udl_lab.runs.folder import RunFolder
from udl_lab.runs.lifetime import begin, end, quieten
from udl_lab.runs.signature import check


def calculate(cfg: DictConfig, quiet: bool = False) -> RunFolder:
    """Run one calculation: check, build, calculate, write, draw.

    Nothing is written before the configuration is checked and the calculation built.

    Args:
        cfg: what to run, with a `calculation` and nothing of a training.
        quiet: print no results.

    Raises:
        UsageError: on a user's mistake.
        SystemExit: with code 130 after Ctrl-C.
    """
    check(cfg)
    folder = folders.choose(cfg)
    quieten()
    calculation: Calculation = build(cfg.calculation, "calculation")
    loggers = tracking.loggers(cfg, folder)
    begin(folder, folders.plain(cfg), loggers, noted={}, known={})
    try:
        result = calculation(cfg.seed)
        rows = [replace(row, measure="calculation") for row in result.rows]
        table = records(rows)
        folder.write_results(table)
        figures = report.save(result.figures, folder)
        tracking.send(loggers, rows, figures, folder.last, step=0)
        if not quiet:
            report.say_calculated(cfg, folder, table, figures)
    except KeyboardInterrupt:
        end(folder, loggers, "interrupted")
        raise SystemExit(130) from None
    except BaseException:
        end(folder, loggers, "failed")
        raise
    end(folder, loggers, "finished")
    return folder
