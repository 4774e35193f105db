"""The progress bar is touched rarely and still ends full; the empty profiler is a profiler."""

from udl_lab.callbacks.progress_bar import NoProfiler, ProgressBar
from udl_lab.configuration import compose
from udl_lab.runs.execute import execute

import pytest  # isort: skip
from lightning.pytorch.callbacks import RichProgressBar  # isort: skip


@pytest.mark.parametrize("group", [1, 10])
def test_the_bar_is_updated_every_twenty_steps_and_at_the_end(group, tmp_path, monkeypatch):
    """It counts optimiser steps, however many of them a call takes."""
    monkeypatch.setattr("udl_lab.models.several_steps._GROUP", group)
    seen, totals = [], []
    original = RichProgressBar.on_train_batch_end

    def watched(self, trainer, pl_module, outputs, batch, batch_idx):
        seen.append(batch_idx)
        totals.append(self.total_train_batches)
        original(self, trainer, pl_module, outputs, batch, batch_idx)

    monkeypatch.setattr(RichProgressBar, "on_train_batch_end", watched)
    steps = ["data.n_train=180", "data.batch_size=4", "trainer.max_epochs=1"]
    quick = ["logger=csv", "measure=classification", f"run_dir={tmp_path / 'run'}"]
    execute(compose([*steps, *quick]), quiet=True)
    assert seen == [19, 39, 44]
    assert totals == [45, 45, 45]
    assert issubclass(ProgressBar, RichProgressBar)


def test_the_empty_profiler_can_be_entered_anywhere_and_nested():
    profiler = NoProfiler()
    with profiler.profile("a"), profiler.profile("b"):
        pass
    assert profiler.summary() == ""
