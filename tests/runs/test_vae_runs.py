"""Runs that train a latent model: reopened, resumed, grouped and sampled, bit for bit."""

import json
import os
import signal
import subprocess
import sys

from udl_lab import sample as command
from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.execute import execute
from udl_lab.runs.prior_sampling import sample_prior
from udl_lab.runs.reopen import load_run

import numpy as np  # isort: skip  # udl_lab repairs torchvision, for lightning
import pandas as pd  # isort: skip
import pytest  # isort: skip
import torch  # isort: skip

from udl_lab.latent.mlp_vae import MLPVAE  # isort: skip
from udl_lab.models.vae import VAE  # isort: skip
from udl_lab.runs.build import build_net  # isort: skip

# 25 steps an epoch, of which the last has 12 examples: two whole groups, and one of five steps.
TINY = (
    *("data=digits", "augment=latent_noise", "net=mlp_vae", "model=vae", "measure=latent"),
    *("data.mean=0.0", "data.std=1.0", "data.n_train=492", "data.n_validation=100"),
    *("data.batch_size=20", "net.latent=3", "net.widths=[8]", "model.optimizer.lr=0.01"),
    *("measure.latent.rungs=[1, 5, 25]", "measure.latent.n_ladder=20"),
    *("measure.latent.n_information=50", "callbacks=track_latent", "model.k=2"),
    *("logger=csv", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"),
    "trainer.log_every_n_steps=10",
)


def run(folder, *overrides):
    return execute(compose([*TINY, *overrides, f"run_dir={folder}"]), quiet=True)


def content(path):
    return torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(weight, b[name]) for name, weight in a.items())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """In groups of ten steps."""
    return run(tmp_path_factory.mktemp("plain") / "run").path


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    """A run of another kind."""
    toy = [
        *("data=toy2d", "augment=noise", "net=time_mlp", "model=diffusion", "measure=denoising"),
        *("data.n_train=500", "data.n_validation=100", "data.batch_size=50"),
        *("+data.source.n_train=600", "+data.source.n_test=50", "measure.denoising.n_levels=2"),
        *("net.width=8", "net.depth=1", "model.schedule.n_steps=40", "logger=csv"),
        *("trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
    ]
    path = tmp_path_factory.mktemp("diffusion") / "run"
    return execute(compose([*toy, f"run_dir={path}"]), quiet=True).path


def test_the_results_hold_bounds_and_latents_and_the_history_of_both(plain):
    results = load_run(plain).results
    keys = set(results.index)
    for key in ("elbo", "rate", "distortion", "active_units", "bound@k1", "bound@k25", "ess"):
        assert f"latent/{key}" in keys
    levels = [results.loc[f"latent/bound@k{k}", "estimate"] for k in (1, 5, 25)]
    assert levels == sorted(levels)
    assert "pixels drawn with seed 0" in results.loc["latent/elbo", "note"]
    metrics = pd.read_csv(plain / "metrics.csv")
    for column in ("train/loss", "val/loss", "val/elbo", "val/reconstruction", "val/kl"):
        assert metrics[column].notna().any()
    logged = metrics["latent/elbo"].dropna().tolist()
    found = [results.loc[f"watch/elbo@epoch{i}", "estimate"] for i in (1, 2)]
    assert found == pytest.approx(logged, rel=1e-12)
    assert "watch/active_units@epoch2" in keys and "watch/kl_unit00@epoch1" not in keys


def test_bounds_and_latents_are_drawn(plain):
    drawn = set(load_run(plain).figures)
    assert {"learning_curves", "units_over_epochs"} <= drawn
    assert any(name.endswith("bound_by_k") for name in drawn)


def test_a_reopened_run_has_the_weights_and_the_pixels_of_the_run(plain):
    reopened = load_run(plain, weights="last")
    weights = {f"net.{k}": v for k, v in reopened.net.state_dict().items()}
    assert same(weights, {k: v for k, v in content(plain)["state_dict"].items() if "net." in k})
    test = reopened.subject().examples.x
    assert ((test == 0) | (test == 1)).all()
    assert reopened.data.fingerprints() == reopened.record["data"]


@pytest.mark.slow
def test_a_fresh_model_starts_at_the_mean_pixel_and_a_resumed_or_reopened_one_does_not(
    plain, tmp_path, monkeypatch
):
    starts, first = [], []
    start_at, losses = MLPVAE.start_at, VAE.losses

    def starting(self, x):
        starts.append(len(x))
        start_at(self, x)

    def noting(self, batch):
        if not first:
            first.append(self.net.decoder.output.bias.detach().clone())
        return losses(self, batch)

    monkeypatch.setattr(MLPVAE, "start_at", starting)
    monkeypatch.setattr(VAE, "losses", noting)
    folder = run(tmp_path / "run", "trainer.max_epochs=1")
    assert starts == [492]
    mean = load_run(folder.path).data.train.x.mean(0).flatten()
    torch.testing.assert_close(first[0], mean.clamp(0.001, 0.999).logit())
    assert not build_net(load_run(folder.path).config).decoder.output.bias.any()
    resumed = compose([f"resume={folder.path}"])
    saved = compose([*TINY, f"run_dir={folder.path}"])
    assert saved.trainer.max_epochs == 2
    config = (folder.path / "config.yaml").read_text().replace("max_epochs: 1", "max_epochs: 2")
    (folder.path / "config.yaml").write_text(config)
    record = json.loads((folder.path / "run.json").read_text()) | {"status": "interrupted"}
    (folder.path / "run.json").write_text(json.dumps(record))
    again = execute(resumed, quiet=True).path
    assert starts == [492]
    assert same(content(again)["state_dict"], content(plain)["state_dict"])


def test_a_stopped_run_goes_on_to_the_same_weights(plain, tmp_path, monkeypatch):
    """SIGTERM in the middle of the second epoch."""
    losses = VAE.losses

    def preempted(self, batch):
        if self.trainer.global_step == 25 + 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch)

    monkeypatch.setattr(VAE, "losses", preempted)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "run")
    monkeypatch.undo()
    assert stop.value.code == 143
    assert content(tmp_path / "run")["global_step"] == 25 + 20  # the group is finished first
    resumed = execute(compose([f"resume={tmp_path / 'run'}"]), quiet=True).path
    assert same(content(plain)["state_dict"], content(resumed)["state_dict"])
    metrics = [pd.read_csv(path / "metrics.csv") for path in (plain, resumed)]
    pd.testing.assert_frame_equal(*metrics, check_like=True)
    results = [json.loads((path / "results.json").read_text()) for path in (plain, resumed)]
    assert results[0] == results[1]


RECIPE = ("model/optimizer=burda2015_code", "model.estimator=iwae")
WARM = ("model.warm_up=30", "model.beta=0.5")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), RECIPE, WARM])
def test_grouped_steps_are_the_single_steps_bit_for_bit(options, tmp_path, monkeypatch):
    calls = []
    step = VAE.training_step
    monkeypatch.setattr(
        VAE,
        "training_step",
        lambda self, batch, batch_idx: calls.append(len(batch.y)) or step(self, batch, batch_idx),
    )
    grouped = run(tmp_path / "grouped", *options).path
    assert calls == 2 * [200, 200, 92]
    monkeypatch.setattr("udl_lab.models.several_steps._GROUP", 1)
    single = run(tmp_path / "single", *options).path
    assert calls[6:] == 2 * [*(24 * [20]), 12]
    assert same(content(grouped)["state_dict"], content(single)["state_dict"])
    metrics = [pd.read_csv(path / "metrics.csv") for path in (grouped, single)]
    pd.testing.assert_frame_equal(*metrics)


def test_the_recipe_of_the_paper_trains_in_the_order_of_the_file(tmp_path):
    reopened = load_run(run(tmp_path / "run", *RECIPE, "model.optimizer.lr=0.001").path)
    assert reopened.config.data.order == "file"
    assert reopened.config.model.gradients == "sum"
    settings = reopened.config.model.optimizer
    assert (settings.name, list(settings.betas)) == ("burda2015", [0.99, 0.999])
    losses = reopened.metrics["train/loss"].dropna()
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.slow
def test_two_seeds_are_measured_on_the_same_pixels(plain, tmp_path):
    other = run(tmp_path / "run", "seed=1", "augment.binarise=fixed", "trainer.max_epochs=1").path
    data = [load_run(path).record["data"] for path in (plain, other)]
    assert data[0]["test"] == data[1]["test"]
    assert data[0]["train"] != data[1]["train"]  # the one is grey until it is shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("net=two_layer_vae", "net.latents=[4, 2]", "net.widths=[8]", "net.upper_widths=[5]"),
        ("net=conv_vae", "net.channels=2", "net.width=8"),
        ("net=linear_vae", "augment.binarise=none"),
        ("net=mlp_vae", "net.latent=2", "augment.binarise=none", "net.head=gaussian"),
        ("net=mlp_vae", "net.latent=2", "net.prior=vamp", "net.n_pseudo=5"),
    ],
)
def test_every_latent_network_trains_is_measured_and_sampled(options, tmp_path):
    kept = [o for o in TINY if not o.startswith("net")]
    path = tmp_path / "run"
    short = ("trainer.max_epochs=1", "data.n_train=60", f"run_dir={path}")
    execute(compose([*kept, *options, *short]), quiet=True)
    assert load_run(path).results["estimate"].notna().all()
    command.main([f"run={path}", "n=3"])
    drawn = np.load(path / "samples" / "prior_seed0.npz")
    assert drawn["x"].shape == drawn["mean"].shape == (3, 1, 28, 28)


def test_samples_are_the_decoded_prior_and_their_pictures_lie_beside(plain, capsys):
    command.main([f"run={plain}", "n=400", "seed=3"])
    drawn = np.load(plain / "samples" / "prior_seed3.npz")
    assert set(np.unique(drawn["x"])) == {0.0, 1.0}
    assert ((drawn["mean"] > 0) & (drawn["mean"] < 1)).all()
    # 400 · 784 draws, each of variance at most 1/4: five standard errors of their mean.
    assert abs((drawn["x"] - drawn["mean"]).mean()) < 5 * 0.5 / (400 * 784) ** 0.5
    shown = capsys.readouterr().out
    for name in ("prior_seed3.npz", "prior_seed3.png", "prior_seed3_mean.png"):
        assert str(plain / "samples" / name) in shown
        assert (plain / "samples" / name).stat().st_size > 0


def test_the_same_seed_draws_the_same_and_another_other_ones(plain):
    def draw(seed):
        command.main([f"run={plain}", "n=5", f"seed={seed}"])
        return np.load(plain / "samples" / f"prior_seed{seed}.npz")["x"]

    first, again, other = draw(0), draw(0), draw(1)
    assert (first == again).all()
    assert (first != other).any()
    command.main([f"run={plain}", "n=5", "weights=last"])
    assert (plain / "samples" / "prior_last_checkpoint_seed0.npz").is_file()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sampler=ddim", "sampler=ddim: .*holds a latent model.*leave it out"),
        ("sampler.steps=3", r"sampler\.steps=3: .*holds a latent model"),
        ("label=3", "label=3: .*without a sampler, labels"),
        ("guidance=2", "guidance=2: "),
        ("clip=true", "clip=true: "),
        ("average=false", "kept no average.*leave out average=false"),
        ("n=0", "n=0: give a whole number from 1 up"),
    ],
)
def test_what_only_a_diffusion_model_is_told_is_refused(word, message, plain):
    folder = plain / "samples"
    before = sorted(folder.glob("*")) if folder.exists() else []
    with pytest.raises(UsageError, match=message):
        command.main([f"run={plain}", word])
    assert (sorted(folder.glob("*")) if folder.exists() else []) == before


def test_a_diffusion_run_has_no_latents_to_draw_and_is_sampled_as_before(diffusion):
    with pytest.raises(UsageError, match=r"holds a Diffusion.*no latents.*model=vae"):
        sample_prior(load_run(diffusion), 4, 0)
    assert not (diffusion / "samples").exists()
    command.main([f"run={diffusion}", "n=4", "sampler.steps=2"])
    assert (diffusion / "samples" / "ddim2_eta0_seed0.npz").is_file()


def without(*groups):
    """The overrides of the tiny run but for those of some groups."""
    gone = tuple(f"{group}{end}" for group in groups for end in ("=", "."))
    return [override for override in TINY if not override.startswith(gone)]


@pytest.mark.parametrize(
    ("groups", "overrides", "message"),
    [
        (["augment"], ("augment=none",), r"model=vae .*augment \(none\).*set augment=latent_noise"),
        (["augment"], ("augment=noise",), r"augment \(Noise\).*set augment=latent_noise"),
        (["net"], ("net=fcn",), r"net: FCN is no latent model.*net=mlp_vae"),
        (["model"], ("model=classifier",), r"net: MLPVAE is a latent model.*model=vae and augment"),
        (["model"], ("model=diffusion",), r"net: MLPVAE is a latent model.*Diffusion.*model=vae"),
        (
            ["measure"],
            ("measure=rotation",),
            "cannot be made of a latent model; set measure=latent",
        ),
        (["measure"], ("measure=denoising",), "is made of a denoiser only; set model=diffusion"),
        (
            ["model", "net", "augment"],
            ("model=classifier", "net=fcn", "augment=none"),
            "LatentBounds is made of a latent model only; set model=vae",
        ),
        ([], ("data.mean=0.5",), r"data\.mean=0\.5.*set data\.mean=0 data\.std=1"),
        ([], ("augment.binarise=none", "data.std=2.0"), r"data\.std=2\.0.*Bernoulli head"),
        ([], ("augment.binarise=none",), r"net: a Bernoulli head cannot give x = .*binarise"),
        ([], ("augment.binarise=half",), r"augment\.binarise='half'.*'fixed'"),
        ([], ("model.k=0",), r"k=0: .*greater than or equal to 1"),
        ([], ("net.latent=0",), r"latent.*=0"),
        ([], ("model.estimator=iwea",), r"model\.estimator='iwea'.*'iwae'"),
        ([], ("model.estimator=dreg", "model.beta=2.0"), r"model: estimator=dreg.*beta=2"),
        ([], ("augment.k=3",), r"augment\.k=3.*model\.k=2.*leave augment\.k out"),
        ([], ("augment.latents=7",), r"augment\.latents=7.*net\.latent=3.*leave augment\.latents"),
        (
            ["net"],
            ("net=two_layer_vae", "augment.latents=[4, 5]"),
            r"augment\.latents=\[4, 5\].*net\.latents=\[100, 50\]",
        ),
        (
            [],
            ("augment.in_shape=[1, 4, 4]",),
            r"augment\.in_shape=\[1, 4, 4\].*example\.shape=\[1, 28, 28\].*leave augment\.in_shape",
        ),
        (
            ["measure"],
            ("measure=posterior_gaps",),
            r"measure\.posterior: .*net\.latent=3; set net\.latent=2",
        ),
        (
            ["measure", "net"],
            ("measure=posterior_gaps", "net=two_layer_vae"),
            r"measure\.posterior: .*TwoLayerVAE has two; set net=mlp_vae net\.latent=2",
        ),
        (["measure"], ("measure=ppca",), r"measure\.ppca: .*net is MLPVAE; set net=linear_vae"),
        (
            [],
            ("trainer=ddp_cpu", "model.free_bits=0.1"),
            r"model\.free_bits=0\.1.*2 processes.*trainer\.devices=1 or model\.free_bits=0",
        ),
        ([], ("model.schedule.name=cosine",), "model: .*needs last_lr and epochs"),
        ([], ("net.prior=vamp",), r"net: 492 examples for n_pseudo=500"),
        ([], ("measure.latent.rungs=[1, 3, 5]",), r"rungs=\[1, 3, 5\]"),
    ],
)
def test_what_cannot_be_trained_together_is_refused_and_leaves_no_folder(
    groups, overrides, message, tmp_path
):
    with pytest.raises(UsageError, match=message):
        execute(compose([*without(*groups), *overrides, f"run_dir={tmp_path / 'run'}"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), RECIPE])
def test_two_processes_give_the_losses_and_weights_of_one(options, plain, tmp_path):
    one = run(tmp_path / "one", *options).path
    folder = tmp_path / "two"
    words = ["trainer=ddp_cpu", *TINY, *options, f"run_dir={folder}"]
    subprocess.run(
        [sys.executable, "-m", "udl_lab.train", *words],
        check=True,
        capture_output=True,
        timeout=500,
        cwd=tmp_path,
    )
    metrics = [pd.read_csv(path / "metrics.csv") for path in (one, folder)]
    # 50 steps in float32: the mean of two halves rounds otherwise than that of the whole.
    pd.testing.assert_frame_equal(*metrics, rtol=1e-3, atol=1e-4)
    for name, weight in content(one)["state_dict"].items():
        torch.testing.assert_close(content(folder)["state_dict"][name], weight, rtol=0, atol=1e-4)
