"""The `key=value` words after a command on a run, read before anything slow is imported."""

import argparse
from collections.abc import Mapping, Sequence

from udl_lab.errors import UsageError, nearest


def read_settings(
    program: str,
    says: str,
    keys: Mapping[str, str],
    arguments: Sequence[str],
    group: str | None = None,
    options: Sequence[str] = (),
) -> dict[str, str]:
    """The settings as typed; with `--help` they are explained and the process ends.

    Args:
        program: the command.
        says: what it does.
        keys: what each key means; `run` is needed.
        arguments: the words of the command line.
        group: a key whose value names one of `options`, and whose own keys, `group.KEY`, change
            that option's arguments.
        options: the names that `group` may have.

    Raises:
        UsageError: for a key that there is not, or without a run.
    """
    width = max(map(len, keys)) + 2
    listed = "keys:\n" + "\n".join(f"  {key:<{width}}{meaning}" for key, meaning in keys.items())
    if group is not None:
        listed += f"\n  {group}.KEY=… changes an argument of the {group}"
        listed += f"\n\n{group}: {', '.join(options)}"
    parser = argparse.ArgumentParser(
        program,
        description=says,
        epilog=listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="+", metavar="key=value")
    given = dict(word.partition("=")[::2] for word in parser.parse_args(arguments).settings)
    for key in given:
        if key not in keys and (group is None or not key.startswith(f"{group}.")):
            raise UsageError(f"there is no key {key!r}; {nearest(key, keys)}")
    if not given.get("run"):
        raise UsageError("say which run: run=FOLDER")
    return given


def option(given: Mapping[str, str], group: str, options: Sequence[str], default: str) -> str:
    """Which option of a group is wanted."""
    chosen = given.get(group, default)
    if chosen not in options:
        raise UsageError(f"there is no {group}={chosen}; {nearest(chosen, options)}")
    return chosen


def changes(given: Mapping[str, str], group: str) -> dict[str, str]:
    """What `group.KEY=…` says of the option's arguments."""
    start = f"{group}."
    return {key.removeprefix(start): v for key, v in given.items() if key.startswith(start)}


def choice(
    given: Mapping[str, str], key: str, of: Sequence[str], default: str | None = None
) -> str | None:
    """One of a few words."""
    chosen = given.get(key, default)
    if chosen not in (default, *of):
        raise UsageError(f"{key}={chosen}: choose {' or '.join(of)}")
    return chosen


def whole(given: Mapping[str, str], key: str, default: int, least: int = 0) -> int:
    """A whole number."""
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{key}={text}: give a whole number from {least} up")
    return int(text)


def number(given: Mapping[str, str], key: str, default: float) -> float:
    """Any number."""
    text = given.get(key, str(default))
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{key}={text}: give a number") from None


def switch(given: Mapping[str, str], key: str, default: bool) -> bool:
    """True or false."""
    text = given.get(key, str(default)).lower()
    if text not in ("true", "false"):
        raise UsageError(f"{key}={given[key]}: choose true or false")
    return text == "true"
