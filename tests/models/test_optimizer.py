"""Optimisers do what their update rules say, and refuse settings that are not theirs."""

import numpy as np
import pytest
import torch
from torch import nn

from udl_lab.models.optimizer import make_optimizer

START = np.array([1.0, -2.0, 0.5])
CURVATURE = np.array([1.0, 3.0, 0.2])


def three_steps(settings):
    """The path on the quadratic sum(c w² / 2), whose gradient is c w."""
    weight = nn.Parameter(torch.tensor(START))
    optimizer = make_optimizer([weight], settings)
    path = []
    for _ in range(3):
        optimizer.zero_grad()
        (torch.tensor(CURVATURE) * weight.square() / 2).sum().backward()
        optimizer.step()
        path.append(weight.detach().numpy().copy())
    return path


def assert_path(settings, by_hand):
    for mine, expected in zip(three_steps(settings), by_hand, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-13)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd_steps_by_its_update_rule(momentum, nesterov, weight_decay):
    """Sutskever et al. 2013 in torch's form: v = m v + g; w -= lr v, Nesterov: lr (g + m v)."""
    w, v, path = START.copy(), np.zeros(3), []
    for _ in range(3):
        g = CURVATURE * w + weight_decay * w
        v = momentum * v + g
        w = w - 0.1 * (g + momentum * v if nesterov else v)
        path.append(w)
    settings = {"name": "sgd", "lr": 0.1, "momentum": momentum, "nesterov": nesterov}
    assert_path(settings | {"weight_decay": weight_decay}, path)


def test_sgd_alone_is_plain_gradient_descent():
    """On a quadratic each weight shrinks by 1 - lr c a step."""
    assert_path({"name": "sgd", "lr": 0.1}, [START * (1 - 0.1 * CURVATURE) ** k for k in (1, 2, 3)])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_steps_by_its_update_rule(name):
    """Kingma & Ba 2015, algorithm 1; AdamW decays the weight itself (Loshchilov & Hutter 2019)."""
    lr, b1, b2, eps, decay = 0.1, 0.8, 0.95, 1e-6, 0.02
    w, m, v, path = START.copy(), np.zeros(3), np.zeros(3), []
    for t in (1, 2, 3):
        g = CURVATURE * w + (decay * w if name == "adam" else 0)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        w = w * (1 - lr * decay) if name == "adamw" else w
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        path.append(w)
    settings = {"name": name, "lr": lr, "betas": (b1, b2), "eps": eps, "weight_decay": decay}
    assert_path(settings, path)


def test_what_is_left_out_takes_torchs_default():
    weight = nn.Parameter(torch.zeros(1))
    theirs = torch.optim.AdamW([weight], lr=0.1).defaults | {"fused": True}  # the same, faster
    assert make_optimizer([weight], {"name": "adamw", "lr": 0.1}).defaults == theirs


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"name": "sgd", "lr": 0.1, "betas": (0.9, 0.999)}, "betas"),
        ({"name": "sgd", "lr": 0.1, "eps": 1e-8}, "eps"),
        ({"name": "adam", "lr": 0.1, "momentum": 0.9}, "momentum"),
        ({"name": "adamw", "lr": 0.1, "nesterov": True}, "nesterov"),
    ],
)
def test_a_setting_of_another_optimiser_is_refused_by_name(settings, wrong):
    with pytest.raises(ValueError, match=settings["name"]) as caught:
        make_optimizer([nn.Parameter(torch.zeros(1))], settings)
    assert wrong in str(caught.value)
    assert "model.optimizer" in str(caught.value)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        make_optimizer([nn.Parameter(torch.zeros(1))], {"name": "sgd", "lr": 0.1, "nesterov": True})
