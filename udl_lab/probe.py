"""`python -m udl_lab.probe run=FOLDER symmetry=c4 sites='[conv*]'`: a symmetry, layer by layer."""

import argparse
import sys

from udl_lab.configuration import exit_with_message, symmetries
from udl_lab.errors import UsageError, nearest

_HELP = """Measure how invariant and how equivariant every layer of a run's network is: distances,
the index, the bracket, CKA and, for a group, its certificate, each beside its controls and beside
what the architecture allows. Prints a table; writes FOLDER/probes/SYMMETRY.csv and figures."""

_KEYS = {
    "run": "the run's folder",
    "symmetry": "which action",
    "sites": "layers, as patterns: '[blocks.*,output]'; default: all",
    "n_images": "test images (1000)",
    "n_boot": "resamples behind each interval (1000)",
    "batch_size": "images at once (64)",
    "undivided": "refuse or skip layers whose stride does not divide a shift (refuse)",
    "weights": "best or last; default: the run's own",
    "data.root": "the folder of the data",
}


def main(arguments: list[str]) -> None:
    """Check what the command line says, then measure."""
    options = symmetries()
    keys = "\n".join(f"  {key:<12}{says}" for key, says in _KEYS.items())
    parser = argparse.ArgumentParser(
        "python -m udl_lab.probe",
        description=_HELP,
        epilog=f"keys:\n{keys}\n  symmetry.KEY=… changes an argument of the action\n\n"
        f"symmetries: {', '.join(options)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="+", metavar="key=value")
    given = dict(word.partition("=")[::2] for word in parser.parse_args(arguments).settings)
    for key in given:
        if key not in _KEYS and not key.startswith("symmetry."):
            raise UsageError(f"there is no key {key!r}; {nearest(key, list(_KEYS))}")
    if not given.get("run"):
        raise UsageError("say which run: run=FOLDER")
    symmetry = given.get("symmetry", "c4")
    if symmetry not in options:
        raise UsageError(f"there is no symmetry={symmetry}; {nearest(symmetry, options)}")
    if given.get("weights") not in (None, "best", "last"):
        raise UsageError(f"weights={given['weights']}: choose best or last")
    if given.get("undivided", "refuse") not in ("refuse", "skip"):
        raise UsageError(f"undivided={given['undivided']}: choose refuse or skip")
    numbers = {"n_images": 1000, "n_boot": 1000, "batch_size": 64}
    for key in numbers.keys() & given.keys():
        if not given[key].isdigit() or int(given[key]) < 1:
            raise UsageError(f"{key}={given[key]}: give a whole number from 1 up")
        numbers[key] = int(given[key])
    sites = [site.strip(" '\"") for site in given.get("sites", "*").strip("[] ").split(",")]

    from udl_lab.runs.probing import probe

    probe(
        given["run"],
        symmetry,
        {k.partition(".")[2]: v for k, v in given.items() if k.startswith("symmetry.")},
        sites=sites,
        weights=given.get("weights"),
        root=given.get("data.root"),
        undivided=given.get("undivided", "refuse"),
        **numbers,
    )


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
