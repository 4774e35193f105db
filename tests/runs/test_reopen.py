"""A checkpoint alone rebuilds its model, and cannot run code."""

import pickle
from pathlib import Path

import pytest
import torch

from udl_lab.callbacks.embed_config import KEY
from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.evaluation import evaluate
from udl_lab.runs.execute import execute
from udl_lab.runs.folder import read_json
from udl_lab.runs.reopen import load_model, load_run


def test_the_model_is_rebuilt_from_the_checkpoint_alone_with_equal_outputs(finished, tmp_path):
    alone = tmp_path / "anything.ckpt"
    alone.write_bytes(finished.best.read_bytes())
    _, model = load_model(alone)
    run = load_run(finished.path)
    x = torch.randn(7, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), run.model(x))
    assert not model.training


def test_the_tables_come_back_as_data_frames(finished):
    run = load_run(finished.path)
    assert run.results.loc["test/accuracy", "low"] < run.results.loc["test/accuracy", "high"]
    assert run.metrics["step"].max() > 0
    assert run.record["status"] == "finished"


def test_measuring_again_gives_the_same_numbers(finished):
    again = {row["key"]: row for row in evaluate(str(finished.path), None, None)}
    for row in read_json(finished.results)["rows"]:
        if row["measure"] not in ("run", "watch"):
            assert again[row["key"]] == row


def test_the_untrained_network_is_the_one_before_the_first_step(finished):
    run = load_run(finished.path)
    trained, untrained = (n.output.weight for n in (run.net, run.untrained))
    assert not torch.equal(trained, untrained)
    assert torch.equal(untrained, load_run(finished.path).untrained.output.weight)


class _Malicious:
    def __reduce__(self):
        return Path.touch, (Path(self.victim),)

    def __init__(self, victim: str) -> None:
        self.victim = victim


@pytest.mark.parametrize("way", ["pickle", "torch"])
def test_a_malicious_checkpoint_is_refused_and_does_not_execute(finished, way, tmp_path, tiny):
    import shutil

    victim = tmp_path / "executed"
    run = tmp_path / "run"
    shutil.copytree(finished.path, run)
    bad = {"state_dict": {}, KEY: _Malicious(str(victim))}
    for name in ("best.ckpt", "last.ckpt"):
        with (run / "checkpoints" / name).open("wb") as file:
            pickle.dump(bad, file) if way == "pickle" else torch.save(bad, file)
    with pytest.raises(UsageError, match="code that was not run"):
        load_run(run)
    (run / "run.json").write_text('{"status": "interrupted"}')
    before = sorted(run.rglob("*"))
    with pytest.raises(UsageError, match="code that was not run"):
        execute(compose([f"resume={run}"]))
    assert not victim.exists()
    assert sorted(run.rglob("*")) == before


def test_a_checkpoint_that_would_build_something_foreign_is_refused(finished, tmp_path):
    content = torch.load(finished.last, weights_only=True)
    content[KEY]["net"] = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "executed")}
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(UsageError, match="not one of the lab's"):
        load_model(tmp_path / "foreign.ckpt")
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_without_a_configuration_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match="no configuration"):
        load_model(tmp_path / "other.ckpt")


def test_a_truncated_checkpoint_is_refused_by_name(finished, tmp_path):
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(finished.last.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"broken\.ckpt"):
        load_model(broken)
