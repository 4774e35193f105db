"""Numbers of bytes, as people write them. Prefixes are decimal, or binary with an i: MB, MiB."""

import re

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{infix}b": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt", start=1)
}


def in_bytes(budget: int | str) -> int:
    """A number of bytes from 200_000_000 or "200MB".

    Raises:
        ValueError: for what is no number of bytes, or none above 0.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", str(budget).lower())
    try:
        number = 0 if match is None else int(float(match[1]) * _UNITS[match[2]])
    except (ValueError, KeyError):
        number = 0
    if number < 1:
        raise ValueError(f"{budget!r} is no number of bytes; write one like 200000000 or '200MB'")
    return number


def spelled(n: int) -> str:
    """For a message, to three digits or so: 1500000 is "1.5 MB"."""
    value = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
