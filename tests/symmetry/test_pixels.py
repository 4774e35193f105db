"""Moves of whole pixels, against numpy, scipy and loops."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from udl_lab.randomness import generator
from udl_lab.symmetry.pixels import flip, gather_pixels, quarter_turns, translate


def images(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(0, "images"), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gather_pixels_copies_the_named_pixel_of_the_same_image_and_channel(dtype):
    x = images(3, 2, 4, 5, dtype=dtype)
    index = torch.randint(21, (3, 20), generator=generator(0, "index"))
    y = gather_pixels(x, index, -0.5)
    assert y.dtype == dtype
    for i, c, p in np.ndindex(3, 2, 20):
        source = int(index[i, p])
        expected = x[i, c, source // 5, source % 5] if source < 20 else torch.tensor(-0.5)
        assert y[i, c, p // 5, p % 5] == expected.to(dtype)


def test_the_index_past_the_last_pixel_is_the_fill_and_nothing_else_is():
    x = images(1, 1, 3, 3)
    index = torch.tensor([[9, 0, 1, 2, 3, 4, 5, 6, 7]])
    expected = torch.cat([torch.tensor([7.0]), x.flatten()[:8]])
    assert torch.equal(gather_pixels(x, index, 7.0).flatten(), expected)


def test_the_gradient_of_a_gather_counts_how_often_each_pixel_was_used():
    x = images(2, 1, 2, 2).requires_grad_()
    index = torch.tensor([[0, 0, 4, 1], [3, 3, 3, 4]])
    gather_pixels(x, index, 0.0).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [2, 1, 0, 0, 0, 0, 0, 3]


def test_translation_is_the_zeroth_order_shift_of_scipy():
    x = images(9, 2, 6, 7, dtype=torch.float64)
    right = torch.tensor([0, 1, -1, 3, -3, 0, 2, 7, -40])
    down = torch.tensor([0, 0, 0, 1, -2, -5, 2, 1, 3])
    y = translate(x, right, down, 0.25)
    for i in range(9):
        expected = scipy.ndimage.shift(
            x[i].numpy(), (0, down[i], right[i]), order=0, mode="constant", cval=0.25
        )
        np.testing.assert_array_equal(y[i].numpy(), expected)


def test_content_far_from_the_border_survives_a_translation_there_and_back():
    x = torch.full((1, 1, 9, 9), -0.4)
    x[..., 3:6, 3:6] = images(1, 1, 3, 3)
    three = torch.tensor([3])
    assert torch.equal(translate(translate(x, three, -three, -0.4), -three, three, -0.4), x)
    four = torch.tensor([4])
    assert not torch.equal(translate(translate(x, four, -four, -0.4), -four, four, -0.4), x)


def test_flips_agree_with_numpy_image_by_image():
    x = images(4, 2, 5, 6)
    horizontal = torch.tensor([False, True, False, True])
    vertical = torch.tensor([False, False, True, True])
    y = flip(x, horizontal, vertical).numpy()
    np.testing.assert_array_equal(y[0], x[0].numpy())
    np.testing.assert_array_equal(y[1], np.flip(x[1].numpy(), 2))
    np.testing.assert_array_equal(y[2], np.flip(x[2].numpy(), 1))
    np.testing.assert_array_equal(y[3], np.flip(x[3].numpy(), (1, 2)))


def test_quarter_turns_agree_with_numpy_image_by_image():
    x = images(6, 2, 5, 5)
    quarters = torch.tensor([0, 1, 2, 3, -1, 9])
    y = quarter_turns(x, quarters).numpy()
    for i in range(6):
        np.testing.assert_array_equal(y[i], np.rot90(x[i].numpy(), int(quarters[i]), (1, 2)))
