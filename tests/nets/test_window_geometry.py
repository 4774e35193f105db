"""Windows are counted as they slide, and paddings keep what they promise."""

import itertools

import pytest

from udl_lab.nets.geometry import Window, padding_pixels, windows


def test_the_sides_and_the_rest_are_those_of_windows_slid_by_hand():
    for side, size, stride, before, after in itertools.product(
        range(1, 12), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (0, 1, 2)
    ):
        window = Window(size, stride, before, after)
        whole = before + side + after
        ends = [start + size for start in range(0, whole, stride) if start + size <= whole]
        assert max(window.side_after(side), 0) == len(ends)
        if ends:
            assert window.left_over(side) == whole - ends[-1]


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_padding_same_keeps_every_side_at_stride_1(kernel):
    (padding,) = padding_pixels("same", [kernel])
    for side in (1, 2, 7, 28):
        assert Window(kernel, 1, padding, padding).side_after(side) == side


def test_padding_same_with_an_even_kernel_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match=r"odd kernels and 4 is even; use a kernel of 3 or 5"):
        padding_pixels("same", [3, 4])


def test_a_pooling_without_a_stride_moves_by_its_window():
    found = windows([5, 3], [1, 2], [2, 1], pool=2)
    assert list(found.items()) == [
        ("blocks.0.convolution", Window(5, 1, 2, 2)),
        ("blocks.0.pool", Window(2, 2)),
        ("blocks.1.convolution", Window(3, 2, 1, 1)),
        ("blocks.1.pool", Window(2, 2)),
    ]
    assert windows([5], [1], [0], pool=3, pool_stride=2)["blocks.0.pool"] == Window(3, 2)
    assert len(windows([5, 3], [1, 2], [2, 1], pool=None)) == 2
