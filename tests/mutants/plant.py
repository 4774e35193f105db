"""Plant the listed defects one at a time and say which test notices each: `make mutants`.

Every defect gets a copy of the repository in a temporary folder; the working tree stays as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parents[2]
LISTS = sorted(Path(__file__).parent.glob("*.yaml"))
COPIED = ("udl_lab", "configs", "experiments", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """One change of one file, and the tests that should notice it."""

    name: str
    origin: str  # where it was found
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # files or functions, as pytest takes them

    def planted(self, text: str) -> str:
        """The file's text with the defect.

        Raises:
            ValueError: unless the old text is there, once.
        """
        n = text.count(self.old)
        if n != 1:
            raise ValueError(f"stale: {self.name!r} replaces what {self.file} has {n} times, not 1")
        return text.replace(self.old, self.new)


def read(lists: Iterable[Path] = LISTS) -> list[Mutant]:
    """The mutants of the YAML files."""
    entries = [entry for path in lists for entry in yaml.safe_load(path.read_text())]
    return [Mutant(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]


def copy(tree: Path, to: Path) -> Path:
    """What the tests need of a repository, without what was made in it."""
    to.mkdir()
    for name in COPIED:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (tree / name).exists():
            shutil.copy(tree / name, to / name)
    return to


def python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """This interpreter in a copy, which imports the copy's package."""
    env = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",  # two programs at once, each with two threads, wait for each other
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True
    )


def first_failure(tree: Path, tests: Sequence[str]) -> str | None:
    """The first test that fails, as `file::name`; `None` if none does.

    Raises:
        RuntimeError: when pytest could not run the tests: that is no failure of theirs.
    """
    quick = ["-x", "--tb=line", "-p", "no:cacheprovider", "--timeout=120"]
    done = python(tree, "-m", "pytest", *quick, *tests)
    if done.returncode == 0:
        return None
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode != 1 or not failed:
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    return failed[0].removeprefix("FAILED ").split(" - ")[0].rpartition("/")[2]


def check(tree: Path, mutants: Sequence[Mutant]) -> None:
    """That the copy itself is imported, every mutant fits and the tests pass without one.

    Raises:
        ValueError: for a stale mutant.
        RuntimeError: when another package than the copy's is imported, or a test fails.
    """
    for mutant in mutants:
        mutant.planted((tree / mutant.file).read_text())
    found = python(tree, "-c", "import udl_lab; print(udl_lab.__file__)").stdout.strip()
    if Path(found) != tree / "udl_lab" / "__init__.py":
        raise RuntimeError(f"the tests would import {found or 'nothing'}, not the copy in {tree}")
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    if failed := first_failure(tree, tests):
        raise RuntimeError(f"{failed} fails without any mutant; mend it first")


def noticed_by(mutant: Mutant, tree: Path, to: Path) -> str | None:
    """The test that notices a mutant, which is planted in a copy of the tree."""
    planted = copy(tree, to)
    file = planted / mutant.file
    file.write_text(mutant.planted(file.read_text()))
    try:
        return first_failure(planted, mutant.tests)
    finally:
        shutil.rmtree(planted)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown, the first one being the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in padded)


def run(mutants: Sequence[Mutant], root: Path = ROOT, jobs: int = 2) -> int:
    """Plant the mutants, print the table, and return how many survived."""
    bar = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        base = Path(folder).resolve()
        clean = copy(root, base / "clean")  # the working tree may change meanwhile
        print(f"The tests of {len(mutants)} mutants, without a mutant ...", flush=True)
        check(clean, mutants)
        found = pool.map(
            lambda i: noticed_by(mutants[i], clean, base / str(i)), range(len(mutants))
        )
        killers = list(
            track(found, "Mutants", len(mutants), console=bar, disable=not bar.is_terminal)
        )
    rows = [(m.name, m.origin, by or "SURVIVED") for m, by in zip(mutants, killers, strict=True)]
    print(table([("mutant", "from", "killed by"), *rows]))
    survived = killers.count(None)
    print(f"{len(mutants) - survived} of {len(mutants)} mutants were killed.")
    return survived


def main() -> int:
    """The command line; 1 if a mutant survives or cannot be planted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only mutants whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (2)")
    given = parser.parse_args()
    mutants = [m for m in read() if not given.names or any(n in m.name for n in given.names)]
    if not mutants:
        parser.error(f"no mutant's name contains any of {given.names}")
    try:
        return 1 if run(mutants, jobs=given.jobs) else 0
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
