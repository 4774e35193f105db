"""Reducers of two processes become one, which both of them hold."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from udl_lab.activations.distances import KnownAction
from udl_lab.activations.merging import merge_over_processes
from udl_lab.activations.variance import OrbitVariance

# Process 1 takes every third pair, and is alone in feeding `idle`.
PROGRAM = """
import sys, numpy as np, torch, torch.distributed as dist
from udl_lab.activations.distances import KnownAction
from udl_lab.activations.merging import merge_over_processes
from udl_lab.activations.variance import OrbitVariance

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
acts = torch.linspace(-1, 1, 3 * 20 * 4, dtype=torch.float64).sin().view(3, 20, 4)
known = KnownAction(lambda layer, e: -layer)
variance, idle = OrbitVariance(4, 10), OrbitVariance(4, 10)
for p in range(10):
    if (p % 3 == 1) == rank:
        ids = torch.tensor([2 * p, 2 * p + 1])
        known.update(acts[:, ids], ids)
        variance.update(acts[:, ids], ids)
        if rank:
            idle.update(acts[:, ids], ids)
error = merge_over_processes(known).result().error
sums = merge_over_processes(variance).result()
n = merge_over_processes(idle).result().counts.sum()
np.savez(f"{folder}/{rank}.npz", error=error, mean=sums.mean_sum, within=sums.within_sum, n=n)
dist.destroy_process_group()
"""


@pytest.mark.slow  # two interpreters that import torch
def test_two_processes_hold_what_one_would_bit_for_bit_alike(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(tmp_path)])
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    acts = torch.linspace(-1, 1, 3 * 20 * 4, dtype=torch.float64).sin().view(3, 20, 4)
    known, variance = KnownAction(lambda layer, e: -layer), OrbitVariance(4, 10)
    for reducer in (known, variance):
        reducer.update(acts, torch.arange(20))
    sums = variance.result()
    expected = {"error": known.result().error, "mean": sums.mean_sum, "within": sums.within_sum}
    for name, value in expected.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], value, rtol=1e-12, atol=1e-12)
    assert first["n"] == second["n"] == 6  # pairs 1, 4 and 7, also where none was seen


def test_a_single_process_keeps_its_reducer():
    reducer = OrbitVariance(1, 1)
    assert merge_over_processes(reducer) is reducer


def test_a_group_of_one_process_gathers_numbers_alone_and_counts_them_once():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        reducer = KnownAction(lambda layer, e: layer)  # a lambda cannot be sent
        reducer.update(torch.ones(2, 4, 3), torch.arange(4))
        assert merge_over_processes(reducer) is reducer
        np.testing.assert_array_equal(reducer.result().ids, np.arange(4))
    finally:
        torch.distributed.destroy_process_group()
