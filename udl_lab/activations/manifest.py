"""What a folder of shards holds: a JSON file for each process, which lists the shards it wrote."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

REMEDY = "delete it, and what is then `missing` can be written again"
_SHARD = ("file", "site", "ids", "rank", "shape", "dtype", "bytes")


@final
class Manifest:
    """The shards of a folder, of all processes, under one heading.

    The heading says what all shards have in common; a folder with another one is refused.
    """

    def __init__(self, folder: Path, heading: Mapping[str, Any], rank: int) -> None:
        self._folder, self._rank = folder, rank
        self._heading = json.loads(json.dumps(dict(heading)))  # as it will be read back
        self._own = {f["file"]: f for f in self._listed() if f["rank"] == rank}

    def by_site(self) -> dict[str, list[dict]]:
        """The shards that are listed and there.

        Raises:
            ValueError: where a manifest is damaged or of another heading, or a shard is damaged.
        """
        done: dict[str, list[dict]] = {}
        # One that was deleted and written again by another process is listed twice.
        for shard in {shard["file"]: shard for shard in self._listed()}.values():
            path = self._folder / shard["file"]
            if path.exists():
                if path.stat().st_size != shard["bytes"]:
                    raise ValueError(f"{path} does not have the listed size; {REMEDY}")
                done.setdefault(shard["site"], []).append(shard)
        return done

    def add(self, shards: Iterable[Mapping[str, Any]]) -> None:
        """List shards that this process wrote."""
        self._own |= {s["file"]: {**s, "rank": self._rank} for s in shards}
        text = json.dumps({**self._heading, "shards": list(self._own.values())})
        replace(self._folder / f"manifest-{self._rank}.json", lambda path: path.write_text(text))

    def _listed(self) -> Iterator[dict]:
        for path in sorted(self._folder.glob("manifest-*.json")):
            try:
                manifest = json.loads(path.read_text())
                shards = [{key: shard[key] for key in _SHARD} for shard in manifest.pop("shards")]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is no manifest ({error!r}); {REMEDY}") from error
            for key in {**self._heading, **manifest}:
                theirs, ours = manifest.get(key), self._heading.get(key)
                if theirs != ours:
                    raise ValueError(
                        f"{self._folder} holds activations of {key} {theirs!r}, not {ours!r}; "
                        "give another folder, or delete this one"
                    )
            yield from shards


def holds(shards: Sequence[dict], images: list[int]) -> bool:
    """Whether a shard holds these images.

    Raises:
        ValueError: if shards hold some of them in another block.
    """
    for shard in shards:
        if shard["ids"] == images:
            return True
        shared = set(shard["ids"]) & set(images)
        if shared:
            raise ValueError(
                f"image {min(shared)} is in {shard['file']} already, in a block of "
                f"{len(shard['ids'])} images; use the same blocks again, or another folder"
            )
    return False


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name, and rename only what is whole."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
