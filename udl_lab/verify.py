"""`python -m udl_lab.verify [STUDY …] [key=value …]`: test what the studies claim, over seeds."""

import argparse
import sys

from udl_lab.configuration import exit_with_message

_HELP = """Run what is missing of a study's arms and seeds, reuse what is finished, and test its
claims: each must hold for the whole 95 % interval over seeds. Prints
claim · measured [low, high] · required · verdict, writes runs/<study>/results.json, and exits with
code 1 if a claim is not shown."""


def main(arguments: list[str]) -> None:
    """Verify the studies that the command line names; all of them if it names none."""
    from udl_lab.configuration import studies

    parser = argparse.ArgumentParser("python -m udl_lab.verify", description=_HELP)
    parser.add_argument("study", nargs="*", help="one of: " + ", ".join(studies()))
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for every run, e.g. data.root=FOLDER"
    )
    parser.add_argument("--arms", help="only the claims that need no other arms, comma-separated")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    options = parser.parse_intermixed_args(arguments)
    names = [name for name in options.study if "=" not in name]
    overrides = [word for word in options.study + options.overrides if "=" in word]

    from udl_lab.runs.verification import verify

    only = options.arms.split(",") if options.arms else None
    if not verify(names or studies(), overrides, only, options.dry_run):
        sys.exit(1)


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
