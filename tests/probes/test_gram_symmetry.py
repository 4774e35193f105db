"""The measurement on networks whose hidden weights are known figures."""

import math

import pytest
import torch
from torch import nn

from udl_lab.data.orbits import orbits
from udl_lab.data.source import Examples
from udl_lab.probes.gram_symmetry import GramSymmetry, within_classes
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import records
from udl_lab.randomness import generator


def network(degrees, radius=2.0):
    """Hidden rows at these angles, no biases, and a readout that names the largest sum."""
    t = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float32))
    net = nn.Sequential(nn.Linear(2, len(t)), nn.ReLU(), nn.Linear(len(t), 5))
    with torch.no_grad():
        net[0].weight.copy_(radius * torch.stack([t.cos(), t.sin()], dim=1))
        net[0].bias.zero_()
        net[2].weight.copy_(torch.arange(1.0, 6)[:, None].expand(5, len(t)))
    return net


def measured(net, untrained=None, examples=None):
    examples = examples or orbits("", n_angles=24).test
    rows = GramSymmetry()(Subject(net, untrained or net, examples, 0.0))
    return {row["key"].removeprefix("/"): row["estimate"] for row in records(rows)}


def test_a_regular_polygon_is_circulant_with_a_cyclic_group():
    rows = measured(network(range(5, 365, 30)))
    for error in ("sorted_gram_error", "circulant_error", "pairing_error", "anisotropy"):
        assert rows[error] < 1e-6  # float32 weights
    assert rows["norm"] == pytest.approx(2)
    assert rows["norm_ratio"] == pytest.approx(1)
    assert (rows["places"], rows["automorphisms"]) == (12, 24)
    assert (rows["group"], rows["transitive"], rows["cyclic"]) == (1, 1, 1)


def test_a_pair_of_hexagons_is_an_orbit_and_not_circulant():
    degrees = [k * 60 + offset for k in range(6) for offset in (5, 27)]  # 22 and 38 apart
    rows = measured(network(degrees))
    assert rows["sorted_gram_error"] < 1e-6
    assert rows["circulant_error"] == pytest.approx(math.sin(math.radians(8)) / math.sqrt(2), 1e-4)
    assert rows["pairing_error"] > 0.05
    assert (rows["places"], rows["automorphisms"]) == (12, 12)
    assert (rows["group"], rows["transitive"], rows["cyclic"]) == (1, 1, 0)


def test_doubled_rows_hide_nothing_for_places_count_once():
    degrees = [k * 120 + offset for k in range(3) for offset in (5, 45)] * 2
    rows = measured(network(degrees))
    assert (rows["places"], rows["automorphisms"], rows["cyclic"]) == (6, 6, 0)
    assert rows["pairing_error"] > 0.05


def test_a_place_that_is_taken_twice_is_not_exchanged_for_one_taken_once():
    """A square with a double corner keeps the mirror through it, of its eight symmetries."""
    rows = measured(network([0, 0, 90, 180, 270]))
    assert (rows["places"], rows["automorphisms"], rows["transitive"]) == (4, 2, 0)


def test_a_collapse_is_told_by_places_and_anisotropy():
    rows = measured(network([30] * 12))
    assert rows["sorted_gram_error"] < 1e-6
    assert (rows["places"], rows["automorphisms"]) == (1, 1)
    assert rows["anisotropy"] == pytest.approx(1, abs=1e-6)
    zero = measured(network([30] * 12, radius=0.0))
    assert (zero["norm"], zero["norm_ratio"], zero["places"]) == (0, 0, 1)


def test_rows_at_random_have_no_symmetry():
    degrees = 360 * torch.rand(12, generator=generator(1, "degrees"))
    rows = measured(network(degrees))
    assert rows["sorted_gram_error"] > 0.1
    assert (rows["automorphisms"], rows["transitive"], rows["cyclic"]) == (1, 0, 0)


def test_the_untrained_network_has_rows_of_its_own():
    rows = measured(network(range(0, 360, 30)), untrained=network([30] * 12))
    assert rows["places"] == 12
    assert rows["places_untrained"] == 1
    assert rows["anisotropy_untrained"] == pytest.approx(1, abs=1e-6)


def test_pooling_over_an_orbit_of_units_is_invariant_under_its_group():
    """A 24-gon of units and points every 15 degrees: the mean activation is the radius, exactly."""
    examples = orbits("", n_angles=24).train
    rows = measured(network(range(0, 360, 15)), examples=examples)
    assert rows["within_orbits/pooled"] < 1e-12
    assert rows["within_orbits/output"] < 1e-12
    one_sided = measured(network([0] * 12), examples=examples)
    assert one_sided["within_orbits/pooled"] > 0.5


def test_the_share_within_classes_is_that_of_the_analysis_of_variance():
    features = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    # Around the class means 1 and 5: 4 in all; around the mean 3: 20.
    assert within_classes(features, torch.tensor([0, 0, 1, 1])) == pytest.approx(4 / 20)
    assert within_classes(features, torch.zeros(4).long()) == 1
    assert within_classes(features, torch.arange(4)) == 0
    assert within_classes(torch.ones(4, 2), torch.arange(4)) == 0


def test_inputs_that_are_no_vectors_of_the_plane_are_refused():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    examples = Examples(torch.ones(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="3 coordinates instead of 2; use data=orbits"):
        GramSymmetry()(Subject(net, net, examples, 0.0))
