"""Do the hidden weights form an orbit, and does the network treat an orbit of inputs as one?"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject, device_of, evaluating, logits
from udl_lab.probes.table import Row, row
from udl_lab.ranges import PositiveFloat
from udl_lab.symmetry.automorphisms import (
    automorphisms,
    is_cyclic,
    is_group,
    is_transitive,
    merge_coinciding,
)
from udl_lab.symmetry.gram import (
    anisotropy,
    first_weights,
    gram,
    pairing_error,
    planar_circulant_error,
    sorted_gram_error,
    sorted_gram_penalty,
)


class GramSymmetry:
    """The symmetry of the first layer's weights in the plane, of the trained and untrained net.

    Everything is computed from the network, nothing is sampled, so the rows have no intervals.

    - `sorted_gram_penalty`, and `sorted_gram_error`, which is it without its unit;
    - `circulant_error`, in the best of the orders tried, and `pairing_error` of the places, the
      distance that is left in any order; all three errors are shares of |G|;
    - `norm` and `norm_ratio`: root mean square of the rows' norms, and smallest to largest. With
      `places`, the number of rows that do not coincide, and `anisotropy` (1: all rows on one line),
      they tell an orbit from a collapse, for which the penalty is 0 as well;
    - of the places and how often each is taken: the number of `automorphisms`, and whether (1 or 0)
      they are a `group`, `transitive`, and one of them visits all places (`cyclic`);
    - `within_orbits`: the share of the variance of the logits, and of the mean activation of the
      hidden units, that lies within classes: 0 if the network maps an orbit to one point.
    """

    def __init__(self, tolerance: PositiveFloat = 0.01, coincide: PositiveFloat = 0.02) -> None:
        """Say what counts as equal.

        Args:
            tolerance: entries of the Gram matrix, as a share of the largest squared norm.
            coincide: distance of two rows, as a share of the largest norm. Twice the tolerance:
                two rows that are told apart are then not exchanged alone.
        """
        self.tolerance = tolerance
        self.coincide = coincide

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on all the examples.

        Raises:
            ValueError: when the inputs are not vectors of the plane.
        """
        rows = []
        for net, suffix in ((subject.net, ""), (subject.untrained, "_untrained")):
            weights = first_weights(net).detach().cpu().double()
            numbers = self._of_weights(weights)
            rows += [_exact(name + suffix, value, len(weights)) for name, value in numbers.items()]
            x, y = subject.examples
            for site, features in (("pooled", _pooled(net, x)), ("output", logits(net, x))):
                share = within_classes(features.double(), y)
                rows.append(_exact("within_orbits" + suffix, share, len(y), site))
        return rows

    def _of_weights(self, weights: Float[Tensor, "unit input"]) -> dict[str, float]:
        if weights.shape[1] != 2:
            raise ValueError(
                f"gram_symmetry orders weights by their angle and these have {weights.shape[1]} "
                "coordinates instead of 2; use data=orbits"
            )
        g = gram(weights)
        norms = weights.norm(dim=1)
        largest = float(norms.max())
        places, counts = merge_coinciding(g, self.coincide * largest)
        found = automorphisms(places, self.tolerance * largest**2, colours=counts)
        return {
            "sorted_gram_penalty": float(sorted_gram_penalty(weights)),
            "sorted_gram_error": sorted_gram_error(g),
            "circulant_error": planar_circulant_error(weights),
            "pairing_error": pairing_error(places),
            "norm": float(norms.square().mean().sqrt()),
            "norm_ratio": float(norms.min()) / largest if largest else 0.0,
            "places": float(len(counts)),
            "anisotropy": anisotropy(weights),
            "automorphisms": float(len(found)),
            "group": float(is_group(found)),
            "transitive": float(is_transitive(found)),
            "cyclic": float(is_cyclic(found)),
        }


def within_classes(features: Float[Tensor, "example feature"], labels: Tensor) -> float:
    """The sum of squares around the class means over that around the mean; 0 if nothing varies."""
    around_mean = (features - features.mean(0)).square().sum()
    within = sum(
        (of_class - of_class.mean(0)).square().sum()
        for of_class in (features[labels == label] for label in labels.unique())
    )
    return float(within / around_mean) if around_mean > 0 else 0.0


def _pooled(net: nn.Module, x: Float[Tensor, "example input"]) -> Float[Tensor, "example 1"]:
    """The mean over the hidden units of ReLU(Wx + b): the invariant that an orbit of units has."""
    layer = next(module for module in net.modules() if isinstance(module, nn.Linear))
    with evaluating(net):
        return torch.relu(layer(x.to(device_of(net)))).mean(1, keepdim=True).cpu()


def _exact(metric: str, value: float, n: int, site: str = "") -> Row:
    return row(metric, Interval.exact(value), n, site=site, note="exact")
