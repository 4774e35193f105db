"""Fixtures of all tests; nothing here imports `udl_lab`, which the shape checker must see first."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """The folder that holds the real MNIST: `$UDL_DATA`, else `../shared/data` by the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("UDL_DATA") or beside).expanduser().resolve()
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(
            f"the real MNIST is not in {root}; set UDL_DATA to the folder that holds MNIST/raw"
        )
    return str(root)


@pytest.fixture
def make_trainer(tmp_path):
    """Makes quiet trainers on one CPU, which log to `tmp_path/<logs>/metrics.csv`."""

    def make(*callbacks, logs="logs", **settings):
        from udl_lab.torchvision_repair import repair

        repair()  # before lightning, which imports torchvision
        import lightning as L
        from lightning.pytorch.callbacks import Checkpoint
        from lightning.pytorch.loggers import CSVLogger

        usual = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
            "use_distributed_sampler": False,
            "logger": CSVLogger(str(tmp_path), name="", version=logs),
        }
        return L.Trainer(callbacks=list(callbacks), **(usual | settings))

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what was not tested, which `-q` would hide."""
    reports = terminalreporter.getreports("skipped")
    for reason in sorted({report.longrepr[2] for report in reports}):
        terminalreporter.write_line(reason, red=True)
