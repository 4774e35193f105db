"""The LSTM against its equations, and what padding and order do to it."""

import pytest
import torch

from udl_lab.nets.lstm import SetLSTM
from udl_lab.randomness import generator, seeded


def net():
    with seeded(0, "net"):
        return SetLSTM([9], 2, units=6).double()


def rows(n=5, size=9):
    return torch.randint(1, 10, (n, size), generator=generator(0, "rows")).double()


def by_hand(net, digits):
    """Hochreiter & Schmidhuber's cell with a forget gate (Gers et al. 2000), digit by digit."""
    w, v = net.lstm.weight_ih_l0, net.lstm.weight_hh_l0
    b = net.lstm.bias_ih_l0 + net.lstm.bias_hh_l0
    h = c = torch.zeros(6).double()
    for digit in digits:
        i, f, g, o = (w @ net.embedding.weight[digit] + v @ h + b).split(6)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return net.output.weight @ h + net.output.bias


@pytest.mark.parametrize(
    "row",
    [
        [3, 1, 4, 1, 5, 9, 2, 6, 5],
        [2, 7, 1, 0, 0, 0, 0, 0, 0],  # padded behind
        [0, 0, 0, 0, 0, 0, 2, 7, 1],  # and in front, as the authors do
        [0, 2, 0, 0, 7, 0, 1, 0, 0],  # and between
        [5, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],  # nothing: the initial state
    ],
)
def test_the_output_is_that_of_the_equations_on_the_digits_alone(row):
    made = net()
    x = rows()
    x[2] = torch.tensor(row)
    expected = by_hand(made, [digit for digit in row if digit])
    torch.testing.assert_close(made(x)[2], expected, rtol=0, atol=1e-13)


def test_rows_of_any_length_are_taken():
    for size in (1, 2, 100):
        assert net()(rows(size=size)).isfinite().all()


def test_order_changes_the_output():
    made, x = net(), rows()
    assert (made(x) - made(x.flip(1))).abs().amax(1).min() > 1e-4


def test_the_baseline_has_the_parameters_of_its_layers():
    """10 · 100 embedded digits, 4 · 50 · (100 + 50 + 2) of the LSTM, 50 + 1."""
    assert sum(p.numel() for p in SetLSTM([9], 1).parameters()) == 1000 + 30_400 + 51


def test_what_is_no_digit_or_no_row_is_refused():
    with pytest.raises(ValueError, match=r"\d\.5 is no digit"):
        net()(rows() + 0.5)
    with pytest.raises(ValueError, match=r"no \(elements,\)"):
        SetLSTM([1, 40], 10)
