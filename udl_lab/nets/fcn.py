"""Fully connected networks of any width and depth."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from udl_lab.nets.initialise import Scheme, initialise
from udl_lab.nets.nonlinearity import Nonlinearity, nonlinearity
from udl_lab.ranges import Positive


class FCN(nn.Module):
    """Linear layers with a nonlinearity between them; with no `widths` it is one linear map.

    Sites for the recorder: `hidden.<i>.linear`, `hidden.<i>.activation` and `output` (the logits).
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        out_features: Positive,
        widths: Sequence[Positive] = (),
        activation: Nonlinearity = "relu",
        init: Scheme = "torch",
    ) -> None:
        """Build and initialise the network.

        Args:
            in_shape: the shape of one example; it is flattened.
            out_features: the number of outputs.
            widths: the number of units of each hidden layer.
            activation: the nonlinearity after each hidden layer.
            init: see `udl_lab.nets.initialise`.
        """
        super().__init__()
        self.in_shape = tuple(in_shape)
        sizes = [math.prod(in_shape), *widths]
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(
                    OrderedDict(linear=nn.Linear(a, b), activation=nonlinearity(activation))
                )
                for a, b in pairwise(sizes)
            )
        )
        self.output = nn.Linear(sizes[-1], out_features)
        initialise(self, init)

    def forward(self, x: Float[Tensor, " batch *in_shape"]) -> Float[Tensor, "batch out"]:
        """Map a batch of examples to their outputs (for a classifier: logits, in nats)."""
        return self.output(self.hidden(x.flatten(1)))
