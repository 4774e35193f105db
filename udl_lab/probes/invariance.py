"""How far a network's layers move when its input is transformed, beside what they could have moved.

The distance ρ of notes/probes.md §4.1: the mean Euclidean distance between a layer's activations
for an image and for its transformed copy, over the mean distance between two images. 0 is exact
invariance, 1 means that the transformation moves the layer as far as another image does; it can
exceed 1. Pairs of images are disjoint, and the bootstrap resamples pairs, never image × angle.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from udl_lab.activations.recorder import activations
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.pairing import disjoint_pairs, same_class_pairs
from udl_lab.probes.statistics import mean, proportion
from udl_lab.probes.subject import Subject, logits
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.symmetry.actions import Action

PIXELS = "pixels"  # the input itself, as the zeroth layer: what the network was given to undo

Distances = dict[str, Float[np.ndarray, "image element"]]


class Invariance:
    """ρ of every layer and the accuracy, for each element of an action and on average.

    Rows per layer:

    - `rho`: against another image, by element and in the mean over elements;
    - `rho_same_class`: against another image of the same class, a stricter control;
    - `rho_round_trip`: moved by the transformation and its inverse, which for an exact group action
      is 0: the share of `rho` that resampling or lost pixels explain;
    - `rho_untrained`: the same network before training, against its own other-image distance.
    """

    def __init__(
        self,
        action: Action,
        sites: Sequence[str] = ("*",),
        n_images: Positive | None = 2000,
        n_boot: Positive = 1000,
    ) -> None:
        """Say what is measured.

        Args:
            action: the transformations.
            sites: layers, as patterns for the recorder.
            n_images: how many of the examples; all of them if `None`.
            n_boot: resamples behind each interval.
        """
        self.action = action
        self.sites = list(sites)
        self.n_images = n_images
        self.n_boot = n_boot

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on a sample of the examples."""
        x, y = subject.sample(self.n_images)
        pairs = disjoint_pairs(len(y), generator(0, "probe pairs"))
        alike = same_class_pairs(y, generator(0, "probe pairs of a class"))
        moved = self._distances(subject.net, self._images(x, subject.background), x)
        returned = self._distances(subject.net, self._round_trips(x, subject.background), x)
        untrained = self._distances(subject.untrained, self._images(x, subject.background), x)
        other = _pair_distances(subject.net, x, pairs, self.sites)
        same = _pair_distances(subject.net, x, alike, self.sites)
        other_untrained = _pair_distances(subject.untrained, x, pairs, self.sites)
        rows = self._accuracy(subject, x, y)
        for site in moved:
            rows += self._ratios("rho", site, moved, other, pairs, by_element=True)
            rows += self._ratios("rho_same_class", site, moved, same, alike)
            rows += self._ratios("rho_round_trip", site, returned, other, pairs, by_element=True)
            rows += self._ratios("rho_untrained", site, untrained, other_untrained, pairs)
        return rows

    def _images(self, x: Tensor, background: float) -> Iterable[Tensor]:
        return (self.action.apply(x, g, background) for g in self.action.elements())

    def _round_trips(self, x: Tensor, background: float) -> Iterable[Tensor]:
        return (self.action.round_trip(x, g, background) for g in self.action.elements())

    def _distances(self, net: nn.Module, images: Iterable[Tensor], x: Tensor) -> Distances:
        """How far each layer moves for each image, an element of the action a column."""
        columns = [_movement(net, x, image, self.sites) for image in images]
        return {site: np.stack([column[site] for column in columns], axis=1) for site in columns[0]}

    def _ratios(
        self,
        metric: str,
        site: str,
        moved: Distances,
        controls: dict[str, Float[np.ndarray, " pair"]],
        pairs: Int[Tensor, "pair 2"],
        by_element: bool = False,
    ) -> list[Row]:
        """One row for the mean over elements and, if asked, one for each element."""
        control = controls[site]
        if not control.sum():
            return []  # a dead layer: it tells no two images apart, so no ratio exists
        of_pairs = moved[site][pairs.numpy()].mean(axis=1)  # pair × element
        columns = np.concatenate([of_pairs.mean(axis=1, keepdims=True), of_pairs], axis=1)
        if not by_element:
            columns = columns[:, :1]
        intervals = ratio_of_sums(columns, control, n_boot=self.n_boot)
        elements = ["", *map(self.action.label, self.action.elements())]
        note = f"interpolation {self.action.interpolation}"
        return [
            row(metric, interval, len(pairs), site=site, element=element, note=note)
            for interval, element in zip(intervals, elements[: len(intervals)], strict=True)
        ]

    def _accuracy(self, subject: Subject, x: Tensor, y: Tensor) -> list[Row]:
        """Accuracy on upright images, on each transformed copy, and over all copies."""
        upright = (logits(subject.net, x).argmax(1) == y).numpy()
        rows = [row("accuracy", proportion(int(upright.sum()), len(y)), len(y), element="identity")]
        hits = []
        for element, image in zip(
            self.action.elements(), self._images(x, subject.background), strict=True
        ):
            hit = (logits(subject.net, image).argmax(1) == y).numpy()
            interval = proportion(int(hit.sum()), len(y))
            rows.append(row("accuracy", interval, len(y), element=self.action.label(element)))
            hits.append(hit)
        share = np.mean(hits, axis=0)  # one number an image: its copies are not independent
        return [row("accuracy", mean(share), len(y)), *rows]


def _movement(
    net: nn.Module, a: Tensor, b: Tensor, sites: Sequence[str], batch_size: int = 250
) -> dict[str, Float[np.ndarray, " image"]]:
    """Euclidean distance between the activations of a[i] and b[i], in every layer and the input.

    Both go through the network in one batch, so that no activation outlives it.
    """
    device = next(net.parameters()).device
    parts = []
    training = net.training
    net.eval()
    try:
        for start in range(0, len(a), batch_size):
            window = slice(start, start + batch_size)
            both = torch.cat([a[window], b[window]]).to(device)
            with torch.no_grad():
                layers = {PIXELS: both, **activations(net, both, sites=sites)}
            parts.append({site: _halves_apart(layer) for site, layer in layers.items()})
    finally:
        net.train(training)
    return {site: np.concatenate([part[site] for part in parts]) for site in parts[0]}


def _halves_apart(layer: Tensor) -> Float[np.ndarray, " image"]:
    first, second = layer.flatten(1).double().chunk(2)
    return torch.linalg.vector_norm(first - second, dim=1).cpu().numpy()


def _pair_distances(
    net: nn.Module, x: Tensor, pairs: Int[Tensor, "pair 2"], sites: Sequence[str]
) -> dict[str, Float[np.ndarray, " pair"]]:
    return _movement(net, x[pairs[:, 0]], x[pairs[:, 1]], sites)
