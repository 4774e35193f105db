"""The reservoir keeps the first images as they are, and the Gram matrix is exact to rounding."""

import numpy as np
import pytest
import torch

from udl_lab.activations.reservoir import Reservoir, gram
from udl_lab.randomness import generator


@pytest.mark.parametrize("n, kept", [(4, 4), (5, 5), (100, 10)])
def test_the_first_images_are_kept_as_they_are(n, kept):
    acts = torch.randn(3, 10, 2, 4, generator=generator(0, "acts"))
    original = acts.clone()
    reducer = Reservoir(n)
    for ids in ([6, 7, 8, 9], [2, 3], [0, 1, 4, 5]):
        reducer.update(acts[:, ids], torch.tensor(ids))
    acts.zero_()  # the reservoir has a copy
    found = reducer.result()
    np.testing.assert_array_equal(found.ids, np.arange(kept))
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.features, original.flatten(2)[:, :kept].numpy())
    with pytest.raises(ValueError, match="keep at least 1"):
        Reservoir(0)


def test_what_is_kept_does_not_share_memory_with_the_network():
    acts = torch.randn(2, 4, 3, generator=generator(0, "acts"))
    original = acts.clone()
    reducer = Reservoir(4)
    reducer.update(acts, torch.arange(4))
    acts.zero_()
    np.testing.assert_array_equal(reducer.result().features, original.numpy())


def test_the_gram_matrix_holds_the_inner_products():
    features = torch.randn(5, 9000, generator=generator(0, "acts")).numpy()
    exact = features.astype(np.float64)
    expected = [[np.dot(a, b) for b in exact] for a in exact]
    np.testing.assert_allclose(gram(features), expected, rtol=1e-12, atol=1e-10)
    assert gram(features).dtype == np.float64


def test_the_gram_matrix_does_not_see_a_rotation_of_the_units():
    """What oracle 21 (CKA of X and X Q is 1) rests on."""
    x = torch.randn(6, 40, dtype=torch.float64, generator=generator(0, "x"))
    q, _ = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64, generator=generator(0, "q")))
    np.testing.assert_allclose(gram((x @ q).numpy()), gram(x.numpy()), rtol=1e-12, atol=1e-12)
