"""A denoiser for scalars and vectors: a fully connected network that is told the noise level."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from udl_lab.nets.embedding import Condition
from udl_lab.nets.fcn import FCN
from udl_lab.nets.nonlinearity import Nonlinearity
from udl_lab.ranges import NonNegative, Positive


class TimeMLP(nn.Module):
    """Dense layers on an example, the features of its level and its label, side by side.

    For few dimensions; an example of any shape is flattened, and the output has its shape again.

    Sites for the recorder: `mlp.hidden.<i>.linear`, `mlp.hidden.<i>.activation` and `mlp.output`.
    """

    takes_level = True  # it is called as net(x, t) or net(x, t, y)

    def __init__(
        self,
        in_shape: Sequence[Positive],
        width: Positive = 128,
        depth: NonNegative = 3,
        n_features: Positive = 16,
        activation: Nonlinearity = "silu",
        n_classes: Positive | None = None,
        n_outputs: Positive = 1,
    ) -> None:
        """Build the network.

        Args:
            in_shape: the shape of one example.
            width: the units of each hidden layer.
            depth: the number of hidden layers.
            n_features: of the level (an even number), and as many of the label.
            activation: the nonlinearity after each hidden layer.
            n_classes: the number of labels; `None` for a network without labels.
            n_outputs: how many arrays of the example's shape come out; 2 for a mean and a variance.

        Raises:
            ValueError: for an odd `n_features`.
        """
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.n_classes = n_classes
        self.out_shape = self.in_shape if n_outputs == 1 else (n_outputs, *self.in_shape)
        self.condition = Condition(n_features, n_classes)
        self.mlp = FCN(
            [math.prod(self.in_shape) + self.condition.size],
            math.prod(self.out_shape),
            [width] * depth,
            activation,
        )

    def forward(
        self,
        x: Float[Tensor, " batch *in_shape"],
        t: Float[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch *out_shape"]:
        """Map noisy examples at levels `t` in [0, 1] to the shape of `x`, or several of it.

        Args:
            x: the noisy examples.
            t: the level of each, as a fraction of the schedule's length; 0 is clean.
            y: the label of each; `n_classes` for no label, and `None` for no labels at all.

        Raises:
            ValueError: for labels when the network was built without them.
        """
        condition = self.condition(t, y).to(x.dtype)
        return self.mlp(torch.cat([x.flatten(1), condition], dim=1)).unflatten(1, self.out_shape)
