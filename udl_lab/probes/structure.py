"""Whether a small error is rounding or a broken symmetry: two ways to tell.

In float64 a true symmetry misses by some 1e-16 where in float32 it missed by 1e-7; a broken one
does not move. And with whole numbers for weights and inputs all sums and products are exact in
floating point, so that a structural symmetry holds bit for bit, in whatever order the sums are
taken (notes/probes.md §4.3).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.activations.distances import KnownAction
from udl_lab.activations.protocol import Reducer
from udl_lab.probes.geometry import geometry
from udl_lab.probes.layer_action import LayerAction, input_geometry
from udl_lab.probes.orbits import PIXELS, in_float64, walk_orbits
from udl_lab.randomness import generator
from udl_lab.symmetry.action import Action

_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10}  # far over what some 1e4 sums leave


@dataclass(frozen=True)
class Precision:
    """The worst relative error of a layer against its known action, in two precisions."""

    float32: float
    float64: float

    @property
    def verdict(self) -> Literal["structural", "broken", "unknown"]:
        """Structural: an error of rounding in both. Broken: one that float64 does not mend."""
        if np.isnan(self.float64):
            return "unknown"
        small = self.float32 < _ROUNDING[torch.float32] and self.float64 < _ROUNDING[torch.float64]
        return "structural" if small else "broken"


def in_both_precisions(
    net: nn.Module,
    x: Float[Tensor, " image *shape"],
    action: Action[Any],
    sites: Sequence[str] = ("*",),
    fill: float = 0.0,
) -> dict[str, Precision]:
    """Each layer's error against the known action, in float32 and in float64.

    Elements without an action on a layer are left out; a layer with none is `unknown`.

    Raises:
        ValueError: as `walk_orbits`.
    """
    single = copy.deepcopy(net).float()
    errors = [
        worst_errors(single, x.float(), action, sites, fill),
        worst_errors(in_float64(net), x.double(), action, sites, fill),
    ]
    return {site: Precision(*(error[site] for error in errors)) for site in errors[0]}


def worst_errors(
    net: nn.Module,
    x: Float[Tensor, " image *shape"],
    action: Action[Any],
    sites: Sequence[str] = ("*",),
    fill: float = 0.0,
) -> dict[str, float]:
    """The largest `|f(g x) - R_g f(x)| / |R_g f(x)|` over images and elements, by layer."""
    places = {**geometry(net, tuple(x.shape[1:])), PIXELS: input_geometry(x.shape[1:])}

    def reducers(site: str) -> dict[str, Reducer]:
        known = LayerAction(site, action, places.get(site), fill, "skip")
        return {"known": KnownAction(known.carry or (lambda layer, e: None), known.interior)}

    transforms = [partial(action.apply, element=g, fill=fill) for g in action.elements()]
    found = walk_orbits(net, x, transforms, sites, reducers, 16)
    worst = {}
    for site, of_site in found.items():
        result = of_site["known"].result()
        known = ~np.isnan(result.error)
        # Of a layer that is 0 for some image the error itself is taken: 0 or not.
        scale = np.where(result.norm[known] > 0, result.norm[known], 1.0)
        worst[site] = float(np.max(result.error[known] / scale)) if known.any() else np.nan
    return worst


def in_whole_numbers(net: nn.Module, largest: int = 2, seed: int = 0) -> nn.Module:
    """A copy in float64 whose weights are small whole numbers, for a bitwise test.

    Exact for sums, products, maxima and ReLU as long as no number passes 2^53; means over powers of
    two are exact as well. Not for tanh, or a mean over another number.
    """
    lifted = in_float64(net)
    draws = generator(seed, "whole numbers")
    with torch.no_grad():
        for weight in lifted.parameters():
            weight.copy_(torch.randint(-largest, largest + 1, weight.shape, generator=draws))
    return lifted
