"""`python -m udl_lab.probe`: a report beside the run, or one message and nothing written."""

import pandas as pd
import pytest

from udl_lab import probe as command
from udl_lab.configuration import SYMMETRIES, compose
from udl_lab.errors import UsageError
from udl_lab.runs.execute import execute
from udl_lab.runs.option import make_option
from udl_lab.runs.probing import probe
from udl_lab.symmetry.function_action import FunctionAction

QUICK = ["n_images=40", "n_boot=40", "batch_size=20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small CNN with a pooling, trained on digits for one epoch."""
    path = tmp_path_factory.mktemp("probed") / "run"
    settings = ["net=cnn", "net.channels=[3,4]", "net.kernel_size=3", "net.widths=[]"]
    settings += ["net.padding=same", "net.padding_mode=circular", "logger=csv"]
    settings += ["measure=classification", "trainer.max_epochs=1", "data.n_train=200"]
    settings += ["trainer.enable_progress_bar=false", "augment=none"]
    return execute(compose([*settings, f"run_dir={path}"]), quiet=True).path


def left(run):
    return sorted(p.name for p in (run / "probes").iterdir()) if (run / "probes").exists() else []


def test_the_report_is_a_table_with_its_provenance_and_figures(run, capsys):
    command.main([f"run={run}", "symmetry=c4", "sites=[blocks.*,output]", *QUICK])
    table = pd.read_csv(run / "probes" / "c4.csv", keep_default_na=False)
    assert set(table["site"]) == {
        "", "pixels", "output",
        *(f"blocks.{i}.{part}" for i in (0, 1) for part in ("convolution", "pool", "activation")),
    }  # fmt: skip
    assert {"rho", "rho_untrained", "rho_round_trip", "index", "bracket_sorted", "cka"} <= set(
        table["metric"]
    )
    assert table["checkpoint"].nunique() == 1 and len(table["checkpoint"].iloc[0]) == 16
    assert set(table["interpolation"]) == {"none"}
    [said] = set(table.loc[table["site"] == "blocks.0.convolution", "audit"])
    assert said.startswith("cannot; kernel is not symmetric")
    assert left(run) == [
        "c4.csv",
        "c4_bracket.png",
        "c4_channels.png",
        "c4_index.png",
        "c4_rho.png",
    ]
    shown = capsys.readouterr().out
    assert "audit, certificate" in shown
    assert "contradicted" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["symetry=c4"], "symetry"),
        (["symmetry=c5"], "c4"),
        (["symmetry=c4", "n_images=many"], "n_images=many"),
        (["symmetry=c4", "undivided=maybe"], "refuse or skip"),
        (["symmetry=c4", "weights=worst"], "best or last"),
        (["symmetry=c4", "sites=[bloks.0.pool]"], "blocks.0.pool"),
        (["symmetry=c4", "symmetry.degrees=[90,0]"], "identity"),
        (["symmetry=c4", "symmetry.angle=3"], "angle"),
        (["symmetry=shifts"], r"stride 2.*undivided=skip"),
        (["symmetry=shifts", "symmetry.shifts=[[1]]"], r"\[right, down\] for"),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(run, words, message):
    before = left(run)
    with pytest.raises(UsageError, match=message):
        command.main([f"run={run}", *QUICK, *words])
    assert left(run) == before


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        command.main([f"run={tmp_path}"])
    with pytest.raises(UsageError, match="run=FOLDER"):
        command.main(["symmetry=c4"])


def test_an_action_whose_laws_fail_is_refused_before_anything_is_measured(run, monkeypatch):
    broken = FunctionAction("half turn", {"turned": lambda x: x.roll(1, -1)}, {"turned": "turned"})
    monkeypatch.setattr("udl_lab.runs.probing.make_option", lambda *given: broken)
    before = left(run)
    with pytest.raises(UsageError, match=r"fails its check: inverse"):
        settings = {"n_images": 40, "n_boot": 40, "batch_size": 20, "undivided": "refuse"}
        probe(str(run), "mine", {}, sites=["*"], weights=None, root=None, **settings)
    assert left(run) == before


def test_the_arguments_of_an_action_can_be_changed():
    assert make_option(SYMMETRIES, "translations", {"pixels": "[3]"}).elements()[0] == (3, 0)
    with pytest.raises(UsageError, match="pixels"):
        make_option(SYMMETRIES, "translations", {"pixels": "[0]"})
