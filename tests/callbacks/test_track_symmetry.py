"""A symmetry is logged while a network learns, and the learning is not disturbed."""

from udl_lab.callbacks.track_symmetry import TrackSymmetry  # isort: skip  # first

import pandas as pd
import torch

from udl_lab.nets.cortex import Cortex
from udl_lab.probes.layerwise import Layerwise
from udl_lab.randomness import seeded
from udl_lab.symmetry.actions import Rotations


def test_the_index_of_every_layer_is_logged_and_nothing_else_changes(tiny, make_trainer, tmp_path):
    def net():
        with seeded(0, "cells"):
            return Cortex([1, 28, 28], 10, n_templates=3, nonlinearity="abs")

    measurement = Layerwise(Rotations([90, 180, 270]), metrics=["index"], n_images=40, n_boot=40)
    weights = []
    for callbacks in ([TrackSymmetry(measurement, every_n_epochs=2)], []):
        model, data = tiny(net())
        make_trainer(*callbacks, max_epochs=4, logs=f"logs{len(callbacks)}").fit(model, data)
        weights.append(model.net.state_dict())
    assert all(torch.equal(w, weights[1][name]) for name, w in weights[0].items())
    logged = pd.read_csv(tmp_path / "logs1" / "metrics.csv").dropna(subset="probe/index/simple")
    assert logged["epoch"].tolist() == [1, 3]
    assert logged["step"].tolist() == [8, 16]
    # Sums over whole orbits are invariant before, while and after they learn.
    assert (logged["probe/index/complex"] - 1).abs().max() < 1e-12
    assert (logged["probe/index/pixels"] < 0.99).all()
