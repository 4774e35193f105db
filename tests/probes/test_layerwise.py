"""The layer-wise report: exact where it must be, the same however it is computed, and loud."""

import json
import math
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from udl_lab.data.source import Examples
from udl_lab.nets.c4 import C4CNN
from udl_lab.nets.cnn import CNN
from udl_lab.nets.cortex import Cortex
from udl_lab.probes.layerwise import Layerwise
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.actions import Rotations, Translations
from udl_lab.symmetry.shifts import CircularShifts

C4 = Rotations([90, 180, 270])
SMALL = {"n_images": 40, "n_boot": 40}


def subject(make, side=12, n=40):
    nets = []
    for seed in (0, 1):
        with seeded(seed, "net"):
            nets.append(make())
    x = torch.rand(n, 1, side, side, generator=generator(0, "images"))
    return Subject(*nets, Examples(x, torch.arange(n) % 3), 0.0)


def table(measurement, subject):
    rows = {(row.metric, row.site, row.element): row for row in measurement(subject)}
    return {key: (row.estimate, row.low, row.high, row.note) for key, row in rows.items()}


def c4cnn():
    return C4CNN([1, 12, 12], 3, channels=(3, 4), kernel_size=3, pool=None, widths=())


def cnn(**settings):
    usual = {"channels": (6, 8), "kernel_size": 3, "pool": None, "widths": ()}
    return CNN([1, 12, 12], 3, **(usual | settings))


def test_the_certificate_recovers_the_hidden_action_of_a_c4_network():
    found = table(Layerwise(C4, **SMALL), subject(c4cnn))
    for site, channels in (("blocks.0.convolution", 3), ("blocks.1.convolution", 4)):
        granted, *_, note = found["certificate", site, ""]
        assert granted == 1
        assert note.startswith(f"regular: {channels} free orbits of 4")
        assert found["certificate_error", site, ""][0] < 1e-5
        assert found["certificate_law", site, ""][0] == 0
        # Turning the map without exchanging its channels is wrong: the bracket is wide open.
        assert found["bracket_known", site, "+90"][0] > 0.3
    assert found["certificate", "output", ""][3].startswith("trivial")
    assert found["index", "output", ""][0] == pytest.approx(1, abs=1e-12)


def test_it_refuses_a_random_cnn_that_the_sorted_test_would_pass():
    """An original's test compares sorted activations: 2-3 % of the norm apart looks equal."""
    found = table(Layerwise(C4, **SMALL), subject(cnn))
    site = "blocks.0.convolution"
    assert found["bracket_sorted", site, "+90"][0] < 0.05
    assert found["certificate", site, ""][0] == 0
    assert found["bracket_permutation", site, "+90"][0] > 0.2


def test_simple_cells_are_a_free_orbit_and_complex_cells_are_invariant():
    found = table(Layerwise(C4, **SMALL), subject(partial(Cortex, [1, 12, 12], 3, n_templates=5)))
    assert found["certificate", "simple", ""][3].startswith("regular: 5 free orbits of 4")
    assert found["certificate", "complex", ""][3].startswith("trivial")
    assert found["index", "complex", ""][0] == pytest.approx(1, abs=1e-12)
    assert found["index", "simple", ""][0] < 0.9


def test_circular_convolutions_carry_shifts_and_zero_padding_breaks_them():
    shifts = CircularShifts([[1, 0], [0, 3]])
    circular = partial(cnn, padding="same", padding_mode="circular")
    zero = partial(cnn, padding="same")
    for make, exact in ((circular, True), (zero, False)):
        found = table(Layerwise(shifts, metrics=["bracket"], **SMALL), subject(make))
        error = found["bracket_known", "blocks.1.activation", "right1"][0]
        assert error < 1e-12 if exact else error > 0.01


def test_moves_that_lose_content_are_exact_where_no_border_reaches():
    measurement = Layerwise(Translations([1, 2]), metrics=["bracket"], **SMALL)
    found = table(measurement, subject(lambda: cnn(padding="same")))
    for label in ("right1", "left2up2"):
        assert found["bracket_known", "blocks.1.convolution", label][0] < 1e-12


def test_a_shift_that_a_stride_does_not_divide_is_refused_or_skipped_and_never_rounded():
    strided = subject(lambda: cnn(pool=2, padding="same", padding_mode="circular"))
    shifts = CircularShifts([[1, 0], [4, 0]])
    with pytest.raises(ValueError, match=r"blocks.0.pool: a shift of 1 pixel .* stride 2; use 2"):
        Layerwise(shifts, metrics=["bracket"], **SMALL)(strided)
    measurement = Layerwise(shifts, metrics=["bracket"], undivided="skip", **SMALL)
    found = table(measurement, strided)
    assert ("bracket_known", "blocks.1.pool", "right1") not in found
    assert found["bracket_known", "blocks.1.pool", "right4"][0] < 1e-12


def close(a, b):
    equal = a == b or (math.isnan(a) and math.isnan(b))
    return equal or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def agree(one, other):
    assert one.keys() == other.keys()
    for key in one:
        for a, b in zip(one[key][:3], other[key][:3], strict=True):
            # What float64 leaves of an exact match is the root of a rounding error, near 1e-8.
            rounding = key[0] in ROOTS and max(a, b) < 1e-6
            assert close(a, b) or rounding, key


ROOTS = ("bracket_permutation", "certificate_error", "bracket_permutation_untrained")


@pytest.mark.parametrize(
    ("make", "batch_size"), [(cnn, 1), (cnn, 7), (cnn, 64), (c4cnn, 7), (c4cnn, 64)]
)
def test_the_report_is_the_same_to_1e_9_for_every_batch_size(make, batch_size):
    agree(in_two_batches(make), table(Layerwise(C4, batch_size=batch_size, **SMALL), subject(make)))


@cache
def in_two_batches(make):
    return table(Layerwise(C4, batch_size=20, **SMALL), subject(make))


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[3])
import torch.distributed as dist
from test_layerwise import C4, SMALL, Layerwise, cnn, subject, table
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
here = subject(cnn)
nets = {"": here.net, "_untrained": here.untrained}
report = Layerwise(C4, batch_size=6, **SMALL)
found = table(lambda subject: report.measure(subject, nets, shared=True), here)
alone = table(report, here) if rank == 0 else None  # as after a fit: the other process has left
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump([[list(key), list(value)] for key, value in found.items()], file)
assert alone is None or alone.keys() == found.keys()
dist.destroy_process_group()
"""


@pytest.mark.slow  # two interpreters that import torch
def test_the_report_is_the_same_to_1e_9_for_one_or_two_processes(tmp_path):
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(tmp_path), here])
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    alone = table(Layerwise(C4, batch_size=6, **SMALL), subject(cnn))
    for rank in (0, 1):
        rows = json.loads((tmp_path / f"{rank}.json").read_text())
        agree({tuple(key): tuple(value) for key, value in rows}, alone)
