"""The watched accuracies are those of the whole splits, measured directly after each epoch."""

from udl_lab.callbacks.watch_splits import WatchSplits  # isort: skip  # first

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from udl_lab.data.augment import Rotation
from udl_lab.data.digits import digits
from udl_lab.data.source import Examples, Source

SPLITS = ("train", "clean_train", "test")


class Snapshot(L.Callback):
    """Keeps the weights at the end of each epoch."""

    def __init__(self):
        self.states = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append({k: v.clone() for k, v in pl_module.net.state_dict().items()})


def direct(net, examples):
    """Hits one example at a time, in the order of the split."""
    with torch.no_grad():
        hits = [int(net(x[None]).argmax()) == int(y) for x, y in zip(*examples, strict=True)]
    return sum(hits) / len(hits)


def watched(tmp_path):
    rows = pd.read_csv(tmp_path / "logs" / "metrics.csv")
    columns = [f"watch/{split}_accuracy" for split in SPLITS if f"watch/{split}_accuracy" in rows]
    return rows.dropna(subset=columns)[["epoch", "step", *columns]].reset_index(drop=True)


def test_watched_accuracies_are_those_of_a_direct_evaluation(tiny, make_trainer, tmp_path):
    """With shuffled inputs the training examples and the clean ones differ."""
    model, data = tiny(shuffled_inputs=30, augment=Rotation([-20, 20]))
    snapshot = Snapshot()
    make_trainer(snapshot, WatchSplits(SPLITS), max_epochs=2).fit(model, data)
    rows = watched(tmp_path)
    assert rows["epoch"].tolist() == [0, 1]
    assert rows["step"].tolist() == [4, 8]
    for epoch, weights in enumerate(snapshot.states):
        model.net.load_state_dict(weights)
        for split in SPLITS:
            accuracy = direct(model.net, getattr(data, split))
            assert rows[f"watch/{split}_accuracy"][epoch] == pytest.approx(accuracy, abs=1e-12)
    assert not np.allclose(rows["watch/train_accuracy"], rows["watch/clean_train_accuracy"])


def test_a_split_larger_than_one_piece_is_counted_whole(tiny, make_trainer, tmp_path):
    """Pieces of 5,000 examples are evaluated at a time; here the last one has 37."""

    def many(root):
        small = digits(root)
        return Source(small.train, small.test.rows(torch.arange(5037) % 360))

    model, data = tiny()
    data.source = many
    make_trainer(WatchSplits(["test"])).fit(model, data)
    assert len(data.test.y) == 5037
    with torch.no_grad():
        hits = (model.net(data.test.x).argmax(1) == data.test.y).sum().item()
    assert watched(tmp_path)["watch/test_accuracy"].item() == pytest.approx(hits / 5037, abs=1e-12)


class Moody(nn.Module):
    """Right in evaluation mode only: names the class that its first pixel says."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(()))

    def forward(self, x):
        sign = -1 if self.training else 1
        named = nn.functional.one_hot(x.flatten(1)[:, 0].long(), 10)
        return sign * named + 0 * self.unused


def test_the_network_is_watched_in_evaluation_mode_and_trains_on_in_training_mode(
    tiny, make_trainer, tmp_path
):
    def labelled(root):
        y = torch.arange(200) % 10
        part = Examples(y.reshape(200, 1, 1, 1).float(), y)
        return Source(part, part)

    model, data = tiny(Moody(), n_validation=0, mean=0.0, std=1.0)
    data.source = labelled
    make_trainer(WatchSplits(), max_epochs=2, limit_val_batches=0).fit(model, data)
    assert watched(tmp_path)["watch/test_accuracy"].tolist() == [1, 1]
    assert model.training


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_splits_are_watched_at_the_precision_of_the_training(
    precision, tiny, make_trainer, tmp_path
):
    model, data = tiny()
    make_trainer(WatchSplits(), precision=precision).fit(model, data)
    with torch.no_grad():
        hits = direct(model.float().net, data.test)
    # Rounding to 8 bits may turn a few of the 360 examples.
    assert watched(tmp_path)["watch/test_accuracy"].item() == pytest.approx(hits, abs=0.03)


def test_watching_changes_nothing_in_the_training(tiny, make_trainer):
    states = []
    for callbacks in ([], [WatchSplits(SPLITS)]):
        model, data = tiny()
        make_trainer(*callbacks, max_epochs=2, logs=f"logs{len(states)}").fit(model, data)
        states.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*states)
