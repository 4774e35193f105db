"""Fixtures of all tests; nothing here imports `udl_lab`, which the shape checker must see first."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """The folder that holds the real MNIST: `$UDL_DATA`, else `../shared/data` by the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("UDL_DATA") or beside).expanduser()
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(
            f"the real MNIST is not in {root}; set UDL_DATA to the folder that holds MNIST/raw"
        )
    return str(root)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what was not tested, which `-q` would hide."""
    reports = terminalreporter.getreports("skipped")
    for reason in sorted({report.longrepr[2] for report in reports}):
        terminalreporter.write_line(reason, red=True)
