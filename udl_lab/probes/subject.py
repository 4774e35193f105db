"""What a measurement is made on, and how a network is run for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.data.source import Examples
from udl_lab.diffusion.learned import Learned
from udl_lab.randomness import generator, seeded


@dataclass(frozen=True)
class Subject:
    """A trained network, its untrained twin, and examples that neither was trained on."""

    net: nn.Module
    untrained: nn.Module  # the same network before its first step
    examples: Examples
    background: float  # the value of an empty pixel after normalisation
    train: Examples | None = None  # those that the network was trained on
    denoiser: Learned | None = None  # the network as samplers want it, if it is one
    unaveraged: Learned | None = None  # with its last weights, where `net` has their average

    def denoisers(self) -> dict[str, Learned]:
        """The denoiser, and beside an average of weights the last ones, by a name for rows.

        Raises:
            ValueError: when the network is none.
        """
        if self.denoiser is None:
            raise ValueError(
                f"{type(self.net).__name__} is no denoiser; measure a run with model=diffusion"
            )
        found = {"": self.denoiser}
        return found if self.unaveraged is None else found | {"last_weights": self.unaveraged}

    def sample(self, n: int | None) -> Examples:
        """A fixed random sample of the examples, the same for every run; all of them if `None`.

        Random, because published test sets are not shuffled (the first half of MNIST's is easier).
        """
        n_all = len(self.examples.y)
        if n is None or n >= n_all:
            return self.examples
        chosen = torch.randperm(n_all, generator=generator(0, "probed examples"))[:n]
        return self.examples.rows(chosen)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside the block, and no trace of it afterwards.

    Every module gets its own mode back, so that one frozen inside a training network stays frozen.
    A network that draws random numbers even in evaluation mode (from torch's CPU generator) draws
    the same ones in every block, and the generator is put back.
    """
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad(), seeded(0, "evaluating"):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def device_of(net: nn.Module) -> torch.device:
    """Where the network's numbers are; the CPU for a network without any."""
    return next(chain(net.parameters(), net.buffers()), torch.empty(0)).device


def logits(
    net: nn.Module, x: Float[Tensor, " example *shape"], batch_size: int = 1000
) -> Float[Tensor, "example class"]:
    """The network's outputs in evaluation mode, computed in batches, gathered on the CPU."""
    device = device_of(net)
    with evaluating(net):
        # Copies: a first layer that works in place would write into the examples.
        outputs = [net(part.to(device, copy=True)).cpu() for part in x.split(batch_size)]
    return torch.cat(outputs)
