"""Which other image each image is compared with, as the control of an invariance measure.

Pairs are disjoint: no image is in two of them. Distances that share an image are correlated. If
image i is paired with image i + 1 for every i, and a distance is about a sum of one part per
image, neighbouring distances correlate by 1/2; the mean of n of them then varies up to twice as
much as for independent ones, and a nominal 95 % interval covers only about 84 %. Disjoint pairs of
independent images are independent, so the ordinary intervals of `statistics.py` hold.
"""

import torch
from jaxtyping import Int64, Integer
from torch import Tensor


def disjoint_pairs(n: int, generator: torch.Generator) -> Int64[Tensor, "pair 2"]:
    """Random pairs of the indices 0 ... n - 1, each index in one pair at most.

    All such pairings are equally likely. For odd n one index, drawn at random, is left out. The
    pair, not the image, is the independent unit (the cluster) of what is measured on it.

    Args:
        n: the number of images.
        generator: a CPU generator, as `udl_lab.randomness.generator` makes it.

    Raises:
        ValueError: for fewer than two images.
    """
    if n < 2:
        raise ValueError(f"{n} images make no pair; give at least 2")
    return torch.randperm(n, generator=generator)[: n - n % 2].view(-1, 2)


def same_class_pairs(
    labels: Integer[Tensor, " image"], generator: torch.Generator
) -> Int64[Tensor, "pair 2"]:
    """Random disjoint pairs of image indices inside each class, in the order of the classes.

    In a class of odd size one image, drawn at random, is left out; a class of one has no pair.
    Disjoint for the reason at the top of this file.

    Raises:
        ValueError: if no class has two images.
    """
    labels = labels.cpu()
    pairs = []
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten()
        if len(members) > 1:
            pairs.append(members[disjoint_pairs(len(members), generator)])
    if not pairs:
        raise ValueError(
            f"no class has two of the {len(labels)} images; give more images or use disjoint_pairs"
        )
    return torch.cat(pairs)
