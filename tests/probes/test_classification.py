"""Accuracy, loss and their references by hand, on outputs that are given as examples."""

import json
import math

import pytest
import torch
from torch import nn

from udl_lab.data.source import Examples
from udl_lab.probes.classification import Classification
from udl_lab.probes.statistics import proportion
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import records
from udl_lab.randomness import generator


def measured(outputs, labels, net=None):
    """The rows by name; without a network, the examples are the outputs."""
    net = net or nn.Identity()
    outputs, labels = torch.as_tensor(outputs), torch.as_tensor(labels)
    rows = Classification()(Subject(net, net, Examples(outputs, labels), 0.0))
    return {row.metric: row for row in rows}


# Softmax: (1/2, 1/4, 1/4), (1/8, 3/4, 1/8), (1/3, 1/3, 1/3) and (1/2, 1/4, 1/4) again.
LOG = math.log
OUTPUTS = [[LOG(2), 0, 0], [0, LOG(6), 0], [5, 5, 5], [LOG(2) - 3, -3.0, -3]]
LABELS = [0, 1, 2, 2]


def test_the_rows_are_those_by_hand():
    rows = measured(OUTPUTS, LABELS)
    assert rows["accuracy"].estimate == 0.5  # argmax takes the first of a tie
    # The probabilities of the labels are 1/2, 3/4, 1/3 and 1/4: their product is 1/32.
    # The float32 logits are rounded by 6e-8 of at most 5, and not more rounded by float64.
    assert rows["loss_nats"].estimate == pytest.approx(LOG(32) / 4, abs=3e-7)
    assert rows["accuracy_of_commonest_class"].estimate == 0.5
    assert rows["classes_named"].estimate == 2
    assert all(row.n == 4 for row in rows.values())


def test_the_loss_has_students_interval_over_examples():
    row = measured(torch.tensor(OUTPUTS, dtype=torch.float64), LABELS)["loss_nats"]
    losses = [LOG(2), LOG(4 / 3), LOG(3), LOG(4)]
    centre = sum(losses) / 4
    variance = sum((loss - centre) ** 2 for loss in losses) / 3
    half = 3.1824463053 * math.sqrt(variance / 4)  # t(0.975) for 3 degrees of freedom, from a table
    assert (row.low, row.high) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_the_accuracies_have_wilsons_intervals():
    rows = measured(torch.eye(3).repeat(4, 1), [0, 1, 2, 0, 0, 0, 1, 1, 1, 0, 1, 0])
    right, most = proportion(7, 12), proportion(6, 12)
    assert (rows["accuracy"].low, rows["accuracy"].high) == (right.low, right.high)
    control = rows["accuracy_of_commonest_class"]
    assert (control.estimate, control.low, control.high) == (most.estimate, most.low, most.high)


def test_a_constant_predictor_of_the_commonest_class_reaches_the_control_and_names_one_class():
    labels = [3, 1, 3, 3, 0]
    rows = measured(torch.eye(4)[[3] * 5], labels)
    assert rows["accuracy"].estimate == rows["accuracy_of_commonest_class"].estimate == 3 / 5
    assert rows["classes_named"].estimate == 1


def test_a_network_that_knows_nothing_loses_the_logarithm_of_the_number_of_classes():
    row = measured(torch.zeros(6, 10), [0, 1, 2, 3, 4, 5])["loss_nats"]
    assert (row.estimate, row.low, row.high) == pytest.approx((LOG(10),) * 3, abs=1e-15)


def test_a_confident_mistake_is_as_large_as_it_is_and_not_infinite():
    # The softmax of the label is exp(-1000), which is 0 in float64 too.
    assert measured([[1000.0, 0], [0, 1000]], [1, 1])["loss_nats"].estimate == 500


def test_all_examples_count_in_more_batches_than_one():
    g = generator(0)
    x, y = torch.randn(2500, 5, generator=g), torch.randint(5, (2500,), generator=g)
    rows = measured(x, y)
    assert rows["accuracy"].n == 2500
    right = sum(int(a == b) for a, b in zip(x.argmax(1).tolist(), y.tolist(), strict=True))
    assert rows["accuracy"].estimate == right / 2500


def test_the_network_is_measured_in_evaluation_mode_and_stays_in_training():
    net = nn.Sequential(nn.Dropout(1 - 1e-9)).train()  # in training mode it names class 0 always
    rows = measured(torch.eye(4), [0, 1, 2, 3], net)
    assert rows["accuracy"].estimate == 1
    assert net.training and net[0].training


def test_labels_may_be_any_integers():
    labels = torch.tensor(LABELS, dtype=torch.int32)
    assert measured(OUTPUTS, labels) == measured(OUTPUTS, LABELS)


def test_the_rows_are_valid_json():
    rows = records(measured(OUTPUTS, LABELS).values())
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
