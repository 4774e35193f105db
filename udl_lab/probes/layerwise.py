"""A symmetry, layer by layer: how invariant, how equivariant, and under which action.

One walk over whole orbits (`orbits.py`) feeds all the measures of a layer, for the trained network
and for the untrained one as control, in float64: what an exact symmetry leaves is then 1e-16, and a
broken one does not move. Rows per layer, and for the input as the layer `pixels`:

- `index`: the share of variance between orbits, 1 for an invariant layer (`index.py`), with
  `index_degenerate`, the share of constant units, and `index_untrained`;
- `moved_p`: the p-value of "moves as far as another image does", a sign-flip test over image pairs
  of `log d - log c`, after Holm over the layers;
- by element, as relative errors: `bracket_sorted` ≤ `bracket_permutation` (held out) ≤
  `bracket_known`, with `bracket_control` (the permutation, another image), `bracket_sorted_control`
  and the same of the untrained network (`…_untrained`);
- by element: `cka`, debiased, with `cka_untrained`;
- for a whole group of exact elements: `certificate` (1 if granted), `certificate_error`,
  `certificate_law`, `certificate_gap`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from udl_lab.activations.costs import ChannelCost
from udl_lab.activations.distances import (
    KnownAction,
    PairedDistance,
    PairedDistanceResult,
    SortedDistance,
)
from udl_lab.activations.protocol import Reducer
from udl_lab.activations.reservoir import Reservoir
from udl_lab.activations.variance import OrbitVariance
from udl_lab.probes.alignment import debiased_cka
from udl_lab.probes.bracket import relative, shared_permutations
from udl_lab.probes.certificate import certify
from udl_lab.probes.geometry import geometry
from udl_lab.probes.index import invariance_index
from udl_lab.probes.layer_action import LayerAction, input_geometry
from udl_lab.probes.orbits import PIXELS, in_float64, walk_orbits
from udl_lab.probes.pairing import disjoint_pairs
from udl_lab.probes.statistics import Interval, holm, sign_flip_test
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.symmetry.actions import Action

Metric = Literal["index", "bracket", "cka", "certificate"]
ALL = ("index", "bracket", "cka", "certificate")

N_BLOCKS = 32  # of image pairs, the clusters of a jackknife
_CHANNELS = 256  # a cost matrix of more channels, for each element and block, is too large to keep


class Layerwise:
    """The measures of this file's heading, of any network under any action."""

    def __init__(
        self,
        action: Action,
        sites: Sequence[str] = ("*",),
        metrics: Sequence[Metric] = ALL,
        n_images: Positive | None = 1000,
        n_cka: Positive = 256,
        n_boot: Positive = 1000,
        batch_size: Positive = 64,
        undivided: Literal["refuse", "skip"] = "refuse",
    ) -> None:
        """Say what is measured.

        Args:
            action: the transformations.
            sites: layers, as patterns for the recorder.
            metrics: which of the measures.
            n_images: how many of the examples; all of them if `None`.
            n_cka: how many of them enter the Gram matrices of `cka`.
            n_boot: resamples behind each interval of a ratio.
            batch_size: images, without their copies, that are walked at once; results differ by
                rounding only.
            undivided: what to do where a layer's stride does not divide a shift, which then has no
                action on the layer: refuse to measure, or leave that layer's rows out.
        """
        self.action = action
        self.sites = list(sites)
        self.metrics = list(metrics)
        self.n_images = n_images
        self.n_cka = n_cka
        self.n_boot = n_boot
        self.batch_size = batch_size
        self.undivided: Literal["refuse", "skip"] = undivided

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure the network and its untrained twin on a sample of the examples.

        Raises:
            ValueError: for fewer than four images, a layer without a row per image, or a shift that
                a layer's stride does not divide (unless such are to be skipped).
        """
        return self.measure(subject, {"": subject.net, "_untrained": subject.untrained})

    def measure(
        self, subject: Subject, nets: Mapping[str, nn.Module], shared: bool = False
    ) -> list[Row]:
        """Measure some networks on the subject's examples.

        Args:
            subject: its examples and their background are used.
            nets: the first is also tested against other images; each by what its rows' metrics end
                in. A network that is still learning has no untrained twin at hand.
            shared: see `walk_orbits`.
        """
        x, y = subject.sample(self.n_images)
        pairs = disjoint_pairs(len(y), generator(0, "probe pairs"))
        if len(pairs) < 2:
            raise ValueError(f"{len(y)} images are too few to fit and to test on; give at least 4")
        images = x[pairs.flatten()].double()
        walked = {
            suffix: self._walk(net, images, subject.background, shared)
            for suffix, net in nets.items()
        }
        first = next(iter(walked.values()))
        rows = []
        for site in first:
            for suffix, layers in walked.items():
                rows += self._rows(site, layers[site], suffix)
        return rows + self._tests(first)

    def _walk(
        self, net: nn.Module, images: Tensor, background: float, shared: bool
    ) -> dict[str, "Layer"]:
        """The network's layers, each with the results of its reducers."""
        net = in_float64(net)
        places = geometry(net, tuple(images.shape[1:]))
        places[PIXELS] = input_geometry(images.shape[1:])

        def reducers(site: str) -> Mapping[str, Reducer]:
            known = LayerAction(site, self.action, places.get(site), background, self.undivided)
            return self._reducers(known, len(images) // 2)

        found = walk_orbits(
            net,
            images,
            [
                partial(self.action.apply, element=g, fill=background)
                for g in self.action.elements()
            ],
            self.sites,
            reducers,
            max(1, self.batch_size // 2),
            shared,
        )
        return {
            site: Layer({name: reducer.result() for name, reducer in reducers.items()})
            for site, reducers in found.items()
        }

    def _reducers(self, known: LayerAction, n_pairs: int) -> Mapping[str, Reducer]:
        reducers: dict[str, Reducer] = {"paired": PairedDistance()}
        if "index" in self.metrics:
            reducers["variance"] = OrbitVariance(min(N_BLOCKS, n_pairs), n_pairs)
        if "cka" in self.metrics:
            reducers["reservoir"] = Reservoir(min(self.n_cka, 2 * n_pairs))
        if {"bracket", "certificate"} & set(self.metrics):
            reducers["sorted"] = SortedDistance()
            carry = known.carry
            if carry is not None:
                reducers["known"] = KnownAction(carry, known.interior)
                if self.action.invertible:
                    cost = ChannelCost(carry, min(N_BLOCKS, n_pairs), n_pairs, _CHANNELS)
                    reducers["cost"] = cost
        return reducers

    def _rows(self, site: str, layer: "Layer", suffix: str) -> list[Row]:
        rows = []
        if "variance" in layer:
            rows += self._index(site, layer, suffix)
        if "sorted" in layer and "bracket" in self.metrics:
            rows += self._bracket(site, layer, suffix)
        if "reservoir" in layer:
            rows += self._cka(site, layer, suffix)
        if layer.get("cost") and "certificate" in self.metrics and self._certifiable():
            rows += self._certificate(site, layer, suffix)
        return rows

    def _index(self, site: str, layer: "Layer", suffix: str) -> list[Row]:
        whole = self.action.is_group
        n_elements = 1 + len(self.action.elements())
        found = invariance_index(layer["variance"], n_elements, whole)
        note = "whole group" if whole else "a sample of the orbit, ANOVA estimate"
        share = Interval.exact(found.degenerate)
        rows = [
            row(f"index{suffix}", found.index, found.n, site=site, note=note),
            row(f"index{suffix}_degenerate", share, found.n, site=site, note="constant units"),
        ]
        shape = layer["variance"].unit_shape
        if shape and shape[0] <= _CHANNELS and not suffix:
            rows += [
                row("index_channel", Interval.alone(v), found.n, site=site, element=str(c))
                for c, v in enumerate(map(float, found.by_channel(shape[0])))
            ]
        return rows

    def _bracket(self, site: str, layer: "Layer", suffix: str) -> list[Row]:
        """Errors relative to the norm, each in root mean square over the second half of the pairs.

        The permutation is fitted on the first half.
        """
        labels = [self.action.label(g) for g in self.action.elements()]
        n_pairs = len(layer["sorted"].other)
        half = n_pairs // 2
        apart = layer["sorted"].norm ** 2
        rows = []

        def add(metric: str, element: int, found: Interval, note: str) -> None:
            name = f"bracket_{metric}{suffix}"
            if np.isnan(found.estimate):
                return  # no action on this layer, or nothing in it
            n = n_pairs - half
            rows.append(row(name, found, n, site=site, element=labels[element], note=note))

        cost = layer.get("cost")
        permutations = shared_permutations(cost, self.n_boot) if cost else []
        for e in range(len(labels)):
            norms = _of_pairs(apart[:, e])[half:]
            moved = _of_pairs(layer["sorted"].moved[:, e] ** 2)[half:]
            other = 2 * layer["sorted"].other_moved[half:, e] ** 2
            add("sorted", e, relative(moved, norms, self.n_boot), "a permutation for each image")
            add("sorted_control", e, relative(other, norms, self.n_boot), "another image")
            if permutations:
                add("permutation", e, permutations[e].error, "one for all, held out")
                add("control", e, permutations[e].control, "the same, another image")
            if "known" in layer:
                error = _of_pairs(layer["known"].error[:, e] ** 2)[half:]
                norm = _of_pairs(layer["known"].norm[:, e] ** 2)[half:]
                add("known", e, relative(error, norm, self.n_boot), "the known action")
        return rows

    def _cka(self, site: str, layer: "Layer", suffix: str) -> list[Row]:
        own, *copies = torch.from_numpy(layer["reservoir"].features)
        return [
            row(
                f"cka{suffix}",
                Interval.alone(float(debiased_cka(own, copy))),
                len(own),
                site=site,
                element=self.action.label(g),
                note="debiased, linear",
            )
            for g, copy in zip(self.action.elements(), copies, strict=True)
        ]

    def _certifiable(self) -> bool:
        return self.action.is_group and all(self.action.exact(g) for g in self.action.elements())

    def _certificate(self, site: str, layer: "Layer", suffix: str) -> list[Row]:
        permutations = shared_permutations(layer["cost"], self.n_boot)
        elements = self.action.elements()
        found = certify(elements, permutations, self.action.compose, self.action.identity)
        n_pairs = len(layer["sorted"].other)
        numbers = {
            "certificate": Interval.exact(float(found.granted)),
            "certificate_error": found.error,
            "certificate_law": Interval.exact(found.law),
            "certificate_gap": Interval.exact(float(np.min([p.gap for p in permutations]))),
        }
        return [
            row(f"{name}{suffix}", v, n_pairs - n_pairs // 2, site=site, note=found.representation)
            for name, v in numbers.items()
        ]

    def _tests(self, layers: Mapping[str, "Layer"]) -> list[Row]:
        """Whether each layer moves as far as another image would, corrected for their number."""
        found = {site: _sign_flip(layer["paired"]) for site, layer in layers.items()}
        found = {site: p for site, p in found.items() if p is not None}
        if not found:
            return []
        n = len(next(iter(layers.values()))["paired"].other)
        note = "sign-flip test over image pairs, Holm over layers"
        return [
            row("moved_p", Interval.exact(p), n, site=site, note=note)
            for site, p in zip(found, map(float, holm(np.array(list(found.values())))), strict=True)
        ]


class Layer(dict[str, Any]):
    """The results of a layer's reducers, by name."""


def _of_pairs(values: np.ndarray) -> np.ndarray:
    """Sums over the two images of each pair."""
    return values.reshape(-1, 2).sum(axis=1)


def _sign_flip(paired: PairedDistanceResult) -> float | None:
    """The p-value that an image's own copies are as far from it as another image is."""
    moved = paired.moved.mean(axis=1).reshape(-1, 2).mean(axis=1)
    other = paired.other
    if not np.any(moved) and not np.any(other):
        return None
    if np.all(moved > 0) and np.all(other > 0):
        return sign_flip_test(np.log(moved) - np.log(other))
    return sign_flip_test(moved - other)  # an exactly invariant layer has no logarithm
