"""Cases timed in turn in one process, and compared as ratios. Nothing here knows what is timed.

The machine drifts by tens of per cent from minute to minute, so seconds of different minutes cannot
be compared. Cases run A B C A B C …, a ratio is taken within each turn, and its median is reported.
"""

import argparse
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

Case = Callable[[], float]
"""Does its work once, and returns the seconds of it that count."""

Times = dict[str, list[float]]
"""The seconds of each case, turn by turn."""


class Spread(NamedTuple):
    """The median of some numbers, and between what they lie."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def in_turn(cases: Mapping[str, Case], repeats: int, warm_up: int) -> Times:
    """Run all cases in turn, `repeats` times, after `warm_up` turns that do not count."""
    times = {name: [] for name in cases}
    for turn in range(-warm_up, repeats):
        shown = []
        for name, case in cases.items():
            gc.collect()  # what one case leaves behind is not collected at another's cost
            seconds = case()
            shown.append(f"{name} {seconds:.3g} s")
            if turn >= 0:
                times[name].append(seconds)
        label = f"turn {turn + 1} of {repeats}" if turn >= 0 else "warm-up"
        print(f"{label}: {', '.join(shown)}", file=sys.stderr, flush=True)
    return times


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(numbers: Iterable[float]) -> Spread:
    """Median, smallest and largest."""
    numbers = list(numbers)
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def ratio(times: Times, case: str, peer: str) -> Spread:
    """Time of `case` over time of `peer`, within each turn."""
    return spread(a / b for a, b in zip(times[case], times[peer], strict=True))


def difference(times: Times, case: str, peer: str) -> Spread:
    """Time of `case` less time of `peer`, in seconds, within each turn."""
    return spread(a - b for a, b in zip(times[case], times[peer], strict=True))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table in Markdown, with its columns aligned."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    print()
    for line in lines:
        print("|", " | ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)), "|")
    print()


def print_verdict(what: str, measured: Spread, relation: str, bound: float, spec: str) -> None:
    """One line: PASS when the median keeps the target, else MISS."""
    kept = measured.median <= bound if relation == "at most" else measured.median >= bound
    verdict = "PASS" if kept else "MISS"
    print(f"{verdict}  {what}: {measured:{spec}}, target: {relation} {bound:g}")


def print_conditions(n_threads: int) -> None:
    """What the seconds depend on: machine, threads, and the load before anything is timed."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {n_threads} threads, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.2f} at the start"
    )


def arguments(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--repeats", type=int, default=repeats, help="turns that count (%(default)s)"
    )
    parser.add_argument("--warm-up", type=int, default=1, help="turns before them (%(default)s)")
    parser.add_argument(
        "--data-root",
        default=os.environ.get("UDL_DATA")
        or Path(__file__).resolve().parents[2] / "shared" / "data",
        help="the folder that holds MNIST/raw (%(default)s: $UDL_DATA, else ../shared/data)",
    )
    return parser


def mnist_root(parser: argparse.ArgumentParser, folder: str | Path) -> str:
    """The folder, if it holds MNIST; else exit with code 2 and say what to give."""
    root = Path(folder).expanduser()
    if not (root / "MNIST" / "raw").is_dir():
        parser.error(f"there is no {root / 'MNIST' / 'raw'}; give --data-root or set UDL_DATA")
    return str(root)
