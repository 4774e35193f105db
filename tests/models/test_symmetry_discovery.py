"""The loss of the challenge by hand, its commutator over batches, and grouped steps."""

from udl_lab.configuration import compose
from udl_lab.data.loader import Batch
from udl_lab.data.orbits import orbits
from udl_lab.models.classifier import Classifier
from udl_lab.models.symmetry_discovery import SymmetryDiscovery
from udl_lab.nets.fcn import FCN
from udl_lab.randomness import generator, seeded
from udl_lab.runs.execute import execute

from itertools import combinations  # isort: skip

import numpy as np  # isort: skip
import pytest  # isort: skip
import torch  # isort: skip

ADAM = {"name": "adam", "lr": 0.01}


def make(alpha, beta):
    with seeded(0, "test"):
        return SymmetryDiscovery(FCN([2], 3, [4]), 3, ADAM, alpha, beta).double()


def batch(n=20):
    g = generator(0, "batch")
    x = torch.randn(n, 2, generator=g, dtype=torch.float64)
    return Batch(x, torch.randint(3, (n,), generator=g), None)


def test_the_loss_is_the_sum_of_its_three_parts_by_hand():
    model, examples = make(0.3, 0.7), batch()
    numbers = model.losses(examples)
    w = model.net.hidden[0].linear.weight.detach().numpy()
    x = examples.x.numpy()
    columns = np.sort(w @ w.T, axis=0)
    penalty = sum(((columns[:, i] - columns[:, j]) ** 2).sum() for i in range(4) for j in range(i))
    a, b = x.T @ x / 20, w.T @ w / 4
    commutator = ((a @ b - b @ a) ** 2).sum()
    cross_entropy = Classifier(model.net, 3, ADAM).losses(examples)["loss"].item()
    assert numbers["sorted_gram"].item() == pytest.approx(penalty, rel=1e-12)
    assert numbers["commutator"].item() == pytest.approx(commutator, rel=1e-12)
    assert numbers["cross_entropy_nats"].item() == pytest.approx(cross_entropy, rel=1e-12)
    whole = cross_entropy + 0.3 * penalty + 0.7 * commutator
    assert numbers["loss"].item() == pytest.approx(whole, rel=1e-12)
    assert [name for name in numbers if numbers[name].requires_grad] == ["loss"]


def test_without_the_two_weights_the_gradient_is_the_classifiers():
    model, examples = make(0.0, 0.0), batch()
    model.losses(examples)["loss"].backward()
    mine = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    Classifier(model.net, 3, ADAM).losses(examples)["loss"].backward()
    for gradient, weight in zip(mine, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-12, atol=0)


def test_on_whole_orbits_the_commutator_is_0_for_every_set_of_weights():
    points = orbits("", n_orbits=3, n_angles=5).train
    numbers = make(0.0, 1.0).losses(Batch(points.x.double(), points.y, None))
    assert numbers["commutator"] < 1e-14  # the points are rounded to float32, 2^-24, squared


@pytest.mark.parametrize("b", [1, 2])
def test_over_all_batches_the_mean_commutator_is_the_square_of_the_frames_anisotropy(b):
    """(λ₁ - λ₂)² ⟨r⁴⟩ / 4b, times (N - b) / (N - 1) as points are drawn without replacement."""
    points = orbits("", n_orbits=2, n_angles=5).train
    model = make(0.0, 1.0)
    x, n = points.x.double(), len(points.y)
    values = [
        model.losses(Batch(x[list(rows)], points.y[list(rows)], None))["commutator"].item()
        for rows in combinations(range(n), b)
    ]
    w = model.net.hidden[0].linear.weight.detach()
    low, high = torch.linalg.eigvalsh(w.T @ w / 4).tolist()
    fourth = x.norm(dim=1).pow(4).mean().item()
    expected = (high - low) ** 2 * fourth / (4 * b) * (n - b) / (n - 1)
    assert np.mean(values) == pytest.approx(expected, rel=1e-5)  # points rounded to float32


def test_a_network_without_hidden_units_is_refused():
    with pytest.raises(ValueError, match="no hidden units"):
        SymmetryDiscovery(FCN([2], 3), 3, ADAM, 1.0, 1.0)


def test_ten_steps_in_one_call_are_the_single_steps_bit_for_bit(tmp_path):
    """Rows of the log that ten steps do not fill make the trainer take single ones."""
    weights = []
    for every in (50, 25):
        settings = (
            "experiment=symmetry_discovery/regularised",
            "trainer.max_epochs=2",
            f"trainer.log_every_n_steps={every}",
            "trainer.enable_progress_bar=false",
            "logger=csv",
            "measure=classification",
            f"run_dir={tmp_path / str(every)}",
        )
        folder = execute(compose(settings), quiet=True)
        weights.append(torch.load(folder.last, weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_validation_loss_is_the_cross_entropy_alone(make_trainer):
    from udl_lab.data.resident import ResidentData

    data = ResidentData(orbits, "", 30, 60, 0.0, 1.0, seed=0)
    model = SymmetryDiscovery(FCN([2], 5, [4]), 5, ADAM, 1.0, 1.0)
    trainer = make_trainer()
    trainer.fit(model, data)
    with torch.no_grad():
        log_p = model(data.validation.x).double().log_softmax(1)
    loss = -log_p[torch.arange(60), data.validation.y].mean().item()
    assert trainer.callback_metrics["val/loss_nats"].item() == pytest.approx(loss, rel=1e-5)
