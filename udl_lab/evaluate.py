"""`python -m udl_lab.evaluate run=FOLDER`: rebuild from the checkpoint alone; measure again."""

import argparse
import sys

from udl_lab.configuration import exit_with_message
from udl_lab.errors import UsageError, nearest

_KEYS = ("run", "weights", "data.root")


def main(arguments: list[str]) -> None:
    """Reopen the run that the command line names and print its measurements, made anew."""
    parser = argparse.ArgumentParser("python -m udl_lab.evaluate", description=__doc__)
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="key=value",
        help="run=FOLDER, weights=best|last, data.root=…",
    )
    given = dict(word.partition("=")[::2] for word in parser.parse_args(arguments).settings)
    for key in given:
        if key not in _KEYS:
            raise UsageError(f"there is no key {key!r}; {nearest(key, _KEYS)}")
    if not given.get("run"):
        raise UsageError("say which run: run=FOLDER")
    weights = given.get("weights")
    if weights not in (None, "best", "last"):
        raise UsageError(f"weights={weights}: choose best or last")

    from udl_lab.runs.evaluation import evaluate

    evaluate(given["run"], weights, given.get("data.root"))


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
