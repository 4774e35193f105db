"""Samples of the ring by networks that know the law, or only their examples."""

import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.diffusion.denoisers import Empirical
from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.schedule import linear
from udl_lab.diffusion.walks import DDIM, DDPM
from udl_lab.probes.subject import Subject
from udl_lab.probes.vector_samples import VectorSamples
from udl_lab.randomness import generator

SCHEDULE = linear(1000)
RING = make_law("ring", SCHEDULE)
N = 200
# Down to level 1, whose noise of .01 tells points apart; level 50 of 20 even steps has .24.
FINE = DDIM(40, spacing="quadratic")


class Knowing(nn.Module):
    """What a denoiser says of x_0, as a network."""

    def __init__(self, truth):
        super().__init__()
        self.truth = truth

    def forward(self, x, share):
        t = (share.double() * self.truth.schedule.n_steps).round().long()
        return self.truth(x.double(), t).x0.to(x)


def drawn(n, stream):
    x = RING.sample(n, generator(0, stream)).float()
    return Examples(x, torch.zeros(n, dtype=torch.int64))


def learned(truth):
    return Learned(Knowing(truth), SCHEDULE, "x0")


def measured(truth, train, unaveraged=None, n_test=N, **settings):
    net = learned(truth)
    last = None if unaveraged is None else learned(unaveraged)
    subject = Subject(net.net, net.net, drawn(n_test, "test"), 0.0, train, net, last)
    settings = {"samplers": [DDIM(20)], "law": "ring", "n": N, **settings}
    return {r.key.removeprefix("/"): r for r in VectorSamples(**settings)(subject)}


@pytest.fixture(scope="module")
def exact():
    return measured(RING, drawn(300, "train"), samplers=[DDIM(20), DDPM(20)])


@pytest.fixture(scope="module")
def memory():
    """A network that knows twenty points, which it was trained on."""
    train = drawn(20, "few")
    return measured(Empirical(SCHEDULE, train.x), train, samplers=[FINE])


def test_there_are_rows_for_each_sampler_and_a_baseline(exact):
    each = ["sliced_w2", "mmd2", "mmd_p", "share_copied", "share_closer_to_train"]
    labels = ["ddim20_eta0", "ddpm20_small"]
    wanted = [f"{name}@{label}" for label in labels for name in each]
    wanted += [f"sliced_w2_exact@{label}" for label in labels]
    assert list(exact) == ["sliced_w2_baseline", "share_copied_baseline", *wanted]
    assert {row.n for row in exact.values()} == {N}


def test_samples_of_a_network_that_knows_the_law_are_as_far_as_real_ones(exact):
    """Of 20 sets of 200 draws the distance is .136 ± .033, as a deviation of one set."""
    baseline = exact["sliced_w2_baseline"].estimate
    for label in ("ddim20_eta0", "ddpm20_small"):
        assert exact[f"sliced_w2@{label}"].estimate == pytest.approx(baseline, abs=4 * 0.033)
        assert exact[f"mmd_p@{label}"].estimate > 0.01
        assert abs(exact[f"mmd2@{label}"].estimate) < 0.01


def test_a_deterministic_walk_ends_where_the_exact_score_ends(exact):
    network, law = exact["sliced_w2@ddim20_eta0"], exact["sliced_w2_exact@ddim20_eta0"]
    assert network.estimate == pytest.approx(law.estimate, abs=1e-5)  # single precision


def test_fresh_samples_are_as_near_to_the_training_set_as_to_the_test_set(exact):
    row = exact["share_closer_to_train@ddim20_eta0"]
    assert row.low < 0.5 < row.high
    # 300 points about eight modes: the ratio of two distances in the plane is under 1/3 by chance
    # once in nine times, whatever the density.
    chance = 1 / 9
    error = (chance * (1 - chance) / N) ** 0.5
    for name in ("share_copied@ddim20_eta0", "share_copied_baseline"):
        assert exact[name].estimate == pytest.approx(chance, abs=4 * error)
        assert exact[name].low < exact[name].estimate < exact[name].high


def test_a_network_that_knows_twenty_points_gives_copies_of_them(memory):
    assert memory[f"share_copied@{FINE.label}"].estimate > 0.98
    row = memory[f"share_closer_to_train@{FINE.label}"]
    assert row.low > 0.5 and row.estimate > 0.98
    # Twenty examples are forty units at most, however many samples are near them.
    assert row.low < 0.95


def test_copies_are_about_as_far_from_real_points_as_what_they_are_copies_of(memory):
    """Which is much further than fresh samples, and as far as twenty points are on average."""
    baseline = memory["sliced_w2_baseline"]
    assert baseline.n == 20
    assert memory[f"sliced_w2@{FINE.label}"].estimate == pytest.approx(baseline.estimate, rel=0.3)
    assert baseline.estimate > 1.3 * memory[f"sliced_w2_exact@{FINE.label}"].estimate


def test_the_last_weights_have_rows_of_their_own_from_the_same_noise(exact):
    few = Empirical(SCHEDULE, drawn(20, "few").x)
    found = measured(few, drawn(300, "train"), unaveraged=RING)
    for name in ("sliced_w2", "mmd_p", "share_closer_to_train"):
        last = found[f"{name}/last_weights@ddim20_eta0"].estimate
        assert last == exact[f"{name}@ddim20_eta0"].estimate
        assert last != found[f"{name}@ddim20_eta0"].estimate
    for name in ("sliced_w2_baseline", "sliced_w2_exact@ddim20_eta0"):
        assert found[name] == exact[name]


def test_there_are_no_more_samples_than_test_examples():
    found = measured(RING, drawn(300, "train"), n_test=50, law=None)
    assert {row.n for row in found.values()} == {50}
    assert "sliced_w2_exact@ddim20_eta0" not in found


def test_measuring_twice_gives_the_same_numbers_and_leaves_the_examples_alone():
    train, net = drawn(60, "train"), learned(RING)
    subject = Subject(net.net, net.net, drawn(60, "test"), 0.0, train, net)
    before = subject.examples.x.clone(), train.x.clone()
    measurement = VectorSamples([DDPM(5)], n=50)
    torch.manual_seed(1)
    first = measurement(subject)
    torch.manual_seed(2)
    assert first == measurement(subject)
    assert torch.equal(subject.examples.x, before[0]) and torch.equal(train.x, before[1])
    assert net.net.training


def test_signals_are_points_of_all_their_numbers():
    """Signals of one channel and two numbers, with the numbers of points in the plane."""

    class OfSignals(Knowing):
        def forward(self, x, share):
            return super().forward(x[:, 0], share).unsqueeze(1)

    def rows(net, shape):
        net = Learned(net, SCHEDULE, "x0")
        parts = [drawn(60, name) for name in ("test", "train")]
        test, train = (Examples(part.x.reshape(shape), part.y) for part in parts)
        return VectorSamples([DDIM(5)], n=50)(Subject(net.net, net.net, test, 0.0, train, net))

    assert rows(OfSignals(RING), (60, 1, 2)) == rows(Knowing(RING), (60, 2))


def test_a_network_that_is_no_denoiser_is_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="Linear is no denoiser; measure a run with model=diff"):
        VectorSamples()(Subject(net, net, drawn(5, "few"), 0.0, drawn(5, "train")))


def test_a_law_of_other_dimensions_than_the_datas_is_refused():
    with pytest.raises(ValueError, match=r"law='book' is of vectors of 1 numbers.*\(2,\)"):
        measured(RING, drawn(20, "train"), law="book")


class Learning(Knowing):
    """A network that says a variance as well, half-way on a logarithmic scale."""

    def forward(self, x, share):
        x0 = super().forward(x, share)
        return torch.stack([x0, torch.zeros_like(x0)], 1)


def test_a_learned_variance_is_measured_without_an_oracles_row():
    net = Learned(Learning(RING), SCHEDULE, "x0")
    subject = Subject(net.net, net.net, drawn(50, "test"), 0.0, drawn(100, "train"), net, None)
    walks = [DDPM(20, variance="learned"), DDPM(20)]
    rows = [r.key for r in VectorSamples(samplers=walks, law="ring", n=50)(subject)]
    assert "/sliced_w2@ddpm20_learned" in rows
    assert [key for key in rows if "exact" in key] == ["/sliced_w2_exact@ddpm20_small"]
