"""The optimiser of the IWAE paper's code, step by step."""

import udl_lab.runs  # noqa: F401  # isort: skip

import copy
import math

import torch
from torch import nn

from udl_lab.models.optimizer import make_optimizer

SETTINGS = {"name": "burda2015", "lr": 1e-3, "betas": (0.99, 0.999), "eps": 1e-4}


def quadratic(start=(1.0, -2.0)):
    """A loss whose gradient is 3 w."""
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return weight, make_optimizer([weight], SETTINGS)


def walk(weight, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (1.5 * weight.square().sum()).backward()
        optimizer.step()
    return weight.detach().clone()


def by_hand(w, steps):
    """The original's updates, in its own order: all right-hand sides hold the old values."""
    m, v = 0.0, 1.0
    for t in range(1, steps + 1):
        gradient = -3 * w  # it climbs
        alpha = 1e-3 * math.sqrt(1 - 0.999**t) / (1 - 0.99**t)
        new_m = 0.99 * m + (1 - 0.99) * gradient
        new_v = 0.999 * v + (1 - 0.999) * gradient**2
        w = w + alpha * m / (math.sqrt(v) + 1e-4)
        m, v = new_m, new_v
    return w


def test_its_first_steps_are_those_of_the_original():
    for steps in (1, 2, 3, 50):
        found = walk(*quadratic(), steps)
        expected = torch.tensor([by_hand(1.0, steps), by_hand(-2.0, steps)], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_the_first_step_moves_nothing_and_the_second_by_the_first_gradient():
    assert torch.equal(walk(*quadratic(), 1), torch.tensor([1.0, -2.0]).double())
    # m = .01 · 3, v = .999 + .001 · 9, t = 2.
    alpha = 1e-3 * math.sqrt(1 - 0.999**2) / (1 - 0.99**2)
    expected = 1 - alpha * 0.03 / (math.sqrt(0.999 + 0.009) + 1e-4)
    assert math.isclose(walk(*quadratic(), 2)[0], expected, rel_tol=1e-13)


def test_it_goes_on_from_a_saved_state():
    whole = walk(*quadratic(), 8)
    weight, optimizer = quadratic()
    walk(weight, optimizer, 5)
    state = copy.deepcopy(optimizer.state_dict())
    other, resumed = quadratic(weight.tolist())
    resumed.load_state_dict(state)
    assert torch.equal(walk(other, resumed, 3), whole)


def test_a_weight_without_a_gradient_stays():
    used, unused = (nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = make_optimizer([used, unused], SETTINGS)
    for _ in range(2):
        optimizer.zero_grad()
        used.sum().backward()
        optimizer.step()
    assert unused == 1 and used < 1
    assert unused not in optimizer.state
