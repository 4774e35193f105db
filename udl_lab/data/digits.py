"""Real handwriting that needs no network: scikit-learn's 8 × 8 digits in MNIST's format."""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from udl_lab.data.source import Examples, Source
from udl_lab.randomness import generator

_N_TEST = 360


def digits(root: str) -> Source:
    """1,437 training and 360 test digits (Alpaydin & Kaynak 1998; UCI "optdigits" test part).

    Each 8 × 8 image of 17 grey levels becomes 20 × 20 by bilinear interpolation (pixel centres
    aligned to areas, edges clamped) and is set in the middle of 28 × 28, as MNIST's digits are.
    Which images are the test set is fixed, whatever the experiment's seed.

    Args:
        root: not used: the images come with scikit-learn.
    """
    arrays = load_digits()
    images = torch.from_numpy(arrays.images).float().div(16).unsqueeze(1)
    images = F.interpolate(images, size=20, mode="bilinear", align_corners=False)
    x = F.pad(images, (4, 4, 4, 4))
    y = torch.from_numpy(arrays.target).long()
    order = torch.randperm(len(y), generator=generator(0, "digits", "test set"))
    everything = Examples(x, y)
    return Source(everything.rows(order[_N_TEST:]), everything.rows(order[:_N_TEST]))
