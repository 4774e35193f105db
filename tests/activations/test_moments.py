"""Moments are numpy's, over the upright images alone."""

import numpy as np
import torch

from udl_lab.activations.moments import Moments
from udl_lab.randomness import generator


def test_moments_are_those_of_all_upright_images_together():
    acts = torch.randn(3, 20, 2, 4, dtype=torch.float64, generator=generator(0, "acts"))
    acts[0] += 1e6  # the textbook E[f^2] - E[f]^2 would be off by 1e-4
    reducer = Moments()
    for ids in torch.arange(20).split(6):
        reducer.update(acts[:, ids], ids)
    found, f = reducer.result(), acts[0].flatten(1).numpy()
    assert found.count == 20
    np.testing.assert_allclose(found.mean, f.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.variance, f.var(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.min, f.min(axis=0))
    np.testing.assert_array_equal(found.max, f.max(axis=0))


def test_dead_units_are_those_that_no_image_changes():
    acts = torch.randn(2, 8, 3, generator=generator(0, "acts"))
    acts[0, :, 0] = 0.1  # its copies move, but the images do not differ
    reducer = Moments()
    reducer.update(acts, torch.arange(8))
    found = reducer.result()
    np.testing.assert_array_equal(found.dead, [True, False, False])
    np.testing.assert_allclose(found.variance[0], 0, atol=1e-32)
