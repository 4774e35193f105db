"""Does a network add digits in sets of any size, and does it care about their order?

Order is tested on aligned outputs, f(x_π) = f(x) and h(x_π) = h(x)_π, in float64, and beside the
errors stands whether the nonlinearity was at work: where it is affine, any test of it is void.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from udl_lab.activations.recorder import activations
from udl_lab.data.digit_sums import LARGEST, digit_sets
from udl_lab.probes.statistics import Interval, mean, proportion
from udl_lab.probes.subject import Subject, evaluating, logits
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive

_NET = "."  # the recorder's name for the network itself


class SetSums:
    """Accuracy and error on the test split and on sets of given sizes, and structure in float64.

    Rows for the test split, and for each size (element `length<size>`):

    - `accuracy`: how often the output rounds to the sum (Wilson interval);
    - `mae`: mean absolute error, in units of the sum (t interval).

    Rows for each size alone:

    - `accuracy_of_commonest_sum`: what always answering the likeliest sum reaches, exactly;
    - `permutation_error`: the largest |f(x_π) − f(x)| over sets and permutations, over the largest
      |f(x)|. It is 0, to rounding, for a function of sets.

    Rows for each block (its `linear` and `activation`, which have a row per element), by size:

    - `equivariance_error`: the largest |h(x_π) − h(x)_π| over the largest |h(x)|, h being the
      block's activation;
    - `share_in_curved_range`: how many of its pre-activations lie in [−2, 2];
    - `affine_residual`: the share of the activations' variance that no affine function of the
      pre-activations explains, unit by unit. 0 where the nonlinearity is not at work.

    The sets are the same for every run. What is exact has no interval.
    """

    def __init__(
        self,
        lengths: Sequence[Positive] = (5, 10, 20, 50, 100),
        n_sets: Positive = 5000,
        blocks: Sequence[str] = (),
        n_permuted: Positive = 200,
        n_permutations: Positive = 5,
    ) -> None:
        """Say what is measured.

        Args:
            lengths: the sizes of the sets.
            n_sets: how many of each size.
            blocks: modules of the network with a `linear` and an `activation`, by name.
            n_permuted: so many of the sets are permuted.
            n_permutations: how often each of them is.
        """
        self.lengths = list(lengths)
        self.n_sets = n_sets
        self.blocks = list(blocks)
        self.n_permuted = n_permuted
        self.n_permutations = n_permutations

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on the examples, and on sets of every size."""
        rows = _sums(subject.net, *subject.examples, "")
        exact = deepcopy(subject.net).cpu().double()
        for length in self.lengths:
            element = f"length{length}"
            x = digit_sets(self.n_sets, length, generator(0, "set sums", length))
            rows += _sums(subject.net, x, x.sum(1).long(), element)
            likeliest = float(sum_probabilities(length).max())
            rows.append(
                _exact("accuracy_of_commonest_sum", likeliest, self.n_sets, element, note="control")
            )
            rows += self._structure(exact, x[: self.n_permuted].double(), element)
        return rows

    def _structure(
        self, net: nn.Module, x: Float[Tensor, "set element"], element: str
    ) -> list[Row]:
        """What permuting the elements does to the output and to the blocks."""
        stream = generator(0, "set sums", "permutations", element)
        worst = dict.fromkeys([_NET, *self.blocks], 0.0)
        with evaluating(net):
            here = self._layers(net, x)
            for _ in range(self.n_permutations):
                order = torch.rand(x.shape, generator=stream).argsort(1)
                there = self._layers(net, x.gather(1, order))
                for name in worst:
                    expected = here[name] if name == _NET else permuted(here[name], order)
                    worst[name] = max(worst[name], relative_error(there[name], expected))
        n = len(x)
        note = f"largest, {self.n_permutations} permutations a set, float64"
        rows = [_exact("permutation_error", worst[_NET], n, element, note=note)]
        for name in self.blocks:
            z, h = here[f"{name}.linear"], here[name]
            numbers = {
                "equivariance_error": worst[name],
                "share_in_curved_range": float((z.abs() <= 2).double().mean()),
                "affine_residual": affine_residual(z, h),
            }
            rows += [_exact(metric, v, n, element, site=name) for metric, v in numbers.items()]
        return rows

    def _layers(self, net: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """The output, and every block's pre-activations and activations."""
        sites = [f"{name}.{part}" for name in self.blocks for part in ("linear", "activation")]
        layers = activations(net, x, sites=[_NET, *sites])
        return layers | {name: layers[f"{name}.activation"] for name in self.blocks}


def permuted(
    h: Float[Tensor, "set element channel"], order: Int[Tensor, "set element"]
) -> Float[Tensor, "set element channel"]:
    """The rows of the elements of each set in another order: h_π, where π is `order`."""
    return h.gather(1, order.unsqueeze(2).expand_as(h))


def relative_error(found: Float[Tensor, " *any"], expected: Float[Tensor, " *any"]) -> float:
    """The largest absolute difference over the largest absolute value that was expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def affine_residual(z: Float[Tensor, " *any channel"], h: Float[Tensor, " *any channel"]) -> float:
    """The share of the variance of h that no affine function of z explains, channel by channel.

    Least squares in each channel; residuals and variances are summed over channels. 0 where h does
    not vary.
    """
    z, h = z.flatten(0, -2), h.flatten(0, -2)
    z, h = z - z.mean(0), h - h.mean(0)
    slope = (z * h).sum(0) / z.square().sum(0).clamp(min=torch.finfo(z.dtype).tiny)
    total = h.square().sum()
    return float((h - slope * z).square().sum() / total) if total > 0 else 0.0


def sum_probabilities(length: int) -> Float[Tensor, " sum"]:
    """The probability of every sum from 0 to 9 · length of that many digits, by convolution."""
    of_one = torch.full((LARGEST + 1,), 1 / LARGEST, dtype=torch.float64)
    of_one[0] = 0
    probabilities = torch.ones(1, dtype=torch.float64)
    for _ in range(length):
        shifted = nn.functional.pad(probabilities, (LARGEST, LARGEST)).unfold(0, LARGEST + 1, 1)
        probabilities = shifted @ of_one.flip(0)
    return probabilities


def _sums(net: nn.Module, x: Tensor, y: Tensor, element: str) -> list[Row]:
    errors = (logits(net, x)[:, 0].double() - y).abs()
    n = len(y)
    right = int((errors < 0.5).sum())
    return [
        row("accuracy", proportion(right, n), n, element=element),
        row("mae", mean(errors.numpy()), n, element=element, note="units of the sum"),
    ]


def _exact(metric: str, value: float, n: int, element: str, **where: str) -> Row:
    return row(metric, Interval.exact(value), n, element=element, **where)
