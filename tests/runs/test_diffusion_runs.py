"""Runs that train a denoiser: repeated, reopened, resumed, grouped and shared out bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.execute import execute
from udl_lab.runs.reopen import load_run

import pandas as pd  # isort: skip  # udl_lab repairs torchvision, for lightning
import pytest  # isort: skip
import torch  # isort: skip
from torch import Tensor  # isort: skip

from udl_lab.data.law_samples import law_samples  # isort: skip
from udl_lab.data.noise import Noise  # isort: skip
from udl_lab.data.resident import ResidentData  # isort: skip
from udl_lab.models.diffusion import Diffusion  # isort: skip

# 25 steps an epoch, of which the last has 12 examples: two whole groups, and one of five steps.
TOY = (
    *("data=toy2d", "augment=noise", "net=time_mlp", "model=diffusion", "measure=denoising"),
    *("data.n_train=492", "data.n_validation=100", "data.batch_size=20"),
    *("+data.source.n_train=600", "+data.source.n_test=50", "measure.denoising.n_levels=2"),
    *("net.width=8", "net.depth=1", "model.schedule.n_steps=40", "model.optimizer.lr=0.01"),
    *("logger=csv", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"),
    "trainer.log_every_n_steps=10",
)
EMA = ("callbacks=ema", "callbacks.ema.decay=0.9", "callbacks.ema.update_starting_at_step=3")


def run(folder, *overrides):
    return execute(compose([*TOY, *overrides, f"run_dir={folder}"]), quiet=True)


def content(path):
    return torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(weight, b[name]) for name, weight in a.items())


class Watched(NamedTuple):
    path: Path
    weights: list[Tensor]  # of the last layer, after every step
    outputs: dict[str, Tensor]  # of the average as last validated, and of the last weights


X, T = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.full((5,), 0.5)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run that keeps an average of its weights, seen from inside."""
    seen = Watched(tmp_path_factory.mktemp("averaged") / "run", [], {})
    step = Diffusion.optimizer_step

    def note(self, name):
        with torch.no_grad():
            seen.outputs[name] = self.net(X, T)

    def stepping(self, *arguments, **options):
        step(self, *arguments, **options)
        seen.weights.append(self.net.mlp.output.weight.detach().clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Diffusion, "optimizer_step", stepping)
        patch.setattr(Diffusion, "on_validation_epoch_start", lambda self: note(self, "average"))
        patch.setattr(Diffusion, "on_train_epoch_end", lambda self: note(self, "last"))
        run(seen.path, *EMA)
    return seen


@pytest.fixture(scope="module")
def averaged(watched):
    """Its folder."""
    return watched.path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same without an average, in groups of ten steps."""
    return run(tmp_path_factory.mktemp("plain") / "run").path


def test_a_reopened_run_gives_the_outputs_of_its_average_and_of_its_last_weights(watched):
    reopened = load_run(watched.path, weights="last")
    with torch.no_grad():
        average, last = reopened.net(X, T), reopened.last_weights.net(X, T)
    assert torch.equal(average, watched.outputs["average"])
    assert torch.equal(last, watched.outputs["last"])
    assert not torch.equal(average, last)
    subject = reopened.subject()
    assert subject.denoiser.net is reopened.net
    assert subject.unaveraged.net is reopened.last_weights.net


def test_the_average_is_that_of_the_steps(watched):
    """It starts from the weights of the fourth step; after every other, a ← .9 a + .1 w."""
    path = [weight.double() for weight in watched.weights]
    average = path[3]
    for weight in path[4:]:
        average = 0.9 * average + 0.1 * weight
    assert len(path) == 50
    kept = content(watched.path)
    name = "net.mlp.output.weight"
    assert torch.equal(kept["current_model_state"][name], watched.weights[-1])
    # Weights below 1, rounded to single precision at each of 46 steps.
    torch.testing.assert_close(kept["state_dict"][name].double(), average, rtol=0, atol=46 * 6e-8)


def test_the_results_have_rows_of_both_sets_of_weights(averaged, plain):
    rows = load_run(averaged).results
    errors = rows[rows["metric"] == "eps_error"]
    assert set(errors["site"]) == {"", "last_weights"}
    for site in ("", "/last_weights"):
        levels = [errors.loc[f"denoising/eps_error{site}@t{t}", "estimate"] for t in (20, 40)]
        mean = errors.loc[f"denoising/eps_error{site}", "estimate"]
        assert mean == pytest.approx(sum(levels) / 2, rel=1e-12)
    keys = ("denoising/eps_error", "denoising/eps_error/last_weights")
    assert errors.loc[keys[0], "estimate"] != errors.loc[keys[1], "estimate"]
    only = load_run(plain)
    assert only.last_weights is None
    assert set(only.results["site"]) == {""}


@pytest.mark.parametrize("options", [(), EMA])
def test_a_stopped_run_goes_on_to_the_same_weights(options, averaged, plain, tmp_path, monkeypatch):
    """SIGTERM in the middle of the second epoch."""
    losses = Diffusion.losses

    def preempted(self, batch):
        if self.trainer.global_step == 25 + 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch)

    monkeypatch.setattr(Diffusion, "losses", preempted)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "run", *options)
    monkeypatch.undo()
    assert stop.value.code == 143
    # With the average single steps are taken; without it the signal waits for the group's end.
    assert content(tmp_path / "run")["global_step"] == (25 + 14 if options else 25 + 20)
    resumed = execute(compose([f"resume={tmp_path / 'run'}"]), quiet=True).path
    whole = averaged if options else plain
    first, second = content(whole), content(resumed)
    assert same(first["state_dict"], second["state_dict"])
    if options:
        assert same(first["current_model_state"], second["current_model_state"])
    metrics = [pd.read_csv(path / "metrics.csv") for path in (whole, resumed)]
    pd.testing.assert_frame_equal(*metrics, check_like=True)
    results = [json.loads((path / "results.json").read_text()) for path in (whole, resumed)]
    assert results[0] == results[1]


def test_grouped_steps_are_the_single_steps_bit_for_bit(plain, averaged, tmp_path, monkeypatch):
    calls = []
    step = Diffusion.training_step
    monkeypatch.setattr(
        Diffusion,
        "training_step",
        lambda self, batch, batch_idx: calls.append(len(batch.y)) or step(self, batch, batch_idx),
    )
    grouped = run(tmp_path / "grouped").path
    assert calls == 2 * [200, 200, 92]
    monkeypatch.setattr("udl_lab.models.several_steps._GROUP", 1)
    single = run(tmp_path / "single").path
    assert calls[6:] == 2 * [*(24 * [20]), 12]
    assert same(content(grouped)["state_dict"], content(single)["state_dict"])
    assert same(content(grouped)["state_dict"], content(plain)["state_dict"])
    # An average watches single steps, and leaves them as they are.
    assert same(content(single)["state_dict"], content(averaged)["current_model_state"])
    metrics = [pd.read_csv(path / "metrics.csv") for path in (grouped, single)]
    pd.testing.assert_frame_equal(*metrics)


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(averaged, tmp_path):
    folder = tmp_path / "run"
    subprocess.run(
        [
            *(sys.executable, "-m", "udl_lab.train", "trainer=ddp_cpu"),
            *TOY,
            *EMA,
            f"run_dir={folder}",
        ],
        check=True,
        capture_output=True,
        timeout=500,
        cwd=tmp_path,
    )
    metrics = [pd.read_csv(path / "metrics.csv") for path in (averaged, folder)]
    # 50 steps of Adam in float32: the mean of two halves rounds otherwise than that of the whole.
    pd.testing.assert_frame_equal(*metrics, rtol=1e-4)
    first, second = content(averaged), content(folder)
    for state in ("state_dict", "current_model_state"):
        for name, weight in first[state].items():
            torch.testing.assert_close(second[state][name], weight, rtol=0, atol=1e-5)


def ring(**settings):
    usual = {"batch_size": 32, "n_validation": 10, "mean": 0.0, "std": 1.0, "seed": 0}
    source = {"source": lambda root: law_samples(root, "ring", 30, 10), "root": ""}
    data = ResidentData(**source, augment=Noise([2]), **(usual | settings))
    data.setup()
    return data


def test_copies_show_each_example_so_many_times_each_with_noise_of_its_own():
    data = ring(copies=5)
    batches = list(data.train_dataloader())
    assert [len(batch.y) for batch in batches] == [32, 32, 32, 4]
    x = torch.cat([batch.x for batch in batches])
    kinds, counts = x.unique(dim=0, return_counts=True)
    assert torch.equal(kinds, data.train.x.unique(dim=0))
    assert counts.tolist() == 20 * [5]
    drawn = torch.cat([batch.drawn for batch in batches])
    assert len(drawn[:, 2:].unique(dim=0)) == 100
    labels = {tuple(row): y for row, y in zip(data.train.x.tolist(), data.train.y, strict=True)}
    y = torch.cat([batch.y for batch in batches])
    assert all(labels[tuple(row)] == label for row, label in zip(x.tolist(), y, strict=True))


def test_copies_count_as_steps_and_change_no_split():
    data, once = ring(copies=5), ring()
    assert data.steps_per_epoch == len(data.train_dataloader()) == 4  # ⌈100 / 32⌉
    assert once.steps_per_epoch == len(once.train_dataloader()) == 1
    assert data.fingerprints() == once.fingerprints()


@pytest.mark.parametrize(("n", "copies", "devices"), [(19, 1, 2), (20, 2, 3), (19, 5, 4)])
def test_the_number_of_examples_proposed_for_several_devices_is_one_that_they_share(
    n, copies, devices
):
    data = ring(n_train=n, copies=copies, batch_size=12)
    with pytest.raises(UsageError, match=f"of {n * copies} examples") as refusal:
        data.check_last_batch(devices)
    proposed = int(str(refusal.value).rpartition("data.n_train=")[2])
    assert n - devices < proposed < n
    ring(n_train=proposed, copies=copies, batch_size=12).check_last_batch(devices)


def test_copies_that_fill_the_last_batch_may_be_shared():
    ring(n_train=19, copies=2, batch_size=12).check_last_batch(2)


def test_the_noise_of_validation_is_the_same_for_every_epoch_seed_and_number_of_processes():
    data = ring()
    [whole] = list(data.val_dataloader())
    place = data._place
    shares = []
    for rank in range(2):
        data._place = lambda rank=rank: place()._replace(epoch=3, rank=rank, world_size=2)
        shares += list(data.val_dataloader())
    for name in ("x", "y", "drawn"):
        parts = torch.cat([getattr(share, name) for share in shares])
        assert torch.equal(parts, getattr(whole, name))
    [other] = list(ring(seed=1).val_dataloader())
    assert torch.equal(other.drawn, whole.drawn)
    [trained] = list(data.train_dataloader())
    assert not torch.equal(trained.drawn[:10], whole.drawn)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("augment=none",),
            r"model=diffusion .*augment \(none\) draws no noise; set augment=noise",
        ),
        (("augment=rotation",), r"augment \(Rotation\) draws no noise; set augment=noise"),
        (("net=fcn",), r"model: FCN is no denoiser.*net=time_mlp.*net=unet.*net=unet1d"),
        (("net=unet",), r"net: .*net=time_mlp"),
        (("model=classifier",), r"Denoising is made of a denoiser only; set model=diffusion"),
        (
            ("model=classifier", "measure=classification"),
            r"net: TimeMLP is a denoiser.*model=diffusion and augment=noise",
        ),
        (("model.schedule.n_steps=20",), r"model: linear schedule of 20 steps.*more steps"),
        (("model.drop_labels=0.1",), r"model: drop_labels=0\.1.*n_classes"),
        (("net.n_classes=${example.n_classes}",), r"model: drop_labels=0\.0.*drop_labels=0\.1"),
        (("model.kind=noise",), r"model\.kind='noise'.*'eps', 'x0' or 'v'"),
        (("data.copies=0",), r"data\.copies=0"),
    ],
)
def test_what_cannot_be_trained_together_is_refused_and_leaves_no_folder(
    overrides, message, tmp_path
):
    given = {override.partition("=")[0] for override in overrides}
    taken = {"net": "net.", "model": "model.", "measure": "measure."}
    gone = tuple(prefix for group, prefix in taken.items() if group in given)
    kept = [o for o in TOY if o.partition("=")[0] not in given and not o.startswith(gone or "\0")]
    with pytest.raises(UsageError, match=message):
        execute(compose([*kept, *overrides, f"run_dir={tmp_path / 'run'}"]))
    assert not list(tmp_path.iterdir())


def test_a_measurement_that_does_not_fit_is_one_message_and_keeps_what_was_measured(tmp_path):
    samples = "{_target_:udl_lab.probes.vector_samples.VectorSamples,law:book}"
    with pytest.raises(UsageError, match=r"measure\.samples: law='book'"):
        run(tmp_path / "run", "trainer.max_epochs=1", f"+measure.samples={samples}")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert any(row["measure"] == "denoising" for row in results["rows"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
