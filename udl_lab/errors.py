"""The user's mistakes, told from the lab's own."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Something that the user typed or supplied cannot be used.

    The message names the bad value and the remedy. Every command prints it alone, without a
    traceback, and exits with code 2.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause for a message: the valid names nearest to a mistyped one, or all of them if few."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(n) for n in close) + "?"
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"choose from: {shown}" if names else "there is none to choose from"
