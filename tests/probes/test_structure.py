"""Rounding told from structure: by precision, and bit for bit in whole numbers."""

import numpy as np
import pytest
import torch

from udl_lab.nets.c4 import C4CNN
from udl_lab.nets.cnn import CNN
from udl_lab.probes.structure import Precision, in_both_precisions, in_whole_numbers, worst_errors
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.actions import Rotations
from udl_lab.symmetry.shifts import CircularShifts

SHIFTS = CircularShifts([[1, 0], [0, 3]])


def cnn(**settings):
    with seeded(0, "net"):
        return CNN([1, 12, 12], 3, channels=(4, 5), kernel_size=3, pool=None, widths=(), **settings)


def images():
    return torch.rand(8, 1, 12, 12, generator=generator(0, "images"))


def test_a_true_symmetry_falls_with_the_precision_and_a_broken_one_does_not_move():
    circular = in_both_precisions(cnn(padding="same", padding_mode="circular"), images(), SHIFTS)
    zero = in_both_precisions(cnn(padding="same"), images(), SHIFTS)
    site = "blocks.1.convolution"
    assert circular[site].verdict == "structural"
    assert circular[site].float64 < 1e-14
    with seeded(0, "net"):
        net = C4CNN([1, 12, 12], 3, channels=(3, 4), kernel_size=3, pool=None, widths=())
    turned = in_both_precisions(net, images(), Rotations([90, 180, 270]))["output"]
    assert turned.verdict == "structural"
    assert turned.float64 < 1e-14 < 1e-9 < turned.float32 < 1e-4
    assert zero[site].verdict == "broken"
    assert zero[site].float32 == pytest.approx(zero[site].float64, rel=1e-4)
    assert circular["output"].verdict == "broken"  # a dense layer is not invariant


def test_in_whole_numbers_a_structural_symmetry_holds_bit_for_bit():
    """Oracle 1 of the probes notes, through the same code as every measurement."""
    x = torch.randint(-3, 4, (8, 1, 12, 12), generator=generator(1, "images")).double()
    lifted = in_whole_numbers(cnn(padding="same", padding_mode="circular"))
    found = worst_errors(lifted, x, SHIFTS)
    assert found["blocks.1.activation"] == 0
    assert found["output"] > 0.1
    assert all(weight.frac().eq(0).all() for weight in lifted.parameters())
    zero = worst_errors(in_whole_numbers(cnn(padding="same")), x, SHIFTS)
    assert zero["blocks.0.convolution"] > 0


def test_in_whole_numbers_a_c4_network_is_bitwise_invariant():
    with seeded(0, "net"):
        net = C4CNN([1, 12, 12], 3, channels=(3, 4), kernel_size=3, pool=None, widths=())
    x = torch.randint(-3, 4, (8, 1, 12, 12), generator=generator(1, "images")).double()
    found = worst_errors(in_whole_numbers(net), x, Rotations([90, 180, 270]))
    assert found["global_pool"] == 0  # 64 places: a mean over a power of two
    assert found["output"] == 0
    assert found["blocks.0.convolution"] > 0.1  # the map turns and its channels change places


def test_a_layer_without_an_action_is_unknown():
    assert Precision(np.nan, np.nan).verdict == "unknown"
    strided = cnn(padding="same", padding_mode="circular", stride=2)
    found = in_both_precisions(strided, images(), CircularShifts([[1, 0]]))
    assert found["blocks.0.convolution"].verdict == "unknown"
