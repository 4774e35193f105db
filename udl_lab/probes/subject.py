"""What a measurement is made on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from udl_lab.data.source import Examples
from udl_lab.randomness import generator


@dataclass(frozen=True)
class Subject:
    """A trained network, its untrained twin, and examples that neither was trained on."""

    net: nn.Module
    untrained: nn.Module  # the same network before its first step
    examples: Examples
    background: float  # the value of an empty pixel after normalisation

    def sample(self, n: int | None) -> Examples:
        """A fixed random sample of the examples, the same for every run; all of them if `None`.

        Random, because published test sets are not shuffled (the first half of MNIST's is easier).
        """
        n_all = len(self.examples.y)
        if n is None or n >= n_all:
            return self.examples
        chosen = torch.randperm(n_all, generator=generator(0, "probed examples"))[:n]
        return self.examples.rows(chosen)


@torch.no_grad()
def logits(net: nn.Module, x: Tensor, batch_size: int = 1000) -> Tensor:
    """The network's outputs in evaluation mode, computed in batches, gathered on the CPU."""
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    try:
        return torch.cat([net(part.to(device)).cpu() for part in x.split(batch_size)])
    finally:
        net.train(training)
