"""The benchmarks run, and compare what they say they compare; their speed is not tested."""

import importlib
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
ONCE = ["--repeats", "1", "--warm-up", "0"]

# A benchmark run of one epoch has few rows to draw; matplotlib then finds no curve to name.
pytestmark = pytest.mark.filterwarnings("ignore:No artists with labels:UserWarning")


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark by name, as `python benchmarks/<name>.py` does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("WANDB_SILENT", "WANDB_MODE", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that what the script sets is undone
    return importlib.import_module


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory) -> str:
    """A folder laid out as MNIST's, of 160 training and 32 test images of noise."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, n in (("train", 160), ("t10k", 32)):
        images = random.integers(256, size=(n, 28, 28), dtype=np.uint8)
        labels = random.integers(10, size=n, dtype=np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
            (raw / f"{split}-{kind}-ubyte").write_bytes(header + values.tobytes())
    return str(root)


def rows(printed: str) -> dict[str, list[str]]:
    """The table's cells, by the name of the case."""
    table = [line.strip("| ").split("|") for line in printed.splitlines() if line[:1] == "|"]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in table[2:]}


def test_a_ratio_is_the_median_of_the_ratios_within_turns(script):
    timing = script("_timing")
    times = {"a": [1.0, 10.0, 12.0], "b": [2.0, 2.0, 12.0]}
    # Within turns .5, 5 and 1. The medians are 10 and 2: their ratio, 5, is another number.
    assert timing.ratio(times, "a", "b") == (1.0, 0.5, 5.0)
    assert timing.difference(times, "a", "b") == (0.0, -1.0, 8.0)


def test_cases_run_in_turn_and_the_warm_up_does_not_count(script):
    calls = []

    def case(name, value):
        return lambda: calls.append(name) or value * len(calls)

    times = script("_timing").in_turn({"a": case("a", 1), "b": case("b", 10)}, 2, 1)
    assert "".join(calls) == "ababab"
    assert times == {"a": [3, 5], "b": [40, 60]}


@pytest.mark.parametrize(
    ("median", "relation", "verdict"),
    [(1.1, "at most", "PASS"), (1.3, "at most", "MISS"), (1.3, "at least", "PASS")],
)
def test_the_verdict_is_honest(median, relation, verdict, script, capsys):
    timing = script("_timing")
    timing.print_verdict("x", timing.Spread(median, 0.0, 9.0), relation, 1.2, ".1f")
    assert capsys.readouterr().out.startswith(verdict)


@pytest.mark.slow
def test_the_rotation_epoch_is_timed_against_torchvision(script, few_digits, capsys):
    name = "rotation_epoch"
    script(name).main([*ONCE, "--data-root", few_digits, "--per-image", "80"])
    out = capsys.readouterr().out
    assert len(rows(out)) == 4
    assert rows(out)["ours (udl_lab.train)"][-1].startswith("1.00")
    assert "80 of 160 images" in out
    assert "target: at least 12" in out


@pytest.mark.slow
def test_the_mlp_epoch_is_timed_against_a_bare_loop(script, few_digits, capsys):
    script("mlp_epoch").main([*ONCE, "--data-root", few_digits])
    out = capsys.readouterr().out
    assert len(rows(out)) == (3 if find_spec("jax") else 2)
    assert ("No row for JAX" in out) == (find_spec("jax") is None)
    assert "target: at most 1.2" in out


@pytest.mark.slow
def test_a_step_is_timed_against_a_bare_step(script, capsys):
    script("step_overhead").main([*ONCE, "--steps", "60"])
    out = capsys.readouterr().out
    assert set(rows(out)) == {"bare torch", "ours (udl_lab.train)"}
    assert "target: at most 1000" in out


def test_missing_data_are_named_with_the_remedy(script, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        script("mlp_epoch").main(["--data-root", str(tmp_path)])
    assert exit_.value.code == 2
    assert "UDL_DATA" in capsys.readouterr().err


@pytest.mark.slow
def test_the_cost_of_measuring_is_compared_with_plain_forwards(script, few_digits, capsys):
    script("probes").main(["--data-root", few_digits, "--images", "32", *ONCE])
    printed = capsys.readouterr().out
    assert list(rows(printed)) == [
        "two plain forwards", "streamed distances", "storing all activations",
    ]  # fmt: skip
    assert "over 32 pairs" in printed
    assert printed.count("target: at most") == 2


@pytest.mark.slow
def test_updates_are_timed_against_diffusers_and_the_book(script, capsys):
    script("diffusion_updates").main([*ONCE, "--calls", "3", "--samples", "2000"])
    out = capsys.readouterr().out
    assert len(rows(out)) == (4 if find_spec("diffusers") else 2)
    assert out.count("target: at least") == len(rows(out)) / 2


@pytest.mark.slow
def test_a_u_net_is_trained_against_a_bare_loop_and_a_plain_net(script, few_digits, capsys):
    script("unet_training").main([*ONCE, "--data-root", few_digits, "--steps", "1"])
    out = capsys.readouterr().out
    assert list(rows(out)) == ["bare torch", "ours (udl_lab.train)", "bare torch, a plain U-Net"]
    assert "target: at most 1.05" in out and "target: at least 7" in out
