"""The whole path: configure, fit, measure, draw, write."""

import json
import math
import os

import pandas as pd
import pytest
import torch

from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.build import as_config, build_net
from udl_lab.runs.execute import execute
from udl_lab.runs.folder import RunFolder, read_config


def test_a_run_leaves_everything_that_the_design_names(finished):
    assert finished.status() == "finished"
    for path in (finished.config, finished.best, finished.last, finished.metrics, finished.results):
        assert path.is_file()
    assert {p.name for p in finished.figures.iterdir()} == {
        "learning_curves.png",
        "rho_rotation.png",
    }
    record = json.loads(finished.record.read_text())
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["data"]) == {"train", "validation", "test"}


def test_the_results_carry_intervals_and_controls(finished):
    rows = {row["key"]: row for row in json.loads(finished.results.read_text())["rows"]}
    for key in (
        "test/accuracy",
        "test/accuracy_of_commonest_class",
        "rotation/accuracy@identity",
        "rotation/rho/output",
        "rotation/rho/output@+45",
        "rotation/rho_same_class/output",
        "rotation/rho_round_trip/output",
        "rotation/rho_untrained/output",
    ):
        row = rows[key]
        assert row["low"] <= row["estimate"] <= row["high"]
        assert math.isfinite(row["estimate"])


def test_what_is_logged_keeps_its_names(finished):
    metrics = pd.read_csv(finished.metrics)
    assert {"train/loss_nats", "train/accuracy", "val/loss_nats", "val/accuracy"} <= set(metrics)


def test_a_run_is_repeated_bit_for_bit_from_its_saved_configuration(finished, tmp_path):
    saved = read_config(finished.config) | {"run_dir": str(tmp_path / "again")}
    again = execute(as_config(saved), quiet=True)
    first = torch.load(finished.last, weights_only=True)["state_dict"]
    second = torch.load(again.last, weights_only=True)["state_dict"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads(finished.results.read_text()) == json.loads(again.results.read_text())


def test_another_seed_gives_another_network(finished, tiny):
    a, b = (build_net(compose([*tiny, f"seed={seed}"])) for seed in (0, 1))
    assert not torch.equal(a.output.weight, b.output.weight)


def test_the_global_random_state_is_left_alone(tiny, tmp_path):
    before = torch.get_rng_state()
    execute(compose([*tiny, f"run_dir={tmp_path / 'run'}"]), quiet=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_default_folder_is_numbered_and_never_overwritten(tiny, tmp_path):
    overrides = [*tiny, f"runs_root={tmp_path}", "trainer.max_epochs=1", "measure=classification"]
    overrides = [o for o in overrides if not o.startswith("measure.")]
    paths = [execute(compose(overrides), quiet=True).path for _ in range(2)]
    assert [str(p.relative_to(tmp_path)) for p in paths] == [
        "quickstart/rotation/seed0",
        "quickstart/rotation/seed0-2",
    ]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=mnist", "data.root=/nonexistent"], ["/nonexistent", "data=digits"]),
        (["trainer.devices=3"], ["data.batch_size=64", "63 or 66"]),
        (["trainer.devices=2", "data.n_train=65"], ["last batch", "data.n_train=64"]),
        (["data.n_train=100000"], ["data.n_train=100000"]),
        (["net=cnn", "net.kernel_size=40"], ["net:", "no pixel"]),
        (["net=cnn", "net.kernel_size=[3]"], ["net:", "kernel_size"]),
        (["augment.degrees=[90, 0]"], ["augment:", "90"]),
        (["trainer.accelerator=abacus"], ["trainer:", "abacus"]),
        (["resume=/nonexistent"], ["/nonexistent", "no run"]),
    ],
)
def test_bad_input_is_refused_and_leaves_no_folder(overrides, words, tiny, tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    given = {override.partition("=")[0] for override in overrides}
    kept = [o for o in tiny if o.partition("=")[0] not in given]
    with pytest.raises(UsageError) as refusal:
        execute(compose([*kept, f"runs_root={tmp_path}", *overrides]))
    for word in words:
        assert word in str(refusal.value)
    assert not list(tmp_path.iterdir())
    assert not os.path.exists("/nonexistent")


def test_a_folder_that_holds_something_is_not_used(tiny, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        execute(compose([*tiny, f"run_dir={tmp_path}"]))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_divergence_is_recorded_with_its_step_and_keeps_the_last_good_checkpoint(tiny, tmp_path):
    overrides = [o for o in tiny if not o.startswith("measure.")]
    # One linear layer on inputs scaled to 1e18: the first loss is finite, a later one is not.
    folder = execute(
        compose(
            [
                *overrides,
                "net=linear",
                "augment=none",
                "measure=classification",
                "data.std=1e-18",
                "model.optimizer.lr=1e10",
                "weights=last",
                f"run_dir={tmp_path / 'run'}",
            ]
        ),
        quiet=True,
    )
    assert folder.status() == "diverged"
    rows = {row["key"]: row for row in json.loads(folder.results.read_text())["rows"]}
    assert rows["run/diverged"]["estimate"] == 1
    assert "step" in rows["run/diverged"]["note"]
    assert not folder.last.exists() or all(
        torch.isfinite(v).all()
        for v in torch.load(folder.last, weights_only=True)["state_dict"].values()
    )


def test_a_bound_that_the_data_cannot_give_is_null_in_the_results(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_results([{"key": "a/b", "estimate": 1.0, "low": math.nan, "high": math.nan}])
    text = folder.results.read_text()
    assert "NaN" not in text
    assert json.loads(text)["rows"] == [{"key": "a/b", "estimate": 1.0, "low": None, "high": None}]
