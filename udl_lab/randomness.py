"""Every random number in the lab comes from here, by name.

A stream is named, not counted: `generator(seed, "order", epoch)` gives the same numbers whatever
else was drawn before, so a run that is killed and resumed, or spread over more devices, draws what
an undisturbed run draws, and no generator state needs saving.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *stream: str | int) -> int:
    """The 63-bit seed of a named stream: a hash, so near seeds and names give unrelated numbers.

    Args:
        seed: the experiment's seed.
        stream: the stream's name, e.g. `"augment", epoch, batch`.
    """
    name = repr((int(seed), *stream)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """A CPU generator for one named stream.

    Draw on the CPU and move the numbers to the device: the devices' own generators differ, and the
    same experiment must draw the same numbers on each.
    """
    return torch.Generator().manual_seed(derive(seed, *stream))


@contextmanager
def seeded(seed: int, *stream: str | int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block, and restore it afterwards.

    For code that takes no generator, such as the default initialisation of torch's layers.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs as well, and they are not restored.
        torch.default_generator.manual_seed(derive(seed, *stream))
        yield
