"""Images and their transformed copies, walked through a network once, with nothing kept but sums.

The engine of the layer-wise measures. A batch holds whole orbits (each image beside all its copies)
and whole pairs (each image beside the other image that is its control), so that no activation
outlives its batch: reducers see it inside the forward hook. Several processes may share a walk.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.activations.merging import merge_over_processes
from udl_lab.activations.protocol import Reducer
from udl_lab.activations.recorder import Site, record
from udl_lab.probes.subject import device_of, evaluating

PIXELS = "pixels"  # the input itself, as the zeroth layer: what the network was given to undo

Transform = Callable[[Tensor], Tensor]
Reducers = Callable[[str], Mapping[str, Reducer]]


def walk_orbits(
    net: nn.Module,
    x: Float[Tensor, " image *shape"],
    transforms: Sequence[Transform],
    sites: Sequence[str],
    reducers: Reducers,
    pairs_per_batch: int,
    shared: bool = False,
) -> dict[str, Mapping[str, Reducer]]:
    """Give every layer's activations of all orbits to its reducers.

    Args:
        net: in any mode; it is evaluated, without gradients.
        x: the images, partners next to each other: 0 and 1, 2 and 3, … An odd last one is left out.
        transforms: each makes a copy of a batch. The identity is not among them; it is element 0.
        sites: layers, as patterns for the recorder; `relu#1` is the second call of `relu`, which
            must be named where a layer is called several times. A glob takes all calls.
        reducers: makes the reducers of a layer, by name; it is asked once a layer.
        pairs_per_batch: how many pairs are walked at once; results differ by rounding only.
        shared: each process of a distributed run takes a share of the pairs, and the reducers are
            merged, so all of them must call. Otherwise this process walks all of them, alone.

    Returns:
        The reducers of every layer, the input (`pixels`) first, in order of execution.

    Raises:
        ValueError: for fewer pairs than processes, a layer called `pixels`, the bare name of one
            that is called several times, or one whose output has no row per image.
    """
    n_pairs = len(x) // 2
    if not n_pairs:
        raise ValueError(f"{len(x)} images make no pair; give at least 2")
    found: dict[str, Mapping[str, Reducer]] = {}
    ids = torch.arange(0)
    n_elements = 1 + len(transforms)

    def reduce(name: str, layer: Tensor) -> None:
        if layer.ndim == 0 or len(layer) != n_elements * len(ids):
            raise ValueError(
                f"{name} gave {tuple(layer.shape)} for {n_elements * len(ids)} images, which is no "
                "row per image; leave it out of sites"
            )
        if name not in found:
            found[name] = reducers(name)
        orbit = layer.reshape(n_elements, len(ids), *layer.shape[1:])
        for reducer in found[name].values():
            reducer.update(orbit, ids)

    def of_layer(site: Site, layer: Tensor) -> None:
        if site in names:
            reduce(names[site], layer)

    device = device_of(net)
    names = _names(net, x[:2].to(device), sites)
    patterns = [pattern.partition("#")[0] for pattern in sites]
    with evaluating(net), record(net, patterns, copy="guard", reduce=of_layer) as recording:
        for first, last in _batches(n_pairs, pairs_per_batch, shared):
            images = x[2 * first : 2 * last].to(device)
            ids = torch.arange(2 * first, 2 * last)
            orbit = torch.cat([images, *(transform(images) for transform in transforms)])
            reduce(PIXELS, orbit)
            recording.run(orbit)
    if not shared:
        return found
    return {
        name: {key: merge_over_processes(reducer) for key, reducer in of_site.items()}
        for name, of_site in found.items()
    }


def _names(net: nn.Module, images: Tensor, sites: Sequence[str]) -> dict[Site, str]:
    """What the table calls each site that is asked for: the call stands there if there are several.

    Raises:
        ValueError: for the bare name of a layer that is called several times, for a call that is
            not made, and for a layer called `pixels`.
    """
    patterns = [pattern.partition("#") for pattern in sites]
    seen: list[Site] = []
    with evaluating(net):
        with record(
            net,
            [path for path, _, _ in patterns],
            copy="guard",
            reduce=lambda site, layer: seen.append(site),
        ) as recording:
            recording.run(images.clone())
    n_calls = Counter(path for path, _ in {(site.path, site.call) for site in seen})
    for path, _, call in patterns:
        if n_calls[path] > 1 and not call:
            which = ", ".join(f"{path}#{k}" for k in range(n_calls[path]))
            raise ValueError(
                f"{path!r} is called {n_calls[path]} times in one forward; say which: {which}"
            )
    names = {}
    for site in seen:
        asked = any(
            fnmatchcase(site.path, path) and call in ("", str(site.call))
            for path, _, call in patterns
        )
        if asked:
            names[site] = site.in_full if n_calls[site.path] > 1 else str(site)
    for pattern, (path, _, call) in zip(sites, patterns, strict=True):
        if call and not any(
            fnmatchcase(site.path, path) and str(site.call) == call for site in names
        ):
            raise ValueError(f"site {pattern!r}: there is no such call of {path!r}")
    if PIXELS in names.values():
        raise ValueError(f"a layer is called {PIXELS!r}, as the input is in the table; rename it")
    return names


def in_float64(net: nn.Module) -> nn.Module:
    """A copy that computes in float64, where an exact symmetry leaves some 1e-16."""
    return copy.deepcopy(net).double()


def _batches(n_pairs: int, size: int, shared: bool) -> list[tuple[int, int]]:
    """The first and last pair of every batch of this process's share."""
    rank, world = 0, 1
    if shared and torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if n_pairs < world:
        raise ValueError(f"{n_pairs} pairs of images do not go round {world} processes; give more")
    start, end = n_pairs * rank // world, n_pairs * (rank + 1) // world
    return [(first, min(first + size, end)) for first in range(start, end, size)]
