"""Nearest neighbours against scikit-learn, copies at exactly 0, and the bound on memory."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.utils._python_dispatch import TorchDispatchMode

from udl_lab.randomness import generator
from udl_lab.sample_quality.nearest import nearest
from udl_lab.sample_quality.points import COLUMNS, ROWS


def normal(n, dim, name, dtype=torch.float64):
    return torch.randn(n, dim, dtype=dtype, generator=generator(0, name))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_neighbours_are_scikit_learns(k):
    queries, among = normal(40, 3, "queries"), normal(100, 3, "among")
    peer = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among).kneighbors(queries)
    found = nearest(queries, among, k)
    assert torch.equal(found.index, torch.from_numpy(peer[1]))
    assert torch.allclose(found.distance, torch.from_numpy(peer[0]), rtol=0, atol=1e-12)


def test_sets_larger_than_a_block_are_searched_whole():
    queries, among = normal(ROWS + 3, 2, "queries"), normal(COLUMNS + 1, 2, "among")
    found = nearest(queries, among, 2)
    direct = torch.cdist(queries, among, compute_mode="donot_use_mm_for_euclid_dist")
    expected = direct.topk(2, largest=False)
    assert torch.equal(found.index, expected.indices)
    assert torch.allclose(found.distance, expected.values, rtol=0, atol=1e-14)


def test_a_copy_is_at_exactly_zero_however_far_from_the_origin():
    among = normal(50, 20, "among") + 1e6
    found = nearest(among[[7, 31]], among, 2)
    assert found.index[:, 0].tolist() == [7, 31]
    assert found.distance[:, 0].tolist() == [0, 0]


def test_all_points_are_neighbours_in_order_of_distance():
    found = nearest(torch.tensor([[0.0]]), torch.tensor([[3.0], [-1.0], [2.0]]), 3)
    assert found.index.tolist() == [[1, 2, 0]]
    assert found.distance.tolist() == [[1, 2, 3]]


def test_no_tensor_is_larger_than_a_block():
    class Largest(TorchDispatchMode):
        n_bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, (tuple, list)) else (out,):
                # A view of an argument is nothing new.
                if isinstance(x, torch.Tensor) and not x._is_view():
                    self.n_bytes = max(self.n_bytes, x.numel() * x.element_size())
            return out

    queries = normal(ROWS + 1, 100, "queries", torch.float32)
    among = normal(2 * COLUMNS, 100, "among", torch.float32)
    with Largest() as largest:
        nearest(queries, among, 2)
    assert largest.n_bytes == ROWS * COLUMNS * 8


def test_too_few_points_to_search_are_refused():
    with pytest.raises(ValueError, match="among has 2 points; give at least 3"):
        nearest(torch.zeros(1, 2), torch.zeros(2, 2), 3)
    with pytest.raises(ValueError, match="k is 0"):
        nearest(torch.zeros(1, 2), torch.zeros(2, 2), 0)
