"""How the weights of linear and convolutional layers are drawn before training.

Every scheme visits the layers in the order of `net.modules()` and draws each layer's weight before
its bias. Draws come from torch's global generator, which the caller seeds, except `numpy_normal`.
"""

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from udl_lab.errors import nearest

Scheme = Literal["torch", "he", "glorot", "normal", "numpy_normal"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def initialise(net: nn.Module, scheme: Scheme) -> None:
    """Draw the parameters of `net` anew, in place.

    Args:
        net: any network of linear and convolutional layers.
        scheme: one of

            - `torch`: leave torch's own default.
            - `he`: weight N(0, 2 / fan_in), bias 0 (He et al. 2015, eq. 10; UDL notebook 8.1).
            - `glorot`: weight N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12), bias
              N(0, .01²): the layer library of the JAX homework.
            - `normal`: weight and bias N(0, .1²), as in part 1 of the JAX homework.
            - `numpy_normal`: that homework's very numbers: `RandomState(0)`, for each layer the
              weight, shaped (in, out), and then the bias. Deterministic: it ignores the seed.

    Raises:
        ValueError: for a scheme that is none of them.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"there is no init {scheme!r}; {nearest(scheme, get_args(Scheme))}")
    layers = [module for module in net.modules() if isinstance(module, _LAYERS)]
    legacy = np.random.RandomState(0)
    with torch.no_grad():
        for layer in layers:
            bias = layer.bias if layer.bias is not None else torch.zeros(0)
            if scheme == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                bias.zero_()
            elif scheme == "glorot":
                nn.init.xavier_normal_(layer.weight)
                bias.normal_(std=0.01)
            elif scheme == "normal":
                layer.weight.normal_(std=0.1)
                bias.normal_(std=0.1)
            elif scheme == "numpy_normal":
                _copy_legacy(layer.weight, legacy)
                _copy_legacy(bias, legacy)


def _copy_legacy(parameter: Tensor, legacy: np.random.RandomState) -> None:
    """Fill from the stream as the original does: input axis first, float64 draws, scaled by .1."""
    if parameter.ndim < 2:
        values = legacy.randn(parameter.numel()).reshape(parameter.shape)
    else:
        fan_in = math.prod(parameter.shape[1:])
        values = legacy.randn(fan_in, parameter.shape[0]).T.reshape(parameter.shape)
    parameter.copy_(torch.from_numpy(0.1 * values))
