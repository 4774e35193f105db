"""How far a network's layers move when its input is transformed, beside what they could have moved.

The distance ratio ρ of notes/probes.md §4.1: the mean Euclidean distance between a layer's
activations for an image and for its own transformed copy, over the mean distance between two
images. 0 is exact invariance, 1 means that the transformation moves the layer as far as another
image does; it can exceed 1. Pairs of images are disjoint, and the bootstrap resamples pairs, never
image × angle.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.activations.distances import PairedDistance, PairedDistanceResult
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.orbits import Transform, walk_orbits
from udl_lab.probes.pairing import disjoint_pairs, same_class_pairs
from udl_lab.probes.statistics import Interval, proportion
from udl_lab.probes.subject import Subject, logits
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.symmetry.actions import Action


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
            batch_size: images and copies that are walked at once; results differ by rounding only.
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
        trained = self._walk(subject.net, x[pairs.flatten()], [*copies, *round_trips])
        untrained = self._walk(subject.untrained, x[pairs.flatten()], copies)
        same = self._walk(subject.net, x[alike.flatten()], copies)
        rows = self._accuracy(subject.net, x, y, copies)
        for s, here in trained.items():
            moved, returned = np.split(here.moved, 2, axis=1)
            rows += self._ratios("rho", s, moved, here.other, by_element=True)
            rows += self._ratios("rho_same_class", s, same[s].moved, same[s].other)
            rows += self._ratios("rho_round_trip", s, returned, here.other, by_element=True)
            rows += self._ratios("rho_untrained", s, untrained[s].moved, untrained[s].other)
        return rows

    def _each(self, transform: Callable[..., Tensor], background: float) -> list[Transform]:
        """A way to transform images for each element."""
        return [partial(transform, element=g, fill=background) for g in self.action.elements()]

    def _walk(
        self, net: nn.Module, partners: Tensor, transforms: Sequence[Transform]
    ) -> dict[str, PairedDistanceResult]:
        """How far each transformation moves each image in every layer, and partners from another.

        Each image meets its own copies, in one forward.
        """
        n_pairs = max(1, self.batch_size // (2 * (1 + len(transforms))))
        found = walk_orbits(
            net, partners, transforms, self.sites, lambda site: {"d": PairedDistance()}, n_pairs
        )
        return {site: reducers["d"].result() for site, reducers in found.items()}

    def _ratios(
        self,
        metric: str,
        site: str,
        moved: Float[np.ndarray, "image element"],
        control: Float[np.ndarray, " pair"],
        by_element: bool = False,
    ) -> list[Row]:
        """One row for the mean over elements and, if asked, one for each element."""
        if not control.sum():
            note = "no ratio: the layer tells no two of these images apart"
            found = Interval(1.0, 1.0, 1.0)
            return [row(f"{metric}_undefined", found, len(control), site=site, note=note)]
        of_pairs = moved.reshape(len(control), 2, -1).mean(axis=1)  # pair × element
        columns = of_pairs.mean(axis=1, keepdims=True)
        labels, notes = [""], [f"interpolation {self.action.interpolation}"]
        if by_element:
            columns = np.concatenate([columns, of_pairs], axis=1)
            elements = self.action.elements()
            labels += [self.action.label(g) for g in elements]
            notes += ["pixels move whole" if self.action.exact(g) else notes[0] for g in elements]
        intervals = ratio_of_sums(columns, control, n_boot=self.n_boot)
        return [
            row(metric, interval, len(control), site=site, element=label, note=note)
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
