"""How far a network's layers move when its input is transformed, beside what they could have moved.

The distance ratio ρ of notes/probes.md §4.1: the mean Euclidean distance between a layer's
activations for an image and for its own transformed copy, over the mean distance between two
images. 0 is exact invariance, 1 means that the transformation moves the layer as far as another
image does; it can exceed 1. Pairs of images are disjoint, and the bootstrap resamples pairs, never
image × angle.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from udl_lab.activations.recorder import activations
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.pairing import disjoint_pairs, same_class_pairs
from udl_lab.probes.statistics import Interval, proportion
from udl_lab.probes.subject import Subject, device_of, evaluating, logits
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.symmetry.actions import Action

PIXELS = "pixels"  # the input itself, as the zeroth layer: what the network was given to undo

Transform = Callable[[Tensor], Tensor]


class Invariance:
    """ρ of every layer and the accuracy, for each element of an action and on average.

    Rows per layer, and for the input as the layer `pixels`:

    - `rho`: against another image, by element and in the mean over elements;
    - `rho_same_class`: against another image of the same class, a stricter control;
    - `rho_round_trip`: moved by the transformation and its inverse, which for an exact group action
      is 0: the share of `rho` that resampling or lost pixels explain;
    - `rho_untrained`: the same network before training, against its own other-image distance.

    The second and the last are means over elements only. Where the control is 0 there is no ratio,
    and one row `<name>_undefined` stands in its place (a dead layer tells no two images apart).

    The accuracy is that on upright images (element `identity`), on the copies by each element, and
    in the mean over elements, where the image, not the copy, is the unit of the interval.
    """

    def __init__(
        self,
        action: Action,
        sites: Sequence[str] = ("*",),
        n_images: Positive | None = 2000,
        n_boot: Positive = 1000,
        batch_size: Positive = 250,
    ) -> None:
        """Say what is measured.

        Args:
            action: the transformations.
            sites: layers, as patterns for the recorder.
            n_images: how many of the examples; all of them if `None`.
            n_boot: resamples behind each interval of a ratio or a mean over elements.
            batch_size: images whose activations are held at once; results differ by rounding only.
        """
        self.action = action
        self.sites = list(sites)
        self.n_images = n_images
        self.n_boot = n_boot
        self.batch_size = batch_size

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on a sample of the examples.

        Raises:
            ValueError: for fewer than two images or none that share a class, for a layer whose
                output has no row per image, and for activations that are not finite.
        """
        x, y = subject.sample(self.n_images)
        pairs = disjoint_pairs(len(y), generator(0, "probe pairs"))
        alike = same_class_pairs(y, generator(0, "probe pairs of a class"))
        copies = self._each(self.action.apply, subject.background)
        round_trips = self._each(self.action.round_trip, subject.background)
        moved = self._moved(subject.net, x, copies)
        returned = self._moved(subject.net, x, round_trips)
        untrained = self._moved(subject.untrained, x, copies)
        other = self._between(subject.net, x, pairs)
        same = self._between(subject.net, x, alike)
        other_untrained = self._between(subject.untrained, x, pairs)
        rows = self._accuracy(subject.net, x, y, copies)
        for s in moved:
            rows += self._ratios("rho", s, moved[s], other[s], pairs, by_element=True)
            rows += self._ratios("rho_same_class", s, moved[s], same[s], alike)
            rows += self._ratios("rho_round_trip", s, returned[s], other[s], pairs, by_element=True)
            rows += self._ratios("rho_untrained", s, untrained[s], other_untrained[s], pairs)
        return rows

    def _each(self, transform: Callable[..., Tensor], background: float) -> list[Transform]:
        """A way to transform images for each element."""
        return [partial(transform, element=g, fill=background) for g in self.action.elements()]

    def _moved(
        self, net: nn.Module, x: Tensor, transforms: Sequence[Transform]
    ) -> dict[str, Float[np.ndarray, "image element"]]:
        """How far each transformation moves each image, in every layer.

        The images of a batch are transformed where they are, so each meets its own copy, and their
        own activations serve all transformations.
        """
        batches = []
        with evaluating(net):
            for images in x.split(self.batch_size):
                own = _layers(net, images, self.sites)
                columns = [_apart(own, _layers(net, t(images), self.sites)) for t in transforms]
                batches.append({s: np.stack([c[s] for c in columns], axis=1) for s in own})
        return _joined(batches)

    def _between(
        self, net: nn.Module, x: Tensor, pairs: Int[Tensor, "pair 2"]
    ) -> dict[str, Float[np.ndarray, " pair"]]:
        """How far apart the two images of each pair are, in every layer."""
        batches = []
        with evaluating(net):
            for first, second in (batch.unbind(1) for batch in pairs.split(self.batch_size)):
                one, another = (_layers(net, x[i], self.sites) for i in (first, second))
                batches.append(_apart(one, another))
        return _joined(batches)

    def _ratios(
        self,
        metric: str,
        site: str,
        moved: Float[np.ndarray, "image element"],
        control: Float[np.ndarray, " pair"],
        pairs: Int[Tensor, "pair 2"],
        by_element: bool = False,
    ) -> list[Row]:
        """One row for the mean over elements and, if asked, one for each element."""
        if not control.sum():
            note = "no ratio: the layer tells no two of these images apart"
            found = Interval(1.0, 1.0, 1.0)
            return [row(f"{metric}_undefined", found, len(pairs), site=site, note=note)]
        of_pairs = moved[pairs.numpy()].mean(axis=1)  # pair × element
        columns = of_pairs.mean(axis=1, keepdims=True)
        labels, notes = [""], [f"interpolation {self.action.interpolation}"]
        if by_element:
            columns = np.concatenate([columns, of_pairs], axis=1)
            elements = self.action.elements()
            labels += [self.action.label(g) for g in elements]
            notes += ["pixels move whole" if self.action.exact(g) else notes[0] for g in elements]
        intervals = ratio_of_sums(columns, control, n_boot=self.n_boot)
        return [
            row(metric, interval, len(pairs), site=site, element=label, note=note)
            for interval, label, note in zip(intervals, labels, notes, strict=True)
        ]

    def _accuracy(
        self, net: nn.Module, x: Tensor, y: Tensor, copies: Sequence[Transform]
    ) -> list[Row]:
        """Accuracy over all copies, on upright images, and on each element's copies."""
        every = chain([x], (transform(x) for transform in copies))  # one at a time in memory
        hits = [(logits(net, images).argmax(1) == y).numpy() for images in every]
        labels = ["identity", *(self.action.label(g) for g in self.action.elements())]
        # One number an image: its copies are not independent.
        share = np.mean(hits[1:], axis=0)
        [over_copies] = ratio_of_sums(share[:, None], np.ones(len(y)), n_boot=self.n_boot)
        return [
            row("accuracy", over_copies, len(y)),
            *(
                row("accuracy", proportion(int(hit.sum()), len(y)), len(y), element=label)
                for hit, label in zip(hits, labels, strict=True)
            ),
        ]


def _layers(net: nn.Module, images: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
    """The images and what every layer makes of them, in float64."""
    images = images.to(device_of(net))
    # A copy for the network, whose first layer may work in place.
    found = activations(net, images.clone(), sites=sites)
    if PIXELS in found:
        raise ValueError(f"a layer is called {PIXELS!r}, as the input is in the table; rename it")
    for site, layer in found.items():
        if layer.shape[:1] != images.shape[:1]:
            raise ValueError(
                f"{site} gave {tuple(layer.shape)} for {len(images)} images, which is no row per "
                "image; leave it out of sites"
            )
    return {site: layer.double() for site, layer in {PIXELS: images, **found}.items()}


def _apart(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor]
) -> dict[str, Float[np.ndarray, " image"]]:
    """Euclidean distance between the activations a[i] and b[i], over all units of a layer."""
    distances = {}
    for site in a:
        difference = (a[site] - b[site]).unsqueeze(-1)  # a layer may be one number an image
        units = tuple(range(1, difference.ndim))
        distances[site] = torch.linalg.vector_norm(difference, dim=units).cpu().numpy()
    return distances


def _joined(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {site: np.concatenate([batch[site] for batch in batches]) for site in batches[0]}
