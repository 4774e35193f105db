"""MNIST: the published facts of the real files, and plain words when there are none."""

import gzip
import hashlib
import math
import shutil
import socket
import struct
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from udl_lab.data.mnist import MNIST, mnist  # torchvision's, imported after its repair
from udl_lab.errors import UsageError

FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.fixture(scope="module")
def real(mnist_root):
    return mnist(mnist_root)


def test_there_are_60000_and_10000_images_of_28_by_28_pixels(real):
    for part, n in ((real.train, 60_000), (real.test, 10_000)):
        assert part.x.shape == (n, 1, 28, 28)
        assert part.y.shape == (n,)
        assert part.x.dtype == torch.float32
        assert part.y.dtype == torch.int64


def test_pixels_fill_the_range_from_0_to_1_in_256_levels(real):
    for part in real:
        assert part.x.min() == 0
        assert part.x.max() == 1
        levels = part.x[:1000] * 255
        # float32: a quotient by 255 is off by 2^-24 relative, times 255 again by twice that.
        assert (levels - levels.round()).abs().max() < 255 * 2**-23


def test_the_training_pixels_have_mean_0_1307_and_standard_deviation_0_3081(real):
    """The constants that every MNIST example normalises by (PyTorch's examples, this lab's)."""
    # Sums of whole numbers below 2^53 are exact in float64; in parts, for the memory's sake.
    total = sum(part.double().sum().item() for part in real.train.x.split(5000))
    squares = sum(part.double().square().sum().item() for part in real.train.x.split(5000))
    mean = total / real.train.x.numel()
    assert round(mean, 4) == 0.1307
    assert round((squares / real.train.x.numel() - mean**2) ** 0.5, 4) == 0.3081


def test_the_classes_are_as_frequent_as_published(real):
    assert torch.bincount(real.train.y).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert torch.bincount(real.test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_torchvision_reads_the_same_images_and_labels(real, mnist_root):
    """Its own reader, which is not used here."""
    theirs = MNIST(mnist_root, train=False)
    assert torch.equal((real.test.x * 255).round().byte().squeeze(1), theirs.data)
    assert torch.equal(real.test.y, theirs.targets)


@pytest.fixture
def no_network(monkeypatch):
    """Mirrors at a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])


def test_missing_files_without_network_name_the_remedies(tmp_path, no_network):
    root = tmp_path / "nowhere"
    with pytest.raises(UsageError) as caught:
        mnist(str(root))
    message = str(caught.value)
    assert str(root / "MNIST" / "raw") in message
    assert "data=digits" in message
    assert "data.root=" in message


def test_a_failed_download_leaves_no_folder_behind(tmp_path, no_network):
    with pytest.raises(UsageError):
        mnist(str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_leaves_the_default_timeout_as_it_was(tmp_path, no_network):
    before = socket.getdefaulttimeout()
    with pytest.raises(UsageError):
        mnist(str(tmp_path / "nowhere"))
    assert socket.getdefaulttimeout() == before


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror on this machine, whose MNIST has three images of one training and test set."""
    served = tmp_path / "served"
    served.mkdir()
    resources = []
    for name in FILES:
        shape = (3, 28, 28) if "images" in name else (3,)
        content = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        content += bytes([1] * math.prod(shape))
        packed = gzip.compress(content)
        (served / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", resources)
    yield
    server.shutdown()
    server.server_close()


def test_missing_files_are_downloaded_and_nothing_else_is_kept(tmp_path, mirror):
    root = tmp_path / "new" / "folder"
    source = mnist(str(root))
    assert source.train.x.shape == source.test.x.shape == (3, 1, 28, 28)
    assert source.train.y.tolist() == [1, 1, 1]
    raw = root / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(FILES)


def test_one_missing_file_is_missed_and_the_others_are_left_alone(tmp_path, mnist_root, no_network):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES[1:]:
        shutil.copy(Path(mnist_root) / "MNIST" / "raw" / name, raw / name)
    with pytest.raises(UsageError, match="data=digits"):
        mnist(str(tmp_path))
    assert sorted(path.name for path in raw.iterdir()) == sorted(FILES[1:])


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path, mnist_root):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    real = Path(mnist_root) / "MNIST" / "raw"
    for name, source in zip(FILES, [FILES[2], FILES[1], FILES[2], FILES[3]], strict=True):
        (raw / name).symlink_to(real / source)
    with pytest.raises(UsageError, match=r"10,000 images of .* 60,000 labels") as caught:
        mnist(str(tmp_path))
    assert str(raw / FILES[0]) in str(caught.value)
