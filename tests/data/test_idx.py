"""IDX files: read as written, and refused by name when they are not what they should be."""

import struct

import numpy as np
import pytest

from udl_lab.data.idx import read_images, read_labels
from udl_lab.errors import UsageError

IMAGES = np.random.RandomState(0).randint(0, 256, size=(5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 9, 3, 3, 1], dtype=np.uint8)


def idx(array):
    """The file's bytes as http://yann.lecun.com/exdb/mnist describes them, big-endian."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "some-idx-ubyte"
        path.write_bytes(content)
        return path

    return write


def test_images_are_read_as_they_were_written(file):
    read = read_images(file(idx(IMAGES)))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, IMAGES)


def test_labels_are_read_as_they_were_written(file):
    np.testing.assert_array_equal(read_labels(file(idx(LABELS)), n_classes=10), LABELS)


def test_a_file_without_images_or_labels_is_no_error(file):
    assert read_images(file(idx(IMAGES[:0]))).shape == (0, 4, 3)
    assert read_labels(file(idx(LABELS[:0])), n_classes=10).shape == (0,)


def refusal(read, path, **arguments):
    """The message, which must name the file and say what to do."""
    with pytest.raises(UsageError) as caught:
        read(path, **arguments)
    message = str(caught.value)
    assert str(path) in message
    return message


def test_a_truncated_file_is_refused(file):
    message = refusal(read_images, file(idx(IMAGES)[:-1]))
    assert "promises 60 bytes (5 × 4 × 3), the file holds 59" in message
    assert "Fetch it again" in message


def test_a_file_that_is_too_long_is_refused(file):
    message = refusal(read_labels, file(idx(LABELS) + b"\0"), n_classes=10)
    assert "promises 5 bytes (5), the file holds 6" in message
    assert "Fetch it again" in message


@pytest.mark.parametrize("length", range(4, 16))
def test_a_file_that_ends_within_its_header_is_refused(file, length):
    message = refusal(read_images, file(idx(IMAGES)[:length]))
    assert "truncated" in message
    assert "Fetch it again" in message


def test_a_header_that_promises_more_than_a_machine_can_count_is_refused(file):
    """2^64 bytes are 0 in 64-bit arithmetic, which is what the file holds."""
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**31, 2**2)
    assert "truncated" in refusal(read_images, file(header))


def test_labels_in_the_place_of_images_are_refused(file):
    message = refusal(read_images, file(idx(LABELS)))
    assert "should hold images but holds labels" in message
    assert "Put the right file in its place" in message


def test_images_in_the_place_of_labels_are_refused(file):
    message = refusal(read_labels, file(idx(IMAGES)), n_classes=10)
    assert "should hold labels but holds images" in message
    assert "Put the right file in its place" in message


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b\x08\x00 still compressed", b"<html>", b"\0\0\x0d\x03", b"\0"]
)
def test_something_else_is_refused(file, content):
    message = refusal(read_images, file(content))
    assert "no IDX file of bytes" in message
    assert "Put the right file in its place" in message


def test_an_empty_file_is_refused(file):
    assert "Put the right file in its place" in refusal(read_images, file(b""))
    assert "Put the right file in its place" in refusal(read_labels, file(b""), n_classes=10)


def test_a_label_of_no_class_is_refused(file):
    message = refusal(read_labels, file(idx(LABELS)), n_classes=9)
    assert "label 9; labels are 0 … 8" in message
    assert "fetch it again" in message
