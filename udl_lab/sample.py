"""`python -m udl_lab.sample run=FOLDER sampler=ddim sampler.steps=20`: draw from a model."""

import sys

from udl_lab.configuration import exit_with_message, samplers
from udl_lab.settings import changes, choice, number, option, read_settings, switch, whole

_HELP = """Draw from a run's diffusion model, by any sampler and number of steps, or from a latent
model's prior, which takes n, seed, weights and average only. Writes the samples and a picture of
them to FOLDER/samples/. The same seed gives the same noise to every sampler."""

_KEYS = {
    "run": "the run's folder",
    "sampler": "which sampler (ddim)",
    "n": "how many examples (64)",
    "seed": "of the noise (0)",
    "label": "the class to draw, of a network trained with labels",
    "guidance": "classifier-free guidance towards the label (0)",
    "weights": "best or last; default: the run's own",
    "average": "true for the average of weights, if the run kept one; false for the last (true)",
    "clip": "true keeps x_0 in [-1, 1] at every step (false)",
}


def main(arguments: list[str]) -> None:
    """Check what the command line says, then sample."""
    options = samplers()
    given = read_settings("python -m udl_lab.sample", _HELP, _KEYS, arguments, "sampler", options)
    settings = {
        "n": whole(given, "n", 64, least=1),
        "seed": whole(given, "seed", 0),
        "label": whole(given, "label", 0) if "label" in given else None,
        "guidance": number(given, "guidance", 0.0),
        "weights": choice(given, "weights", ("best", "last")),
        "average": switch(given, "average", True),
        "clip": switch(given, "clip", False),
    }
    # A latent model has no sampler, and is to refuse one that is asked for.
    sampler = option(given, "sampler", options, "ddim") if "sampler" in given else None

    from udl_lab.runs.sampling import sample

    sample(given["run"], sampler, changes(given, "sampler"), **settings)


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
