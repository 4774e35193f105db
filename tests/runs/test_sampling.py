"""`python -m udl_lab.sample`: samples beside the run, or one message and nothing written."""

import math
import shutil

from udl_lab import sample as command
from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.execute import execute

import numpy as np  # isort: skip  # udl_lab repairs torchvision, for lightning
import pytest  # isort: skip
import torch  # isort: skip

from udl_lab.nets.time_mlp import TimeMLP  # isort: skip
from udl_lab.randomness import generator  # isort: skip

TOY = [
    *("data=toy2d", "augment=noise", "net=time_mlp", "model=diffusion", "measure=denoising"),
    *("data.n_train=500", "data.n_validation=100", "data.batch_size=50"),
    *("+data.source.n_train=600", "+data.source.n_test=50", "measure.denoising.n_levels=2"),
    *("net.width=8", "net.depth=1", "model.schedule.n_steps=40", "model.optimizer.lr=0.01"),
    *("logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Ten steps on the ring, with an average of the weights."""
    path = tmp_path_factory.mktemp("averaged") / "run"
    ema = ["callbacks=ema", "callbacks.ema.decay=0.9", "callbacks.ema.update_starting_at_step=0"]
    return execute(compose([*TOY, *ema, f"run_dir={path}"]), quiet=True).path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The same with labels and without an average."""
    path = tmp_path_factory.mktemp("labelled") / "run"
    labels = ["net.n_classes=${example.n_classes}", "model.drop_labels=0.2"]
    return execute(compose([*TOY, *labels, f"run_dir={path}"]), quiet=True).path


def draw(run, name, *words):
    """The samples that the command writes under this name."""
    file = run / "samples" / f"{name}.npz"
    file.unlink(missing_ok=True)
    command.main([f"run={run}", *words])
    return torch.from_numpy(np.load(file)["x"])


def left(run):
    return sorted(p.name for p in (run / "samples").glob("*"))


def test_samples_and_their_picture_are_written_and_named_on_the_terminal(run, capsys):
    x = draw(run, "ddim20_eta0_seed0")
    assert x.shape == (64, 2) and x.isfinite().all()
    files = [run / "samples" / f"ddim20_eta0_seed0.{kind}" for kind in ("npz", "png")]
    shown = capsys.readouterr().out
    for file in files:
        assert file.stat().st_size > 0
        assert str(file) in shown
    assert "64 in" in shown and "note" not in shown
    assert not [name for name in left(run) if name.endswith(".part")]


def test_the_same_seed_gives_the_same_samples_and_another_gives_others(run):
    words = ("n=5", "sampler.steps=3", "sampler.eta=1.0")
    first, again = (draw(run, "ddim3_eta1_seed0", *words) for _ in range(2))
    other = draw(run, "ddim3_eta1_seed1", *words, "seed=1")
    assert first.shape == (5, 2)
    assert torch.equal(first, again)
    assert not (first == other).any()


@pytest.mark.parametrize("average", [True, False])
def test_one_step_of_ddim_is_the_x0_that_the_network_sees_in_the_noise(run, average):
    """From the file of the weights alone: (x − √(1 − ᾱ_T) ε̂) / √ᾱ_T, the last level's."""
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    weights = content["state_dict" if average else "current_model_state"]
    net = TimeMLP([2], 8, 1)
    net.load_state_dict({k.removeprefix("net."): v for k, v in weights.items() if "net." in k})
    noise = torch.randn(6, 2, generator=generator(0, "sample"))
    betas = np.linspace(1e-4, 0.02, 40) * 1000 / 40
    signal = math.sqrt(np.prod(1 - betas))
    with torch.no_grad():
        eps = net(noise, torch.ones(6))
    expected = (noise - math.sqrt(1 - signal**2) * eps) / signal
    name = "ddim1_eta0_seed0" if average else "ddim1_eta0_last_weights_seed0"
    x = draw(run, name, "n=6", "sampler.steps=1", f"average={average}")
    # Differences of single-precision numbers up to 4 (½ ulp is 2.4e-7, a few of them), over .003.
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6 / signal)


def test_the_average_and_the_last_weights_draw_different_samples(run):
    average = draw(run, "ddim3_eta0_seed0", "n=5", "sampler.steps=3")
    last = draw(run, "ddim3_eta0_last_weights_seed0", "n=5", "sampler.steps=3", "average=false")
    assert not (average == last).any()


def test_another_checkpoint_than_the_run_measured_is_named(run):
    words = ("n=5", "sampler.steps=2")
    best, last = run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt"
    assert torch.equal(  # of a single epoch: the same weights
        torch.load(best, weights_only=True)["state_dict"]["net.mlp.output.bias"],
        torch.load(last, weights_only=True)["state_dict"]["net.mlp.output.bias"],
    )
    own = draw(run, "ddim2_eta0_seed0", *words, "weights=best")
    other = draw(run, "ddim2_eta0_last_checkpoint_seed0", *words, "weights=last")
    assert torch.equal(own, other)


def test_steps_and_eta_change_the_samples_and_the_name(run):
    drawn = [
        draw(run, f"ddim{steps}_eta{eta:g}_seed0", f"sampler.steps={steps}", f"sampler.eta={eta}")
        for steps, eta in ((3, 0.0), (4, 0.0), (4, 0.5))
    ]
    assert not (drawn[0] == drawn[1]).any()
    assert not (drawn[1] == drawn[2]).any()


def test_clipping_keeps_the_samples_between_minus_one_and_one(run):
    """The last step ends at x̂_0 itself."""
    free = draw(run, "ddim3_eta0_seed0", "sampler.steps=3")
    clipped = draw(run, "ddim3_eta0_clipped_seed0", "sampler.steps=3", "clip=true")
    assert free.abs().max() > 1
    assert clipped.abs().max() <= 1


def test_every_sampler_starts_from_the_same_noise(run):
    """To level 0 in one step all of them go to x̂_0, Heun by its exception for the last step."""
    one = [
        draw(run, f"{name}_seed0", f"sampler={name[:4]}", "sampler.steps=1", "n=5")
        for name in ("ddim1_eta0", "ddpm1_small", "heun1")
    ]
    # Sums in different order, of single-precision numbers up to about 4, over √ᾱ_T = .003.
    torch.testing.assert_close(one[1], one[0], rtol=1e-5, atol=3e-4)
    torch.testing.assert_close(one[2], one[0], rtol=1e-5, atol=3e-4)


def test_ancestral_sampling_takes_its_own_arguments(run):
    words = ("sampler=ddpm", "sampler.steps=4", "n=5")
    small = draw(run, "ddpm4_small_seed0", *words)
    large = draw(run, "ddpm4_large_seed0", *words, "sampler.variance=large")
    assert not (small == large).any()


def test_a_walk_that_does_not_start_from_pure_noise_is_noted(run, capsys):
    draw(run, "ddim3_eta0_leading_seed0", "sampler.steps=3", "sampler.spacing=leading", "n=2")
    assert "starts at level 27 and not at 40" in capsys.readouterr().out  # 1 + 2 ⌊40/3⌋


def test_a_label_and_guidance_towards_it_change_the_samples_and_the_name(labelled):
    words = ("sampler.steps=3", "n=5")
    free = draw(labelled, "ddim3_eta0_seed0", *words)
    given = draw(labelled, "ddim3_eta0_class7_seed0", *words, "label=7")
    guided = draw(labelled, "ddim3_eta0_class7_guidance2_seed0", *words, "label=7", "guidance=2")
    away = draw(labelled, "ddim3_eta0_class7_guidance-1_seed0", *words, "label=7", "guidance=-1")
    assert not (free == given).any()
    assert not (given == guided).any()
    # (1 + w) ε̂(label) − w ε̂(none) is ε̂(none) at w = −1.
    torch.testing.assert_close(away, free, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stps=3"], r"no key 'stps'"),
        (["sampler=dim"], r"no sampler=dim.*ddim"),
        (["sampler.stpes=3"], r"sampler\.stpes: DDIM takes no 'stpes'.*steps"),
        (["sampler=heun", "sampler.eta=1"], r"sampler\.eta: Heun takes no 'eta'"),
        (["sampler.steps=0"], r"sampler\.steps=0: .*greater than or equal to 1"),
        (["sampler.steps=2.5"], r"sampler\.steps=2\.5"),
        (["sampler.steps=["], r"sampler: cannot read"),
        (["sampler.=3"], r"sampler"),
        (["sampler.steps=50"], r"50 steps over 40 levels; take at most 40"),
        (["sampler=ddpm"], r"1000 steps over 40 levels; take at most 40"),
        (["sampler.eta=-1"], r"sampler\.eta=-1"),
        (["sampler.spacing=even"], r"sampler\.spacing='even'.*'trailing'"),
        (["sampler=ddpm", "sampler.steps=4", "sampler.variance=learned"], r"sampler=ddpm: "),
        (["sampler=ddpm", "sampler.steps=4", "sampler.variance=optimal"], r"sampler=ddpm: "),
        (["n=0"], r"n=0: give a whole number from 1 up"),
        (["n=many"], r"n=many: give a whole number"),
        (["n=²"], r"n=²: give a whole number"),
        (["seed=-1"], r"seed=-1: give a whole number from 0 up"),
        (["weights=worst"], r"weights=worst: choose best or last"),
        (["average=perhaps"], r"average=perhaps: choose true or false"),
        (["clip"], r"clip=: choose true or false"),
        (["label=1"], r"label=1: .*without labels; leave it out"),
        (["guidance=2"], r"guidance=2 is towards a class; give label"),
        (["guidance=much"], r"guidance=much: give a number"),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(run, words, message):
    before = left(run)
    with pytest.raises(UsageError, match=message):
        command.main([f"run={run}", *words])
    assert left(run) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["average=false"], r"kept no average of weights.*leave out average=false"),
        (["label=8"], r"label=8: this network knows the classes 0 to 7"),
        (["label=-1"], r"label=-1: give a whole number"),
        (["label=1", "guidance=nan"], r"guidance=nan: give a finite number"),
    ],
)
def test_a_mistake_about_labels_or_averages_is_one_message_too(labelled, words, message):
    before = left(labelled)
    with pytest.raises(UsageError, match=message):
        command.main([f"run={labelled}", *words])
    assert left(labelled) == before


def test_a_folder_that_holds_no_diffusion_run_is_named(finished, tmp_path):
    with pytest.raises(UsageError, match="say which run: run=FOLDER"):
        command.main(["sampler=ddim"])
    with pytest.raises(UsageError, match=f"{tmp_path} holds no run"):
        command.main([f"run={tmp_path}"])
    with pytest.raises(UsageError, match=r"holds a Classifier.*model=diffusion"):
        command.main([f"run={finished.path}"])
    assert not (finished.path / "samples").exists()
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_missing_checkpoint_is_named(run, tmp_path):
    broken = tmp_path / "run"
    shutil.copytree(run, broken, ignore=shutil.ignore_patterns("samples"))
    best = broken / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:1000])
    (broken / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(
        UsageError, match=r"best\.ckpt is not a checkpoint of this lab: it is damaged"
    ):
        command.main([f"run={broken}"])
    with pytest.raises(UsageError, match=r"there is no checkpoint .*last\.ckpt"):
        command.main([f"run={broken}", "weights=last"])
    assert not (broken / "samples").exists()


def test_help_shows_every_key_and_sampler(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in (*command._KEYS, "sampler.KEY", "ddim", "ddpm", "heun"):
        assert word in shown
