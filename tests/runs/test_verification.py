"""A study is verified over seeds; finished runs are reused, claims are tested, results written."""

import json

import pytest
import yaml

from udl_lab import configuration
from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs import verification
from udl_lab.runs.verification import find_finished, verify


@pytest.fixture
def study(tmp_path, monkeypatch, tiny):
    """A study of its own: two arms of the default experiment, in a copy of the experiments."""
    experiments = tmp_path / "experiments"
    folder = experiments / "toy"
    folder.mkdir(parents=True)
    for arm, rate in (("fast", 0.1), ("slow", 0.0001)):
        (folder / f"{arm}.yaml").write_text(
            "# @package _global_\n"
            f"study: toy\narm: {arm}\nmodel: {{ optimizer: {{ lr: {rate} }} }}\n"
        )
    (folder / "claims.yaml").write_text(
        yaml.safe_dump(
            {
                "seeds": 2,
                "overrides": [*tiny, "trainer.max_epochs=3"],
                "claims": [
                    {
                        "name": "faster",
                        "says": "the larger rate gives the larger accuracy",
                        "value": "fast:test/accuracy",
                        "minus": "slow:test/accuracy",
                        "holds": "> -1",
                        "source": "a bound that no two accuracies can miss",
                    },
                    {
                        "name": "impossible",
                        "says": "accuracy above one",
                        "value": "fast:test/accuracy",
                        "holds": "> 1",
                        "source": "a bound that no accuracy can reach",
                    },
                ],
            }
        )
    )
    configs = tmp_path / "configs"
    configs.mkdir()
    for part in configuration.CONFIGS.iterdir():
        (configs / part.name).symlink_to(experiments if part.name == "experiment" else part)
    monkeypatch.setattr(configuration, "CONFIGS", configs)
    monkeypatch.setattr(configuration, "EXPERIMENTS", experiments)
    monkeypatch.setattr(verification, "EXPERIMENTS", experiments)
    return tmp_path


def test_claims_are_tested_over_seeds_and_a_failed_one_is_no_success(study, capsys):
    overrides = [f"runs_root={study / 'runs'}"]
    assert verify(["toy"], overrides, None, False) is False
    results = json.loads((study / "runs" / "toy" / "results.json").read_text())
    assert [c["verdict"] for c in results["claims"]][1] == "fails"
    assert len(results["runs"]) == 4
    assert "4 to make" in capsys.readouterr().out
    verify(["toy"], overrides, None, False)
    assert "4 runs reused, 0 to make" in capsys.readouterr().out


def test_another_configuration_is_not_reused(study, tiny):
    root = f"runs_root={study / 'runs'}"
    verify(["toy"], [root], ["fast"], False)
    same = ["experiment=toy/fast", root, "logger=csv", *tiny, "trainer.max_epochs=3"]
    assert find_finished(compose(same)) is not None
    assert find_finished(compose([*same, "data.root=elsewhere"])) is not None
    assert find_finished(compose([*same, "model.optimizer.lr=.2"])) is None
    assert find_finished(compose([*same, "seed=7"])) is None


def test_a_dry_run_makes_nothing(study, capsys):
    assert verify(["toy"], [f"runs_root={study / 'runs'}"], None, True)
    assert "fast, seed 1" in capsys.readouterr().out
    assert not (study / "runs").exists()


def test_an_unknown_study_or_arm_is_named(study):
    with pytest.raises(UsageError, match=r"'toi'.*'toy'"):
        verify(["toi"], [], None, False)
    with pytest.raises(UsageError, match=r"'fsat'.*'fast'"):
        verify(["toy"], [], ["fsat"], False)
