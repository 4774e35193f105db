"""A calculation is a run like any other, but for what only a training has."""

import json
import subprocess
import sys

import pytest

from udl_lab.configuration import compose, groups
from udl_lab.errors import UsageError
from udl_lab.runs.build import as_config
from udl_lab.runs.evaluation import evaluate
from udl_lab.runs.execute import execute
from udl_lab.runs.folder import RunFolder, read_config
from udl_lab.runs.probing import probe
from udl_lab.runs.reopen import load_run
from udl_lab.runs.sampling import sample
from udl_lab.runs.verification import find_finished, verify

SMALL = [
    "experiment=udl17_estimators/gradients",
    *("calculation.n=200", "calculation.n_curve=100", "calculation.phis=[0.5]"),
]
QUIET = [*SMALL, "logger=csv"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("calculated")


@pytest.fixture(scope="module")
def calculated(root):
    """The folder of a finished calculation, in its default place."""
    return execute(compose([*QUIET, "seed=3", f"runs_root={root}"]), quiet=True)


def content(folder):
    return sorted(folder.path.rglob("*"))


def test_a_calculation_leaves_configuration_record_results_and_figures(calculated, root):
    assert calculated.path == root / "udl17_estimators" / "gradients" / "seed3"
    assert [str(p.relative_to(calculated.path)) for p in content(calculated)] == [
        "config.yaml",
        "figures",
        "figures/derivative_by_phi.png",
        "results.json",
        "run.json",
    ]
    record = json.loads(calculated.record.read_text())
    assert record["status"] == "finished"
    assert {"versions", "machine", "commit", "started"} <= set(record)
    assert set(load_run(calculated.path).results["measure"]) == {"calculation"}


def test_nothing_of_a_training_is_written_into_its_configuration(calculated):
    config = read_config(calculated.config)
    assert set(config) == {
        *("study", "arm", "seed", "weights", "runs_root", "run_dir", "resume"),
        *("logger", "calculation"),
    }
    assert config["weights"] is None
    assert config["calculation"]["n"] == 200


def test_it_is_repeated_bit_for_bit_from_its_saved_configuration(calculated, tmp_path):
    saved = read_config(calculated.config) | {"run_dir": str(tmp_path / "again")}
    again = execute(as_config(saved), quiet=True)
    assert again.results.read_text() == calculated.results.read_text()


def test_another_seed_draws_other_numbers(calculated, tmp_path):
    other = execute(compose([*QUIET, f"run_dir={tmp_path / 'run'}"]), quiet=True)
    a, b = (load_run(f.path).results["estimate"] for f in (calculated, other))
    assert a["calculation/mean/expectation@phi0.5"] != b["calculation/mean/expectation@phi0.5"]
    exact = "calculation/mean_exact/expectation@phi0.5"
    assert a[exact] == b[exact]


def test_reopened_it_has_its_table_figures_and_configuration(calculated):
    run = load_run(calculated.path)
    assert run.results.loc["calculation/z/expectation@phi0.5", "n"] == 200
    assert run.config.calculation.phis == [0.5]
    assert run.record["status"] == "finished"
    assert list(run.figures) == ["derivative_by_phi"]
    assert run.figures["derivative_by_phi"].is_file()


@pytest.mark.parametrize("part", ["model", "net", "untrained", "last_weights", "data", "metrics"])
def test_reopened_it_says_that_it_has_no_model(calculated, part):
    run = load_run(calculated.path)
    with pytest.raises(UsageError, match=r"seed3 is a calculation.*no model"):
        getattr(run, part)


@pytest.mark.parametrize(
    "command",
    [
        lambda path: execute(compose([f"resume={path}"])),
        lambda path: execute(compose([f"resume={path}", *QUIET])),
        lambda path: evaluate(path, None, "/data"),
        lambda path: probe(path, "c4", {}, ["*"], 10, 100, 8, "refuse", None, None),
        lambda path: sample(path, "ddim", {}, 4, 0, None, 0.0, None, True, False),
    ],
    ids=["resume", "resume with its own settings", "evaluate", "probe", "sample"],
)
def test_what_needs_a_training_is_refused_and_leaves_the_folder_as_it_was(calculated, command):
    before = content(calculated)
    with pytest.raises(UsageError, match="seed3 is a calculation"):
        command(str(calculated.path))
    assert content(calculated) == before


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("trainer.max_epochs=3", "trainer"),
        ("+trainer.max_epochs=3", "trainer"),
        ("trainer=gpu", "trainer"),
        ("debug=fast", "trainer"),
        ("data=mnist", "data"),
        ("data.root=elsewhere", "data"),
        ("augment=flips", "augment"),
        ("net=cnn", "net"),
        ("net.widths=[3]", "net"),
        ("model=diffusion", "model"),
        ("callbacks=ema", "callbacks"),
        ("measure=classification", "measure"),
        ("weights=last", "weights"),
    ],
)
def test_a_setting_of_a_training_is_refused_with_the_remedy(override, key, tmp_path):
    with pytest.raises(UsageError) as refusal:
        execute(compose([*QUIET, f"runs_root={tmp_path}", override]))
    assert str(refusal.value).startswith(f"{key}: a calculation trains nothing and has no {key}")
    assert "leave out" in str(refusal.value) and "calculation=none" in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("calculation=gradient_estimatrs", ["calculation=", "'gradient_estimators'"]),
        ("calculation.m=3", ["'calculation.m'"]),
        ("calculation.n=99", ["calculation.n=99", "greater than or equal to 100"]),
        ("calculation.phis=[0.5,2]", ["calculation.phis.1=2", "less than or equal to 1.5"]),
        ("seed=-1", ["seed=-1"]),
    ],
)
def test_a_wrong_setting_of_the_calculation_is_refused_by_name(override, words, tmp_path):
    with pytest.raises(UsageError) as refusal:
        execute(compose([*QUIET, f"runs_root={tmp_path}", override]))
    for word in words:
        assert word in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_training_has_no_calculation_in_its_configuration():
    """Else every finished run would have to be made again, for its configuration had changed."""
    assert "calculation" not in compose([])


def test_the_group_is_listed():
    assert {"gradient_estimators", "importance_sampling", "none"} <= set(groups()["calculation"])


def test_finished_calculations_are_reused_and_others_are_not(calculated, root):
    same = [*QUIET, "seed=3", f"runs_root={root}"]
    found = find_finished(compose(same))
    assert found is not None and found.path == calculated.path
    assert find_finished(compose([*same, "calculation.n=300"])) is None
    assert find_finished(compose([*same, "seed=4"])) is None


@pytest.mark.slow
def test_a_study_of_calculations_is_verified_whatever_folder_other_studies_read(tmp_path, capsys):
    overrides = ["data.root=elsewhere", *SMALL[1:3], "calculation.phis=[0.3,0.5]"]
    root = f"runs_root={tmp_path}"
    verify(["udl17_estimators"], [root, *overrides], ["gradients"], False)
    results = json.loads((tmp_path / "udl17_estimators" / "results_gradients.json").read_text())
    verdicts = {claim["name"]: claim["verdict"] for claim in results["claims"]}
    assert verdicts["the_expectation"] == verdicts["the_derivative"] == "holds"
    assert len(results["runs"]) == 5
    verify(["udl17_estimators"], [root, *overrides], ["gradients"], False)
    assert "5 runs reused, 0 to make" in capsys.readouterr().out


def test_every_row_is_printed_whole_and_every_file_named(tmp_path, capsys):
    folder = execute(compose([*QUIET, f"run_dir={tmp_path / 'run'}"]))
    shown = capsys.readouterr().out
    for row in json.loads(folder.results.read_text())["rows"]:
        assert row["key"].removeprefix("calculation/") in shown
    assert str(folder.figures / "derivative_by_phi.png") in shown


@pytest.mark.slow
def test_the_numbers_and_pictures_go_to_the_tracker_as_well(tmp_path):
    folder = execute(compose([*SMALL, f"run_dir={tmp_path / 'run'}"]), quiet=True)
    [offline] = folder.path.glob("wandb/offline-run-*")
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(offline)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for word in ("calculation/z/expectation@phi0.5", "figures/derivative_by_phi", "n_curve"):
        assert word in shown
    assert "checkpoint" not in shown
    assert json.loads(folder.record.read_text())["wandb_id"] in offline.name


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A configuration whose calculation raises what it is told to."""
    (tmp_path / "broken_calculation.py").write_text(
        "class Broken:\n"
        "    def __init__(self, how: str) -> None:\n"
        "        self.how = how\n"
        "    def __call__(self, seed: int):\n"
        "        raise {'stopped': KeyboardInterrupt, 'wrong': RuntimeError}[self.how]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = compose([*QUIET, f"run_dir={tmp_path / 'run'}"])
    cfg.calculation = {"_target_": "broken_calculation.Broken", "how": "wrong"}
    return cfg


@pytest.mark.parametrize(
    ("how", "raised", "status"),
    [("stopped", SystemExit, "interrupted"), ("wrong", RuntimeError, "failed")],
)
def test_one_that_does_not_finish_is_recorded_as_such(broken, how, raised, status):
    broken.calculation.how = how
    with pytest.raises(raised) as stop:
        execute(broken, quiet=True)
    assert getattr(stop.value, "code", 130) == 130
    assert RunFolder(broken.run_dir).status() == status
