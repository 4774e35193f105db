"""Networks as denoisers, with networks that compute the exact answer for Gaussian data."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from udl_lab.diffusion.denoisers import Gaussian
from udl_lab.diffusion.learned import Learned, estimate_x0_variance, split_output
from udl_lab.diffusion.process import diffuse, predict, step_variance, target
from udl_lab.diffusion.schedule import angle_uniform, linear
from udl_lab.randomness import generator

KINDS = ["eps", "x0", "v"]
T = 30
MEAN, VARIANCE = 0.7, 0.36


def double(*values):
    """In double precision from the start: `torch.tensor(0.1).double()` would round to single."""
    return torch.tensor(*values, dtype=torch.float64)


def normal(*shape, stream="learned"):
    return torch.randn(shape, generator=generator(0, stream), dtype=torch.float64)


class Perfect(nn.Module):
    """E[target | x_t] for data of N(MEAN, VARIANCE) from x_t and t/T, by regression of normals.

    The target is y = a x_0 + b ε, so its mean given x_t = c x_0 + d ε is
    E y + cov(y, x_t) / var(x_t) (x_t − E x_t).
    """

    def __init__(self, schedule, kind):
        super().__init__()
        self.schedule = schedule
        self.kind = kind

    def forward(self, x, share):
        t = share * self.schedule.n_steps
        assert (t - t.round()).abs().max() < 1e-13, "shares of T are exact in double precision"
        left = self.schedule.alpha_bar[t.round().long()].reshape(-1, *[1] * (x.ndim - 1))
        c, d = left.sqrt(), (1 - left).sqrt()
        a, b = {"eps": (0, 1), "x0": (1, 0), "v": (-d, c)}[self.kind]
        gain = (a * c * VARIANCE + b * d) / (c * c * VARIANCE + d * d)
        return a * MEAN + gain * (x - c * MEAN)


class ByLabel(nn.Module):
    """Says its label, plus a tenth of x and a hundredth of the level."""

    def forward(self, x, share, y):
        tail = [1] * (x.ndim - 1)
        return y.to(x).reshape(-1, *tail) + x / 10 + share.reshape(-1, *tail) / 100


class TwoOutputs(nn.Module):
    """A mean, which is the label, and a place between two variances, which is given."""

    def __init__(self, second):
        super().__init__()
        self.second = second

    def forward(self, x, share, y=None):
        said = torch.zeros(len(x)).to(x) if y is None else y.to(x)
        first = said.reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)
        place = self.second if y is None else self.second * (1 - said).reshape_as(first[:, :1])
        return torch.stack([first, place * torch.ones_like(x)], 1)


def the_law(schedule):
    return Gaussian(schedule, double(MEAN), double(VARIANCE))


@pytest.mark.parametrize("shape", [(1,), (2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_network_says_what_the_oracle_says(kind, shape):
    schedule = linear(T)
    net, x = Learned(Perfect(schedule, kind), schedule, kind), normal(7, *shape)
    for t in [1, 3, T, torch.tensor([1, 2, 3, 7, 11, T, T])]:
        said, wanted = net(x, t), the_law(schedule)(x, t)
        torch.testing.assert_close(said.x0, wanted.x0, rtol=0, atol=1e-10)
        torch.testing.assert_close(said.eps, wanted.eps, rtol=0, atol=1e-10)
        assert said.x0_variance is None and said.between is None


@pytest.mark.parametrize("t", [0.3, 7.1, T - 0.1])
def test_real_levels_keep_double_precision(t):
    asked = []

    class Asked(nn.Module):
        def forward(self, x, share):
            asked.append(share)
            return x

    Learned(Asked(), linear(T), "v")(normal(2, 1), t)
    assert asked[0].tolist() == pytest.approx([t / T] * 2, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_answers_have_the_examples_type(dtype):
    net = Learned(
        ByLabel(), linear(T), "v", torch.arange(3), x0_variance=torch.ones(T + 1).double()
    )
    said = net(normal(3, 2).to(dtype), 5)
    assert said.x0.dtype == said.eps.dtype == said.x0_variance.dtype == dtype


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_the_batch_size_changes_nothing(batch_size):
    schedule, x = linear(T), normal(10, 2, 2)
    labels = torch.randint(4, (10,), generator=generator(0, "labels"))
    levels = torch.randint(1, T + 1, (10,), generator=generator(0, "levels"))
    net = Learned(ByLabel(), schedule, "v", labels, guidance=2.0, no_label=4)
    table = torch.rand(T + 1, generator=generator(0, "table"), dtype=torch.float64)
    net = replace(net, x0_variance=table)
    for t in [5, levels]:
        whole, pieces = net(x, t), replace(net, batch_size=batch_size)(x, t)
        assert torch.equal(whole.x0, pieces.x0) and torch.equal(whole.eps, pieces.eps)
        assert torch.equal(whole.x0_variance, pieces.x0_variance)


def test_each_batch_is_as_large_as_asked():
    sizes = []

    class Sizes(nn.Module):
        def forward(self, x, share):
            assert len(share) == len(x)
            sizes.append(len(x))
            return x

    Learned(Sizes(), linear(T), "v", batch_size=4)(normal(10, 1), 3)
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("batch_size", [2, 500])
def test_each_row_gets_its_own_label_and_level(batch_size):
    labels, levels = torch.tensor([3, 0, 2, 5, 1]), torch.tensor([1, T, 4, 9, 2])
    x = normal(5, 2)
    said = Learned(ByLabel(), linear(T), "x0", labels, batch_size=batch_size)(x, levels)
    for i in range(5):
        wanted = labels[i].item() + x[i] / 10 + levels[i].item() / T / 100
        torch.testing.assert_close(said.x0[i], wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [1, 4, 6])
def test_labels_are_as_many_as_the_examples(n):
    labels = torch.zeros(n, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"{n} labels for 5 examples"):
        Learned(ByLabel(), linear(T), "x0", labels)(normal(5, 2), 3)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0, -1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_guidance_leads_away_from_the_answer_without_a_label(kind, guidance):
    """(1 + w) of the answer for the label less w of the other's, whatever is predicted."""
    schedule, x, labels = linear(T), normal(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    guided = Learned(ByLabel(), schedule, kind, labels, guidance, no_label=3)(x, 9)
    given = Learned(ByLabel(), schedule, kind, labels)(x, 9)
    free = Learned(ByLabel(), schedule, kind, torch.full((6,), 3))(x, 9)
    for name in ["x0", "eps"]:
        wanted = (1 + guidance) * getattr(given, name) - guidance * getattr(free, name)
        torch.testing.assert_close(getattr(guided, name), wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "given",
    [{}, {"labels": torch.tensor([0])}, {"no_label": 3}],
    ids=["none", "labels", "no_label"],
)
def test_guidance_is_refused_where_there_is_no_class(given):
    with pytest.raises(ValueError, match=r"guidance=1\.5 is towards a class; give labels"):
        Learned(ByLabel(), linear(T), "eps", guidance=1.5, **given)


@pytest.mark.parametrize(("second", "between"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_a_second_output_says_where_the_variance_lies(second, between):
    schedule, x = linear(T), normal(3, 2, 2)
    said = Learned(TwoOutputs(second), schedule, "x0")(x, 9)
    assert torch.equal(said.x0, torch.zeros_like(x))
    assert torch.equal(said.between, torch.full_like(x, between))
    low, high = (step_variance(schedule, said, 4, 9, kind) for kind in ["small", "large"])
    width = step_variance(schedule, said, 4, 9, "learned")
    wanted = (low ** (1 - between) * high**between).expand_as(x)
    torch.testing.assert_close(width, wanted, rtol=1e-13, atol=0)


def test_guidance_leaves_the_variance_to_the_label():
    # Label 0 says 1 ("large"); label 2, which stands for none, says −1: led apart they say 5.
    net = Learned(TwoOutputs(1.0), linear(T), "x0", torch.zeros(3).long(), 2.0, no_label=2)
    said = net(normal(3, 4), 9)
    torch.testing.assert_close(said.x0, torch.full((3, 4), -4.0).double(), rtol=0, atol=0)
    assert torch.equal(said.between, torch.ones(3, 4).double())


def test_an_output_is_split_only_if_it_is_two():
    one = normal(3, 2, 5)
    assert split_output(one, 3)[0] is one and split_output(one, 3)[1] is None
    first, between = split_output(one, 2)
    assert torch.equal(first, one[:, 0])
    assert torch.equal(between, (one[:, 1] + 1) / 2)


def test_the_variance_of_x0_is_looked_up_by_level():
    table = torch.arange(T + 1).double().square()
    net = Learned(Perfect(linear(T), "v"), linear(T), "v", x0_variance=table)
    x = normal(3, 2, 2)
    assert net(x, 7).x0_variance.flatten().tolist() == [49] * 3
    said = net(x, torch.tensor([1, 5, T]))
    assert said.x0_variance.shape == (3, 1, 1)
    assert said.x0_variance.flatten().tolist() == [1, 25, T * T]


def test_between_levels_the_variance_of_x0_is_on_a_straight_line():
    class Any(nn.Module):
        def forward(self, x, share):
            return x

    table = torch.arange(T + 1).double().square()
    net = Learned(Any(), linear(T), "v", x0_variance=table)
    found = [net(normal(1, 1), t).x0_variance.item() for t in [0.5, 2.25, T - 0.5, float(T)]]
    assert found == pytest.approx([0.5, 5.25, (T**2 + (T - 1) ** 2) / 2, T**2], rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimated_variance_is_the_exact_one_for_a_perfect_network(kind):
    schedule, n = linear(T), 4000
    x0 = MEAN + VARIANCE**0.5 * normal(n, 2, stream="x0")
    net = Learned(Perfect(schedule, kind), schedule, kind)
    table = estimate_x0_variance(net, x0, generator(0, "noise"))
    exact = (
        VARIANCE
        * (1 - schedule.alpha_bar)
        / (schedule.alpha_bar * VARIANCE + 1 - schedule.alpha_bar)
    )
    assert len(table) == T + 1 and table[0] == 0
    # The mean of 2n squares of N(0, exact) has a relative standard error of √(2 / 2n).
    error = (table[1:] / exact[1:] - 1).abs() / n**-0.5
    assert error.max() < 4
    assert error.max() > 0.1  # it is an estimate, of noise that was drawn


def test_the_estimate_is_the_mean_squared_error_on_these_examples():
    """A network that is off by 1 everywhere errs by the variance and 1."""
    schedule = angle_uniform(5)

    class Off(nn.Module):
        def forward(self, x, share):
            return Perfect(schedule, "x0")(x, share) + 1

    x0 = normal(300, 3, stream="x0")
    table = estimate_x0_variance(Learned(Off(), schedule, "x0"), x0, generator(3, "noise"))
    again = generator(3, "noise")
    for t in range(1, 6):
        eps = torch.randn(x0.shape, generator=again, dtype=torch.float64)
        x_t = diffuse(schedule, x0, t, eps)
        error = the_law(schedule)(x_t, t).x0 + 1 - x0
        assert table[t].item() == pytest.approx(error.square().mean().item(), rel=1e-12)


def test_the_estimate_goes_row_by_row_with_the_labels():
    schedule = angle_uniform(5)

    class Knows(nn.Module):
        def forward(self, x, share, y):
            return y.to(x).unsqueeze(1).expand_as(x)

    x0 = torch.arange(6).double().reshape(6, 1)
    net = Learned(Knows(), schedule, "x0", torch.arange(6), batch_size=4)
    assert estimate_x0_variance(net, x0, generator(0, "noise")).tolist() == [0] * 6


def test_the_perfect_network_of_this_file_is_the_best_linear_one():
    """Its error on draws averages to 0, and to 0 times x_t, within 5 standard errors."""
    schedule, n = linear(T), 20_000
    x0 = MEAN + VARIANCE**0.5 * normal(n, 1, stream="x0")
    eps = normal(n, 1, stream="eps")
    for kind in KINDS:
        x_t = diffuse(schedule, x0, 8, eps)
        wanted = target(schedule, kind, x0, eps, 8)
        share = torch.full((n,), 8 / T, dtype=torch.float64)
        rest = wanted - Perfect(schedule, kind)(x_t, share)
        for regressor in [torch.ones_like(x_t), x_t - x_t.mean()]:
            z = (rest * regressor).mean() / (rest * regressor).std() * n**0.5
            assert abs(z.item()) < 5


def test_predict_gets_the_networks_output_unchanged():
    x = normal(4, 3)
    said = Learned(ByLabel(), linear(T), "eps", torch.arange(4))(x, 6)
    output = ByLabel()(x, torch.full((4,), 6 / T, dtype=torch.float64), torch.arange(4))
    wanted = predict(linear(T), "eps", output, x, 6)
    assert torch.equal(said.x0, wanted.x0) and torch.equal(said.eps, wanted.eps)
