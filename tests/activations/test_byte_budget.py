"""Numbers of bytes are read as people write them."""

import pytest

from udl_lab.activations.byte_budget import in_bytes, spelled


def test_prefixes_are_decimal_or_binary():
    assert in_bytes(1234) == in_bytes("1234") == in_bytes("1234 B") == 1234
    assert in_bytes("200MB") == 200_000_000
    assert in_bytes("1.5 kB") == 1500
    assert in_bytes("2GiB") == 2 * 1024**3
    assert in_bytes("1tb") == 10**12


@pytest.mark.parametrize("budget", ["", "MB", "2 XB", "1.2.3kB", "-5", 0, -1, "0.1"])
def test_what_is_no_number_of_bytes_is_refused(budget):
    with pytest.raises(ValueError, match="'200MB'"):
        in_bytes(budget)


@pytest.mark.parametrize(
    "n, text", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e9, "2 GB"), (3e12, "3 TB")]
)
def test_sizes_are_spelled_short(n, text):
    assert spelled(int(n)) == text
