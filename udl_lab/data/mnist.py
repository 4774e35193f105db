"""MNIST, read from torchvision's layout: `<root>/MNIST/raw/` and four files."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import MNIST

from udl_lab.data.idx import read_images, read_labels
from udl_lab.data.source import Examples, Source
from udl_lab.errors import UsageError

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def mnist(root: str) -> Source:
    """60,000 training and 10,000 test digits of 28 × 28 pixels (LeCun, Cortes & Burges).

    Downloads the files when they are absent and there is a network.

    Raises:
        UsageError: when there are no files and no network, or a file is damaged or misplaced.
    """
    raw = Path(root).expanduser() / "MNIST" / "raw"
    if not all((raw / name).is_file() for names in _FILES.values() for name in names):
        _download(raw)
    return Source(*(_examples(raw, *names) for names in _FILES.values()))


def _examples(raw: Path, images: str, labels: str) -> Examples:
    x = read_images(raw / images)
    y = read_labels(raw / labels, n_classes=10)
    if len(x) != len(y) or x.shape[1:] != (28, 28):
        raise UsageError(
            f"{raw / images} holds {len(x):,} images of {x.shape[1:]} pixels and {raw / labels} "
            f"{len(y):,} labels; they do not belong together. Fetch both again."
        )
    pixels = torch.from_numpy(x.astype(np.float32)).div_(255).unsqueeze(1)
    return Examples(pixels, torch.from_numpy(y.astype(np.int64)))


def _download(raw: Path) -> None:
    """Fetch into a temporary folder and move: no reader ever finds half a file."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # torchvision sets none and would wait for ever
    try:
        with tempfile.TemporaryDirectory() as folder:
            MNIST(folder, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for names in _FILES.values():
                for name in names:
                    # Renamed in one go: the copy may be interrupted, or made by each of several
                    # processes.
                    part = raw / f"{name}.{os.getpid()}.part"
                    shutil.copyfile(Path(folder) / "MNIST" / "raw" / name, part)
                    part.replace(raw / name)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"MNIST is not in {raw} and could not be downloaded ({error}).\n"
            "  Without network:  data=digits\n"
            "  With a copy:      put the four idx files in <folder>/MNIST/raw and pass "
            "data.root=<folder>"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
