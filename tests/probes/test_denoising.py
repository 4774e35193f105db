"""Errors by level of networks that know the truth, or err by a known amount."""

import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.diffusion.denoisers import Empirical
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.process import velocity
from udl_lab.diffusion.schedule import constant, linear
from udl_lab.probes.denoising import Denoising
from udl_lab.probes.subject import Subject
from udl_lab.randomness import generator

BOOK = constant(100, 0.01511)
LEVELS = ["t25", "t50", "t75", "t100"]


class Knowing(nn.Module):
    """What a denoiser says, in double precision and then rounded, as a network; off by `bias`."""

    def __init__(self, truth, kind="eps", bias=0.0):
        super().__init__()
        self.truth = truth
        self.kind = kind
        self.bias = bias

    def forward(self, x, share):
        t = (share.double() * self.truth.schedule.n_steps).round().long()
        said = self.truth(x.double(), t)
        v = velocity(self.truth.schedule, said.x0, said.eps, t)
        return ({"eps": said.eps, "x0": said.x0, "v": v}[self.kind] + self.bias).to(x)


def book():
    return make_law("book", BOOK)


def drawn(n, stream, law=None):
    x = (law or book()).sample(n, generator(0, stream)).float()
    return Examples(x, torch.zeros(n, dtype=torch.int64))


def learned(truth, kind="eps", bias=0.0):
    return Learned(Knowing(truth, kind, bias), truth.schedule, kind)


def measured(denoiser, unaveraged=None, train=None, examples=None, **settings):
    settings = {"law": "book", "n_levels": 4, **settings}
    examples = drawn(500, "test") if examples is None else examples
    subject = Subject(denoiser.net, denoiser.net, examples, 0.0, train, denoiser, unaveraged)
    return {r.key.removeprefix("/"): r for r in Denoising(**settings)(subject)}


@pytest.fixture(scope="module")
def exact():
    return measured(learned(book()))


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_a_network_that_knows_the_law_has_no_excess_whatever_it_predicts(kind):
    found = measured(learned(book(), kind))
    # x_0 rounded to 1e-7 is ε to 1e-7 √SNR, of an SNR of 2 at level 25.
    for where in ("", *(f"@{t}" for t in LEVELS)):
        assert 0 <= found[f"excess{where}"].estimate < 1e-13


def test_its_error_is_the_floor_but_for_chance(exact):
    for t in LEVELS:
        error, floor = exact[f"eps_error@{t}"], exact[f"floor@{t}"]
        # Twice the half-width of a 95 % interval is four standard errors.
        assert abs(error.estimate - floor.estimate) < 2 * (error.high - error.estimate)
        # The floor is the mean of a variance, and not of the errors themselves.
        assert floor.high - floor.low < 0.6 * (error.high - error.low)


def test_the_error_of_the_law_itself_is_on_the_networks_own_noise(exact):
    """Which subtraction takes out: of an error of c, c² − 2 c (ε − E[ε | x_t]) is left."""
    off = measured(learned(book(), bias=0.25))
    for t in LEVELS:
        error, law = exact[f"eps_error@{t}"], exact[f"eps_error_exact@{t}"]
        assert error.estimate == pytest.approx(law.estimate, abs=1e-7)  # single precision
        assert off[f"eps_error_exact@{t}"] == law
        left = off[f"eps_error@{t}"].estimate - law.estimate
        deviation = law.estimate**0.5
        assert left == pytest.approx(0.0625, abs=4 * 0.5 * deviation / 500**0.5)


def test_the_floor_of_the_law_is_the_one_of_the_notes():
    """.4985 over the levels 1 to 100: /work/shared/notes/generative.md, section 2d."""
    found = measured(learned(book()), n_levels=100)
    assert found["floor"].estimate == pytest.approx(0.4985, abs=found["floor"].high - 0.4985)
    assert found["floor"].high - found["floor"].low < 0.03


def test_a_constant_error_is_an_excess_of_its_square_at_every_level(exact):
    found = measured(learned(book(), bias=0.25))
    for where in ("", *(f"@{t}" for t in LEVELS)):
        row = found[f"excess{where}"]
        assert row.estimate == pytest.approx(0.0625, abs=1e-7)  # outputs rounded to single
        assert row.high - row.low < 1e-7
        assert found[f"floor{where}"] == exact[f"floor{where}"]
        assert found[f"eps_error{where}"].estimate > exact[f"eps_error{where}"].estimate


@pytest.mark.parametrize(
    ("n_steps", "n_levels", "levels"),
    [(100, 4, [25, 50, 75, 100]), (100, 3, [33, 66, 100]), (6, 1, [6]), (3, 20, [1, 2, 3])],
)
def test_levels_are_evenly_spaced_and_the_last_is_the_noisiest(n_steps, n_levels, levels):
    law = make_law("book", constant(n_steps, 0.1))
    found = measured(learned(law), n_levels=n_levels, examples=drawn(5, "few"))
    assert [key for key in found if key.startswith("floor")] == [
        "floor",
        *(f"floor@t{t}" for t in levels),
    ]


def test_a_row_without_a_level_is_the_mean_over_levels(exact):
    for name in ("eps_error", "floor"):
        mean = sum(exact[f"{name}@{t}"].estimate for t in LEVELS) / len(LEVELS)
        assert exact[name].estimate == pytest.approx(mean, rel=1e-12)
        assert exact[name].n == exact[f"{name}@t25"].n == 500
        # Deviations of a mean are at most the mean of the deviations; the levels' noise differs.
        widths = [exact[f"{name}@{t}"].high - exact[f"{name}@{t}"].low for t in LEVELS]
        assert exact[name].high - exact[name].low < 0.9 * sum(widths) / len(LEVELS)


def test_so_many_examples_are_measured_as_are_asked_for():
    assert {r.n for r in measured(learned(book()), n_examples=30).values()} == {30}


def test_the_last_weights_have_rows_of_their_own_on_the_same_noise(exact):
    found = measured(learned(book(), bias=0.5), unaveraged=learned(book()))
    assert len(found) == 2 * len(exact)
    for key, row in exact.items():
        name, _, level = key.partition("@")
        last = found[f"{name}/last_weights{'@' if level else ''}{level}"]
        assert (last.estimate, last.low, last.high) == (row.estimate, row.low, row.high)
    assert found["excess@t100"].estimate == pytest.approx(0.25, abs=1e-6)


def test_dimensions_are_averaged_and_not_summed():
    """An error of a half in one of two coordinates is an excess of an eighth."""
    law = make_law("ring", linear(100))
    off = learned(law, bias=torch.tensor([0.5, 0.0]))
    found = measured(off, examples=drawn(50, "ring", law), law="ring")
    assert found["excess"].estimate == pytest.approx(0.125, abs=1e-7)
    assert found["floor"].estimate < 1


def test_without_a_law_only_the_error_is_measured(exact):
    found = measured(learned(book()), law=None)
    assert found == {key: row for key, row in exact.items() if row.metric == "eps_error"}


def test_a_network_that_has_learned_its_examples_by_heart_lacks_the_law():
    train = drawn(8, "train")
    found = measured(learned(Empirical(BOOK, train.x)), train=train, empirical=True)
    assert 0 <= found["excess_empirical"].estimate < 1e-10
    assert found["excess"].low > 1e-3


def test_a_network_that_has_learned_the_law_is_far_from_the_examples_answer():
    found = measured(learned(book()), train=drawn(8, "train"), empirical=True)
    assert found["excess"].estimate < 1e-13
    assert found["excess_empirical"].low > 1e-3
    assert "excess_empirical" not in measured(learned(book()), train=drawn(8, "train"))


def test_measuring_is_in_evaluation_mode_and_leaves_no_trace():
    denoiser = learned(book())
    modes = []
    denoiser.net.register_forward_hook(lambda net, *_: modes.append(net.training))
    examples = drawn(5, "few")
    before = examples.x.clone()
    measured(denoiser.net.train() and denoiser, examples=examples)
    assert modes and not any(modes)
    assert denoiser.net.training
    assert torch.equal(examples.x, before)


def test_a_network_that_is_no_denoiser_is_refused():
    net = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="Linear is no denoiser; measure a run with model=diff"):
        Denoising()(Subject(net, net, drawn(5, "few"), 0.0))


@pytest.mark.parametrize(("law", "dimensions"), [("ring", 2), ("book", 1)])
def test_a_law_of_other_dimensions_than_the_datas_is_refused(law, dimensions):
    """Broadcasting would give numbers, and they would mean nothing."""
    x = torch.zeros(5, 3 - dimensions)
    examples = Examples(x, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match=rf"law='{law}'.* {dimensions} .*\({3 - dimensions},\)"):
        measured(learned(make_law(law, BOOK)), examples=examples, law=law)
