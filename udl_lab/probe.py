"""`python -m udl_lab.probe run=FOLDER symmetry=c4 sites='[conv*]'`: a symmetry, layer by layer."""

import sys

from udl_lab.configuration import exit_with_message, symmetries
from udl_lab.settings import changes, choice, option, read_settings, whole

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
    given = read_settings("python -m udl_lab.probe", _HELP, _KEYS, arguments, "symmetry", options)
    settings = {
        "undivided": choice(given, "undivided", ("refuse", "skip"), "refuse"),
        "weights": choice(given, "weights", ("best", "last")),
        "n_images": whole(given, "n_images", 1000, least=1),
        "n_boot": whole(given, "n_boot", 1000, least=1),
        "batch_size": whole(given, "batch_size", 64, least=1),
        "sites": [s.strip(" '\"") for s in given.get("sites", "*").strip("[] ").split(",")],
        "root": given.get("data.root"),
    }
    symmetry = option(given, "symmetry", options, "c4")

    from udl_lab.runs.probing import probe

    probe(given["run"], symmetry, changes(given, "symmetry"), **settings)


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
