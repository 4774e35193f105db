"""What is logged are the means of the steps, and a loss that is no number ends the run."""

from udl_lab.callbacks.training_log import DivergedError, TrainingLog  # isort: skip  # first

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F

# Windows longer than an epoch are among the cases.
pytestmark = pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than")


class Witness(L.Callback):
    """Writes down the loss and accuracy of every batch, computed again with torch's own functions.

    After the batch the weights have moved, so it looks before. Rows: epoch, loss, accuracy.
    """

    def __init__(self):
        self.rows = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with torch.no_grad():
            logits = pl_module.net(batch.x)
        loss = F.cross_entropy(logits.double(), batch.y).item()
        hits = (logits.argmax(1) == batch.y).double().mean().item()
        self.rows.append((trainer.current_epoch, loss, hits))


def logged(tmp_path, logs="logs"):
    """The rows of the training log; the validation has rows of its own."""
    rows = pd.read_csv(tmp_path / logs / "metrics.csv")
    return rows.dropna(subset="train/loss_nats").reset_index(drop=True)


def in_windows(rows, n):
    """Means by hand: of every n rows of an epoch, and of those that are left at its end."""
    means = []
    for epoch in sorted({epoch for epoch, _, _ in rows}):
        here = [row for row in rows if row[0] == epoch]
        means += [np.mean(here[i : i + n], axis=0) for i in range(0, len(here), n)]
    return np.array(means)


@pytest.mark.parametrize(("every", "rows_an_epoch"), [(1, 4), (3, 2), (4, 1), (50, 1)])
def test_a_row_is_the_mean_of_its_steps_and_never_mixes_epochs(
    every, rows_an_epoch, tiny, make_trainer, tmp_path
):
    witness = Witness()
    make_trainer(witness, TrainingLog(), max_epochs=3, log_every_n_steps=every).fit(*tiny())
    rows = logged(tmp_path)
    by_hand = in_windows(witness.rows, every)
    assert len(rows) == 3 * rows_an_epoch == len(by_hand)
    assert rows["epoch"].tolist() == by_hand[:, 0].tolist()
    # A loss in float32 against one in float64, of logits that are float32 in both.
    np.testing.assert_allclose(rows["train/loss_nats"], by_hand[:, 1], rtol=1e-5)
    np.testing.assert_allclose(rows["train/accuracy"], by_hand[:, 2], rtol=1e-6)


def test_a_row_stands_at_the_number_of_steps_taken(tiny, make_trainer, tmp_path):
    make_trainer(TrainingLog(), max_epochs=2, log_every_n_steps=3).fit(*tiny())
    assert logged(tmp_path)["step"].tolist() == [3, 4, 7, 8]


def test_validation_within_an_epoch_only_makes_the_windows_shorter(tiny, make_trainer, tmp_path):
    witness = Witness()
    make_trainer(
        witness, TrainingLog(), val_check_interval=2, log_every_n_steps=3, max_epochs=2
    ).fit(*tiny())
    rows = logged(tmp_path)
    assert rows["step"].tolist() == [2, 4, 6, 8]
    by_hand = in_windows(witness.rows, 2)
    np.testing.assert_allclose(rows["train/loss_nats"], by_hand[:, 1], rtol=1e-5)


def test_accumulated_gradients_leave_the_logged_loss_a_mean_over_batches(
    tiny, make_trainer, tmp_path
):
    witness = Witness()
    make_trainer(witness, TrainingLog(), accumulate_grad_batches=2, log_every_n_steps=2).fit(
        *tiny()
    )
    by_hand = in_windows(witness.rows, 2)
    np.testing.assert_allclose(logged(tmp_path)["train/loss_nats"], by_hand[:, 1], rtol=1e-5)


class Explosive(nn.Module):
    """A linear map whose outputs, or whose gradient, are not finite at one call while training."""

    def __init__(self, at, what="outputs"):
        super().__init__()
        self.in_shape = (1, 28, 28)
        self.linear = nn.Linear(784, 10)
        self.calls, self.at, self.what = 0, at, what

    def forward(self, x):
        y = self.linear(x.flatten(1))
        if not self.training or not torch.is_grad_enabled():
            return y
        now = self.calls == self.at
        self.calls += 1
        if now and self.what == "gradient":
            y.register_hook(lambda gradient: gradient * float("inf"))
        return y * float("inf") if now and self.what == "outputs" else y


@pytest.mark.parametrize("every", [1, 3, 50])
@pytest.mark.parametrize("step", [0, 3, 4, 6])
def test_the_error_names_the_first_step_whose_loss_is_not_finite(
    step, every, tiny, make_trainer, tmp_path
):
    trainer = make_trainer(
        TrainingLog(), max_epochs=3, log_every_n_steps=every, limit_val_batches=0
    )
    with pytest.raises(DivergedError, match=f"step {step}$") as caught:
        trainer.fit(*tiny(Explosive(step)))
    assert caught.value.step == step
    if (tmp_path / "logs" / "metrics.csv").is_file():
        assert np.isfinite(logged(tmp_path)["train/loss_nats"]).all()


def test_the_step_is_the_optimisers_also_with_accumulated_gradients(tiny, make_trainer):
    """Call 6 is the third batch of the second epoch: the first half of step 3."""
    trainer = make_trainer(
        TrainingLog(), max_epochs=3, accumulate_grad_batches=2, limit_val_batches=0
    )
    with pytest.raises(DivergedError) as caught:
        trainer.fit(*tiny(Explosive(6)))
    assert caught.value.step == 3


def weights(path):
    content = torch.load(path, weights_only=True)
    return content["global_step"], content["state_dict"]["net.linear.weight"]


def checkpoints(folder):
    return [
        ModelCheckpoint(str(folder), "last", enable_version_counter=False),
        ModelCheckpoint(str(folder), "best", monitor="val/loss_nats", enable_version_counter=False),
    ]


@pytest.mark.parametrize("check_every", [{}, {"val_check_interval": 2}], ids=["epoch", "half"])
@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize(
    ("what", "at"), [("outputs", 4), ("outputs", 7), ("gradient", 5), ("gradient", 7)]
)
def test_no_checkpoint_is_written_over_the_last_good_one(
    what, at, every, check_every, tiny, make_trainer, tmp_path
):
    """The gradient of the last step of an epoch spoils weights whose losses were all finite."""
    trainer = make_trainer(
        *checkpoints(tmp_path / "ckpt"),
        TrainingLog(),
        max_epochs=4,
        log_every_n_steps=every,
        **check_every,
    )
    with pytest.raises(DivergedError) as caught:
        trainer.fit(*tiny(Explosive(at, what)))
    assert caught.value.step == (at if what == "outputs" else at + 1)
    for name in ("last.ckpt", "best.ckpt"):
        step, weight = weights(tmp_path / "ckpt" / name)
        assert weight.isfinite().all()
        assert step <= at
    # The newest one: at the end of the first epoch, or two steps later where it is checked midway.
    assert weights(tmp_path / "ckpt" / "last.ckpt")[0] == (6 if check_every and at > 5 else 4)


def test_a_run_that_diverges_at_once_leaves_no_checkpoint(tiny, make_trainer, tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(DivergedError):
        make_trainer(*checkpoints(folder), TrainingLog()).fit(*tiny(Explosive(0)))
    assert not list(folder.glob("*.ckpt"))


def test_a_log_that_saw_a_divergence_begins_the_next_run_afresh(tiny, make_trainer, tmp_path):
    log = TrainingLog()
    with pytest.raises(DivergedError):
        make_trainer(log, log_every_n_steps=50).fit(*tiny(Explosive(1)))
    make_trainer(log, logs="second").fit(*tiny())
    assert logged(tmp_path, "second")["step"].tolist() == [1, 2, 3, 4]


class Stop(L.Callback):
    """Saves before a batch and stops there, as a signal would."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise InterruptedError


@pytest.mark.parametrize("step", [1, 2, 5, 7])
def test_a_resumed_run_logs_the_rows_of_an_undisturbed_one(step, tiny, make_trainer, tmp_path):
    settings = {"max_epochs": 2, "log_every_n_steps": 3}
    make_trainer(TrainingLog(), logs="whole", **settings).fit(*tiny())
    path = str(tmp_path / "stopped.ckpt")
    with pytest.raises(InterruptedError):
        make_trainer(TrainingLog(), Stop(path, step), logs="first", **settings).fit(*tiny())
    make_trainer(TrainingLog(), logs="rest", **settings).fit(
        *tiny(), ckpt_path=path, weights_only=True
    )
    whole, rest = logged(tmp_path, "whole"), logged(tmp_path, "rest")
    kept = whole[whole["step"] > step].reset_index(drop=True)
    assert len(kept) > 0
    columns = ["epoch", "step", "train/loss_nats", "train/accuracy"]
    pd.testing.assert_frame_equal(rest[columns], kept[columns], check_exact=True)


def test_a_resumed_run_names_the_step_that_an_undisturbed_one_names(tiny, make_trainer, tmp_path):
    """Stopped before step 5 with step 4 not logged yet; the second step from there explodes."""
    settings = {"max_epochs": 2, "log_every_n_steps": 4, "limit_val_batches": 0}
    path = str(tmp_path / "stopped.ckpt")
    with pytest.raises(InterruptedError):
        make_trainer(TrainingLog(), Stop(path, 5), logs="first", **settings).fit(
            *tiny(Explosive(99))
        )
    with pytest.raises(DivergedError) as caught:
        make_trainer(TrainingLog(), logs="rest", **settings).fit(
            *tiny(Explosive(1)), ckpt_path=path, weights_only=True
        )
    assert caught.value.step == 6
