"""The regressor's loss, numbers and gradient, and grouped steps against single ones."""

from udl_lab.configuration import compose
from udl_lab.runs.execute import execute

import pandas as pd  # isort: skip
import pytest  # isort: skip
import torch  # isort: skip
from torch import nn  # isort: skip

from udl_lab.data.digit_sums import digit_sums  # isort: skip
from udl_lab.data.loader import Batch  # isort: skip
from udl_lab.data.resident import ResidentData  # isort: skip
from udl_lab.models.set_regressor import SetRegressor  # isort: skip
from udl_lab.nets.deepsets import DeepSets  # isort: skip

ADAM = {"name": "adam", "lr": 0.01}


def step(predictions, labels):
    """A training step of a network that passes its inputs on."""
    model = SetRegressor(nn.Identity(), ADAM)
    return model.training_step(Batch(predictions, labels, None), 0)


def test_the_loss_is_the_mean_absolute_error_and_right_is_within_half():
    predictions = torch.tensor([[3.25], [-1.0], [7.5], [10.25]])
    numbers = step(predictions, torch.tensor([3, 1, 8, 10]))
    assert numbers["loss"].item() == (0.25 + 2 + 0.5 + 0.25) / 4
    assert numbers["accuracy"].item() == 0.5
    assert not numbers["accuracy"].requires_grad


def test_the_gradient_is_the_sign_of_the_error_over_the_batch():
    predictions = torch.tensor([[3.25], [-1.0], [7.5], [10.25]], requires_grad=True)
    step(predictions, torch.tensor([3, 1, 8, 10]))["loss"].backward()
    assert predictions.grad.tolist() == [[0.25], [-0.25], [-0.25], [0.25]]


@pytest.mark.parametrize("outputs", [2, 4])
def test_a_network_with_more_outputs_than_one_is_refused_and_not_broadcast(outputs):
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        step(torch.zeros(4, outputs), torch.zeros(4, dtype=torch.int64))


def test_validation_numbers_are_means_over_the_whole_split(make_trainer):
    """Not means of batch means: the 1,200 sets come as 1,000 and 200."""

    def small(root):
        return digit_sums(root, n_train=1300, n_test=1)

    data = ResidentData(small, "", 50, 1200, 0.0, 1.0, seed=0)
    model = SetRegressor(DeepSets([9], 1), ADAM)
    trainer = make_trainer()
    trainer.fit(model, data)
    with torch.no_grad():
        errors = (model(data.validation.x)[:, 0].double() - data.validation.y).abs()
    # The metric sums 1,200 errors in float32.
    assert trainer.callback_metrics["val/mae"].item() == pytest.approx(
        errors.mean().item(), rel=1e-5
    )
    right = int((errors < 0.5).sum())
    assert round(trainer.callback_metrics["val/accuracy"].item() * 1200, 3) == right


SETTINGS = (
    "experiment=lab07_deepsets/equivariant",
    "logger=csv",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=20",
    "data.n_train=366",
    "data.batch_size=8",
    "measure.sets.lengths=[4]",
    "measure.sets.n_sets=50",
    "measure.sets.n_permuted=10",
)


def test_grouped_steps_are_the_single_steps_bit_for_bit(tmp_path, monkeypatch):
    calls = []
    training_step = SetRegressor.training_step
    monkeypatch.setattr(
        SetRegressor,
        "training_step",
        lambda self, batch, i: calls.append(len(batch.y)) or training_step(self, batch, i),
    )
    grouped = execute(compose([*SETTINGS, f"run_dir={tmp_path / 'grouped'}"]), quiet=True)
    assert calls == 2 * [80, 80, 80, 80, 46]
    monkeypatch.setattr("udl_lab.models.several_steps._GROUP", 1)
    single = execute(compose([*SETTINGS, f"run_dir={tmp_path / 'single'}"]), quiet=True)
    a, b = (torch.load(f.last, weights_only=True) for f in (grouped, single))
    assert a["global_step"] == b["global_step"] == 92
    for name, weight in a["state_dict"].items():
        assert torch.equal(weight, b["state_dict"][name]), name
    pd.testing.assert_frame_equal(pd.read_csv(grouped.metrics), pd.read_csv(single.metrics))
    assert grouped.results.read_text() == single.results.read_text()
