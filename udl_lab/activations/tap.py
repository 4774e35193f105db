"""A name for a tensor that no layer returns, such as a sum inside a `forward`."""

from typing import final

from torch import Tensor, nn


@final
class Tap(nn.Module):
    """Returns its input, so that the recorder finds it under the module's name.

    `self.summed = Tap()` in a network, and `x = self.summed(x + y)` in its `forward`. It has no
    parameters and changes no checkpoint. A function `tap("summed", x)` could not know whose forward
    it stands in without global state. `nn.Identity` serves as well; this one says what it is for.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x
