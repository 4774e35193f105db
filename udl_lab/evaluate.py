"""`python -m udl_lab.evaluate run=FOLDER`: rebuild from the checkpoint alone; measure again."""

import sys

from udl_lab.configuration import exit_with_message
from udl_lab.settings import choice, read_settings

_KEYS = {
    "run": "the run's folder",
    "weights": "best or last; default: the run's own",
    "data.root": "the folder of the data",
}


def main(arguments: list[str]) -> None:
    """Reopen the run that the command line names and print its measurements, made anew."""
    says = "Rebuild a run's model from its checkpoint alone, and measure it again."
    given = read_settings("python -m udl_lab.evaluate", says, _KEYS, arguments)
    weights = choice(given, "weights", ("best", "last"))

    from udl_lab.runs.evaluation import evaluate

    evaluate(given["run"], weights, given.get("data.root"))


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
