"""A recurrent network that reads a set as a sequence: the baseline that order can mislead."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from udl_lab.nets.deepsets import digits_of, row_of_elements
from udl_lab.ranges import Positive


class SetLSTM(nn.Module):
    """Embedded digits, read one after the other by an LSTM; the last state is mapped to the output.

    The text baseline of Zaheer et al. 2017, §4.1.2 (DigitSum/text_sum.ipynb): embedding 100, 50
    units, one output. Any number of elements will do, whatever `in_shape` says.

    Padding has no effect wherever it stands: the digits of a row are moved together, in their
    order, to its beginning, and the state after the last of them is taken. What the LSTM does on
    the padding behind it is not looked at, and the past does not see it.

    Sites for the recorder: `embedding`, `lstm:0` (the states; moved together, as above) and
    `output`.
    """

    def __init__(
        self,
        in_shape: Sequence[Positive],
        out_features: Positive,
        n_digits: Positive = 9,
        embedding: Positive = 100,
        units: Positive = 50,
    ) -> None:
        """Build the network.

        Args:
            in_shape: (elements,) of one example; rows of any other length are taken as well.
            out_features: the number of outputs.
            n_digits: elements are the digits 1 to `n_digits`; 0 is padding.
            embedding: the channels of an embedded digit, which are drawn from N(0, 1).
            units: of the LSTM.

        Raises:
            ValueError: when an example is no row of elements.
        """
        super().__init__()
        self.in_shape = row_of_elements(in_shape)
        self.n_digits = n_digits
        self.embedding = nn.Embedding(n_digits + 1, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, units, batch_first=True)
        self.output = nn.Linear(units, out_features)

    def forward(self, x: Float[Tensor, "batch element"]) -> Float[Tensor, "batch out"]:
        """Map a batch of rows to their outputs; a row without digits has the initial state, 0.

        Raises:
            ValueError: when an input is no digit.
        """
        digits = digits_of(x, self.n_digits)
        digits = digits.gather(1, (digits == 0).argsort(dim=1, stable=True))
        states, _ = self.lstm(self.embedding(digits))
        states = F.pad(states, (0, 0, 1, 0))  # the initial state before the first digit
        n = (digits > 0).sum(1)
        return self.output(states[torch.arange(len(n), device=n.device), n])
