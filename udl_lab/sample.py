"""`python -m udl_lab.sample run=FOLDER sampler=ddim sampler.steps=20`: draw from a model."""

import argparse
import sys

from udl_lab.configuration import exit_with_message, samplers
from udl_lab.errors import UsageError, nearest

_HELP = """Draw from a run's diffusion model, by any sampler and number of steps. Writes the samples
and a picture of them to FOLDER/samples/. The same seed gives the same noise to every sampler."""

_KEYS = {
    "run": "the run's folder",
    "sampler": "which sampler",
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
    keys = "\n".join(f"  {key:<10}{says}" for key, says in _KEYS.items())
    parser = argparse.ArgumentParser(
        "python -m udl_lab.sample",
        description=_HELP,
        epilog=f"keys:\n{keys}\n  sampler.KEY=… changes an argument of the sampler: steps, eta, "
        f"spacing, variance, …\n\nsamplers: {', '.join(options)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="+", metavar="key=value")
    given = dict(word.partition("=")[::2] for word in parser.parse_args(arguments).settings)
    for key in given:
        if key not in _KEYS and not key.startswith("sampler."):
            raise UsageError(f"there is no key {key!r}; {nearest(key, list(_KEYS))}")
    if not given.get("run"):
        raise UsageError("say which run: run=FOLDER")
    sampler = given.get("sampler", "ddim")
    if sampler not in options:
        raise UsageError(f"there is no sampler={sampler}; {nearest(sampler, options)}")
    weights = given.get("weights")
    if weights not in (None, "best", "last"):
        raise UsageError(f"weights={weights}: choose best or last")
    label = _whole(given, "label", 0) if "label" in given else None

    from udl_lab.runs.sampling import sample

    sample(
        given["run"],
        sampler,
        {k.partition(".")[2]: v for k, v in given.items() if k.startswith("sampler.")},
        n=_whole(given, "n", 64, least=1),
        seed=_whole(given, "seed", 0),
        label=label,
        guidance=_number(given, "guidance"),
        weights=weights,
        average=_switch(given, "average", True),
        clip=_switch(given, "clip", False),
    )


def _whole(given: dict[str, str], key: str, default: int, least: int = 0) -> int:
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < least:  # isdigit would let ² through
        raise UsageError(f"{key}={text}: give a whole number from {least} up")
    return int(text)


def _number(given: dict[str, str], key: str) -> float:
    text = given.get(key, "0")
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{key}={text}: give a number") from None


def _switch(given: dict[str, str], key: str, default: bool) -> bool:
    text = given.get(key, str(default)).lower()
    if text not in ("true", "false"):
        raise UsageError(f"{key}={text}: choose true or false")
    return text == "true"


if __name__ == "__main__":
    exit_with_message(lambda: main(sys.argv[1:]))
