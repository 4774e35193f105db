"""Sets of digits and their sums: the smallest task on sets, generated, never downloaded."""

import torch
from jaxtyping import Float
from torch import Tensor

from udl_lab.data.source import Examples, Source
from udl_lab.randomness import generator
from udl_lab.ranges import Positive

LARGEST = 9


def digit_sums(
    root: str, n_train: Positive = 100_000, n_test: Positive = 10_000, longest: Positive = 9
) -> Source:
    """Sets of 1 to `longest` digits from 1 to 9, and the sums of their digits.

    The text setting of Zaheer et al. 2017, §4.1.2 (DigitSum/text_sum.ipynb: 100,000 sets of 1 to 9
    digits, never 0). Sizes are equally likely, digits too. A row is filled with 0 behind the digits
    (theirs is filled in front, and one place longer). The sets are the same for every seed. Small
    test sets are in the training part as well: there are only nine of size 1.

    Args:
        root: not used: the sets are computed.
        n_train: training sets.
        n_test: test sets, of the same sizes.
        longest: the largest size, which is the length of a row.
    """
    return Source(_examples("train", n_train, longest), _examples("test", n_test, longest))


def digit_sets(n: int, size: int, generator: torch.Generator) -> Float[Tensor, "n size"]:
    """Sets of one size: independent digits from 1 to 9, equally likely."""
    return torch.randint(1, LARGEST + 1, (n, size), generator=generator).float()


def _examples(part: str, n: int, longest: int) -> Examples:
    stream = generator(0, "digit sums", part)
    sizes = torch.randint(1, longest + 1, (n, 1), generator=stream)
    x = digit_sets(n, longest, stream).masked_fill(torch.arange(longest) >= sizes, 0)
    return Examples(x, x.sum(1).long())
