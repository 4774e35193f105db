"""Reads the IDX files of MNIST, and names the file when one is not what its name says."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from udl_lab.errors import UsageError

# The third byte says unsigned bytes (8), the fourth how many axes (http://yann.lecun.com/exdb/mnist).
_KINDS = {0x0801: "labels", 0x0803: "images"}


def read_images(path: Path) -> UInt8[np.ndarray, "image height width"]:
    """Read an IDX file of images.

    Raises:
        UsageError: when the file holds something else or its size is not what its header says.
    """
    return _read(path, 0x0803)


def read_labels(path: Path, n_classes: int) -> UInt8[np.ndarray, " image"]:
    """Read an IDX file of labels.

    Raises:
        UsageError: as for images, and when a label is not in 0 … n_classes - 1.
    """
    labels = _read(path, 0x0801)
    if labels.size and labels.max() >= n_classes:
        raise UsageError(
            f"{path} has label {labels.max()}; labels are 0 … {n_classes - 1}. "
            "The file is damaged: fetch it again."
        )
    return labels


def _read(path: Path, magic: int) -> np.ndarray:
    content = path.read_bytes()
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        held = _KINDS.get(found, "something that is no IDX file of bytes")
        raise UsageError(
            f"{path} should hold {_KINDS[magic]} but holds {held} (magic number {found}, "
            f"not {magic}). Put the right file in its place."
        )
    n_axes = magic & 0xFF
    start = 4 * (1 + n_axes)
    if len(content) < start:
        raise UsageError(f"{path} is truncated: it ends within its header. Fetch it again.")
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if len(content) - start != math.prod(shape):
        raise UsageError(
            f"{path} is truncated or too long: its header promises {math.prod(shape):,} bytes "
            f"({' × '.join(map(str, shape))}), the file holds {len(content) - start:,}. "
            "Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
