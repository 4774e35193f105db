"""A wrong name, type or range is refused before anything is built, read or written."""

import re

import pytest

from udl_lab.configuration import compose
from udl_lab.errors import UsageError
from udl_lab.runs.build import as_config
from udl_lab.runs.signature import check, refuse_foreign_targets


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.optimizer.lr=abc", ["model.optimizer.lr='abc'", "number"]),
        ("model.optimizer.lr=-1", ["model.optimizer.lr=-1", "greater than 0"]),
        ("model.optimizer.lr=null", ["model.optimizer.lr=None", "number"]),
        (
            "model.optimizer.name=sdg",
            ["model.optimizer.name='sdg'", "'sgd', 'adam', 'adamw' or 'burda2015'"],
        ),
        ("+model.optimizer.momentun=.9", ["model.optimizer.momentun", "'momentum'"]),
        ("+model.optimizer.momentum=1.5", ["model.optimizer.momentum=1.5", "less than 1"]),
        ("data.batch_size=0", ["data.batch_size=0", "greater than or equal to 1"]),
        ("data.batch_size=2.5", ["data.batch_size=2.5", "integer"]),
        ("data.n_validation=-1", ["data.n_validation=-1", "greater than or equal to 0"]),
        ("data.order=random", ["data.order='random'", "'named', 'legacy' or 'file'"]),
        ("net.widths=[64,0]", ["net.widths.1=0", "greater than or equal to 1"]),
        ("net.widths=wide", ["net.widths='wide'"]),
        ("net.activation=rleu", ["net.activation='rleu'", "'relu'"]),
        ("+net.depth=3", ["net.depth", "takes no 'depth'"]),
        ("trainer.max_epochs=many", ["trainer.max_epochs='many'", "integer"]),
        ("+trainer.max_epoch=3", ["trainer.max_epoch", "'max_epochs'"]),
        ("augment.interpolation=cubic", ["augment.interpolation='cubic'", "'bicubic'"]),
        ("seed=-1", ["seed=-1", "greater than or equal to 0"]),
        ("seed=one", ["seed='one'", "integer"]),
        ("weights=first", ["weights='first'", "'best' or 'last'"]),
        ("data.n_validation=0", ["weights=best", "weights=last"]),
        ("net._target_=udl_lab.nets.fcn.FNC", ["net._target_", "FNC"]),
        ("measure.rotation.n_boot=0", ["measure.rotation.n_boot=0"]),
    ],
)
def test_a_wrong_value_is_refused_by_key_value_and_what_is_allowed(override, words):
    with pytest.raises(UsageError) as refusal:
        check(compose([override]))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "udl_lab.runs.folder.subprocess.run",  # begins well, and is somebody else's
        "udl_lab.data.mnist.shutil.rmtree",
        "lightning.Trainer",
    ],
)
def test_a_foreign_target_in_a_checkpoint_is_refused(target):
    cfg = compose([])
    cfg.net._target_ = target
    with pytest.raises(UsageError, match="not one of the lab's"):
        refuse_foreign_targets(as_config(dict(cfg)))


def test_the_labs_own_targets_may_be_rebuilt():
    refuse_foreign_targets(compose(["net=cnn"]))


def test_a_measurement_that_a_denoiser_cannot_have_is_refused_before_training():
    denoiser = ["model=diffusion", "augment=noise", "net=unet"]
    with pytest.raises(UsageError, match=r"measure.*set measure=denoising"):
        check(compose(denoiser))
    check(compose([*denoiser, "measure=denoising"]))
    with pytest.raises(UsageError, match=r"measure\.denoising.*set model=diffusion"):
        check(compose(["measure=denoising"]))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        (
            "measure.samples.samplers=[{_target_:udl_lab.diffusion.walks.DDIM,steps:2000}]",
            "measure.samples.samplers.0.steps=2000",
        ),
        ("model.schedule.n_steps=50", "steps=100: a sampler takes at most"),
    ],
)
def test_more_steps_than_levels_are_refused_before_the_training(override, named):
    with pytest.raises(UsageError, match=re.escape(named)):
        check(compose(["experiment=ddim_steps/three_modes", override]))


@pytest.mark.parametrize("override", ["model.k=0", "net.latent=0"])
def test_a_wrong_number_is_named_where_it_was_typed(override):
    with pytest.raises(UsageError, match=override):
        check(compose(["experiment=vae_mnist/iwae1_cpu", override]))
