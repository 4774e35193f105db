"""Activations on disk, for when the numbers that reducers keep are not enough.

A folder of safetensors shards, one for each site and block of images (the format cannot append),
and a JSON manifest for each process, which lists them. Both are written under a temporary name and
renamed, so that what is there is whole; a shard counts once a manifest lists it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, final
from urllib.parse import quote

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from udl_lab.activations.byte_budget import in_bytes, spelled
from udl_lab.activations.manifest import REMEDY, Manifest, holds, replace
from udl_lab.activations.sites import Site
from udl_lab.errors import nearest

PROVENANCE = ("checkpoint", "config", "code", "interpolation")
_FORMAT = 1

Block = TypeVar("Block", bound=Sequence[int])


@final
class ActivationStore:
    """Keeps `acts[element, image, *unit]` of every site, and gives them back by site and element.

    A block is the images of one `write`, known by their numbers. All processes of a run may write
    into one folder, each its own blocks; a run that was interrupted goes on with what is `missing`.
    """

    def __init__(
        self,
        folder: Path | str,
        provenance: Mapping[str, Any],
        *,
        elements: Sequence[str],
        n_images: int,
        max_bytes: int | str | None = None,
    ) -> None:
        """Open a folder, which need not exist and is made by the first `write`.

        Args:
            folder: for nothing else.
            provenance: where the activations come from, as plain JSON: the `checkpoint`'s and the
                `config`'s hash, the version of the `code`, the `interpolation` of the
                transformations, and what else should be told apart.
            elements: labels of the transformations in the order of the batch, the identity first.
            n_images: of the whole sample, of all processes; they are numbered from 0.
            max_bytes: the most that the whole sample may take, as a number or like "2GB".

        Raises:
            ValueError: where the provenance lacks a part, or the folder holds activations of
                another one, of other elements or of another sample.
        """
        absent = [key for key in PROVENANCE if key not in provenance]
        if absent:
            raise ValueError(f"the provenance lacks {absent}; give a value for each, '' if none")
        self.folder = Path(folder)
        self._provenance, self._elements = dict(provenance), list(elements)
        self._n_images = n_images
        self._max_bytes = None if max_bytes is None else in_bytes(max_bytes)
        heading = {"format": _FORMAT, **self._provenance}
        heading |= {"elements": self._elements, "n_images": n_images}
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        self._manifest = Manifest(self.folder, heading, rank)

    def sites(self) -> list[str]:
        """The sites, in full, of which something was written."""
        return list(self._manifest.by_site())

    def missing(
        self, sites: Iterable[Site | str], blocks: Iterable[Block]
    ) -> list[tuple[str, Block]]:
        """The sites, in full, and blocks of image numbers that are still to be written.

        Raises:
            ValueError: where a shard is damaged, or holds some images of a block and not the rest.
        """
        done, blocks = self._manifest.by_site(), list(blocks)
        return [
            (site, block)
            for site in map(_in_full, sites)
            for block in blocks
            if not holds(done.get(site, []), list(block))
        ]

    def write(
        self,
        layers: Mapping[Site, Float[Tensor, "element image ..."]]
        | Mapping[str, Float[Tensor, "element image ..."]],
        ids: Int[Tensor, " image"],
    ) -> None:
        """Write a block of images, at every site that is to be kept; finished shards stay.

        Its size, extrapolated to the sample, is held against `max_bytes` before anything is
        written: so give all sites of a block at once, and a refusal leaves nothing behind.

        Raises:
            ValueError: for a shape that does not fit, images that are in the store in other
                blocks, or more bytes than allowed.
        """
        images = [int(i) for i in ids]
        of_site = {_in_full(site): acts.detach() for site, acts in layers.items()}
        self._check_shapes(of_site, images)
        done = self._manifest.by_site()
        todo = [site for site in of_site if not holds(done.get(site, []), images)]
        self._check_budget(done, of_site)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._manifest.add([self._shard(site, of_site[site], images) for site in todo])

    def read(self, site: Site | str, element: str) -> Float[Tensor, "image ..."]:
        """All activations at a site under an element; row i is image i.

        Raises:
            ValueError: for an unknown site or element, an image that was not written yet, or a
                shard that is damaged or not what the manifest says.
        """
        name, done = _in_full(site), self._manifest.by_site()
        for value, known in ((name, done), (element, self._elements)):
            if value not in known:
                raise ValueError(f"{value!r} is not in {self.folder}: {nearest(value, known)}")
        there = sum(len(shard["ids"]) for shard in done[name])
        if there != self._n_images:
            raise ValueError(
                f"{name} has {there} of {self._n_images} images; write what is `missing`"
            )
        first, row = done[name][0], self._elements.index(element)
        whole = torch.empty(there, *first["shape"][2:], dtype=getattr(torch, first["dtype"]))
        for shard in done[name]:
            with self._opened(shard) as acts:
                whole[torch.tensor(shard["ids"])] = acts[row : row + 1][0]
        return whole

    def _shard(self, site: str, acts: Tensor, images: list[int]) -> dict[str, Any]:
        """Write a shard, and say what it is."""
        path = self.folder / f"{quote(site, safe='#')}-{min(images):07d}.safetensors"
        tensors, label = {"acts": acts.contiguous().cpu()}, self._label(site, images)
        replace(path, lambda temporary: save_file(tensors, temporary, metadata=label))
        return {
            "file": path.name,
            "site": site,
            "ids": images,
            "shape": list(acts.shape),
            "dtype": str(acts.dtype).removeprefix("torch."),
            "bytes": path.stat().st_size,
        }

    @contextmanager
    def _opened(self, shard: Mapping[str, Any]) -> Iterator[Any]:
        """A shard's tensor, to be sliced, once it is what the manifest says."""
        path = self.folder / shard["file"]
        try:
            with safe_open(path, framework="pt") as file:
                acts, label = file.get_slice("acts"), self._label(shard["site"], shard["ids"])
                if acts.get_shape() != shard["shape"] or file.metadata() != label:
                    raise ValueError(f"{path} is not the shard that is listed; {REMEDY}")
                yield acts
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read ({error}); {REMEDY}") from error

    def _label(self, site: str, images: list[int]) -> dict[str, str]:
        """What a shard says of itself."""
        provenance = json.dumps(self._provenance, sort_keys=True)
        return {"site": site, "ids": json.dumps(images), "provenance": provenance}

    def _check_shapes(self, layers: Mapping[str, Tensor], images: list[int]) -> None:
        numbers = set(images)
        if len(numbers) < len(images) or not numbers or not numbers <= set(range(self._n_images)):
            raise ValueError(
                f"images {images[:5]} … are no block of the {self._n_images}; number each once, "
                "from 0"
            )
        expected = (len(self._elements), len(images))
        for site, acts in layers.items():
            if acts.shape[:2] != expected:
                raise ValueError(
                    f"{site} has shape {tuple(acts.shape)}, but there are {expected[0]} elements "
                    f"and {expected[1]} images; give [element, image, unit…]"
                )

    def _check_budget(self, done: Mapping[str, list[dict]], layers: Mapping[str, Tensor]) -> None:
        if self._max_bytes is None:
            return
        per_image = {s: shards[0]["bytes"] / len(shards[0]["ids"]) for s, shards in done.items()}
        per_image |= {site: acts.nbytes / acts.shape[1] for site, acts in layers.items()}
        sizes = {site: int(size * self._n_images) for site, size in per_image.items()}
        if sum(sizes.values()) > self._max_bytes:
            each = ", ".join(f"{site} {spelled(size)}" for site, size in sizes.items())
            raise ValueError(
                f"all {self._n_images} images would take {spelled(sum(sizes.values()))}, more than "
                f"max_bytes={spelled(self._max_bytes)}: {each}; nothing of this block was written. "
                "Keep fewer sites or images, use a reducer, or raise max_bytes"
            )


def _in_full(site: Site | str) -> str:
    """The address with its call, which is the first where a string names none."""
    if isinstance(site, Site):
        return site.in_full
    path, colon, port = site.partition(":")
    return (path if "#" in path else f"{path}#0") + colon + port
