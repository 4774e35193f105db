"""A run that is asked to stop goes on later as if nothing had happened; others leave no trace."""

from udl_lab.callbacks.checkpoint_on_signal import CheckpointOnSignal  # isort: skip  # first

import os
import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from udl_lab.callbacks.training_log import TrainingLog


class Interrupt(L.Callback):
    """Does something when a batch of a given step begins, or a validation batch of an epoch."""

    def __init__(self, act, step=None, validation_epoch=None):
        self.act, self.step, self.validation_epoch = act, step, validation_epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self.act()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.current_epoch == self.validation_epoch:
            self.act()


def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


def control_c():
    os.kill(os.getpid(), signal.SIGINT)


def control_c_at_once():
    raise KeyboardInterrupt  # as the second one does


@pytest.fixture(autouse=True)
def handlers():
    """Lightning ignores further Ctrl-C after the first; the tests after this must not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def state(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture
def undisturbed(tiny, make_trainer):
    model, data = tiny()
    make_trainer(max_epochs=3, logs="undisturbed").fit(model, data)
    return state(model)


@pytest.mark.parametrize("act", [sigterm, control_c])
@pytest.mark.parametrize("step", [0, 2, 3, 4, 9, 11])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_weights_bit_for_bit(
    step, act, undisturbed, tiny, make_trainer, tmp_path
):
    path = tmp_path / "new" / "folder" / "last.ckpt"
    trainer = make_trainer(
        Interrupt(act, step), CheckpointOnSignal(str(path)), max_epochs=3, logs="stopped"
    )
    with pytest.raises(SIGTERMException):
        trainer.fit(*tiny())
    # Both wait until the step is done.
    assert torch.load(path, weights_only=True)["global_step"] == step + 1
    model, data = tiny()
    make_trainer(max_epochs=3).fit(model, data, ckpt_path=str(path), weights_only=True)
    assert torch.equal(state(model), undisturbed)


def test_a_run_stopped_while_it_validates_goes_on_to_the_same_weights(
    undisturbed, tiny, make_trainer, tmp_path
):
    path = tmp_path / "last.ckpt"
    trainer = make_trainer(
        Interrupt(sigterm, validation_epoch=1), CheckpointOnSignal(str(path)), max_epochs=3,
        logs="stopped",
    )  # fmt: skip
    with pytest.raises(SIGTERMException):
        trainer.fit(*tiny())
    model, data = tiny()
    make_trainer(max_epochs=3).fit(model, data, ckpt_path=str(path), weights_only=True)
    assert torch.equal(state(model), undisturbed)


def test_ctrl_c_means_what_it_did_when_the_fit_is_over(tiny, make_trainer, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    make_trainer(CheckpointOnSignal(str(tmp_path / "last.ckpt"))).fit(*tiny())
    assert signal.getsignal(signal.SIGINT) is before
    trainer = make_trainer(
        Interrupt(control_c, 1), CheckpointOnSignal(str(tmp_path / "last.ckpt")), logs="stopped"
    )
    with pytest.raises(SIGTERMException):
        trainer.fit(*tiny())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_in_the_middle_of_a_step_leaves_the_checkpoint_before(
    tiny, make_trainer, tmp_path
):
    """Half a step cannot be gone on from."""
    path = tmp_path / "last.ckpt"
    path.write_text("the checkpoint before")

    def twice():
        control_c()
        control_c_at_once()

    trainer = make_trainer(Interrupt(twice, 2), CheckpointOnSignal(str(path)))
    with pytest.raises(SystemExit):
        trainer.fit(*tiny())
    assert path.read_text() == "the checkpoint before"


def fail():
    raise ZeroDivisionError


def test_an_error_writes_no_checkpoint(tiny, make_trainer, tmp_path):
    path = tmp_path / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        make_trainer(Interrupt(fail, 2), CheckpointOnSignal(str(path))).fit(*tiny())
    assert not path.exists()


def test_an_undisturbed_run_writes_no_checkpoint(tiny, make_trainer, tmp_path):
    path = tmp_path / "last.ckpt"
    make_trainer(CheckpointOnSignal(str(path))).fit(*tiny())
    assert not path.exists()


@pytest.mark.parametrize("act", [sigterm, control_c])
def test_a_network_that_has_diverged_is_not_written_over_the_last_good_one(
    act, tiny, make_trainer, tmp_path
):
    """The stop comes before the log would have noticed."""
    path = tmp_path / "last.ckpt"
    path.write_text("the last good one")
    model, data = tiny()

    def spoil_and_stop():
        with torch.no_grad():
            model.net.output.weight[3, 3] = float("inf")
        act()

    trainer = make_trainer(
        TrainingLog(), Interrupt(spoil_and_stop, 1), CheckpointOnSignal(str(path)),
        log_every_n_steps=4,
    )  # fmt: skip
    with pytest.raises(SIGTERMException):
        trainer.fit(model, data)
    assert path.read_text() == "the last good one"
