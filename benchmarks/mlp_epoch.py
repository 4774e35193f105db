"""One epoch of the JAX homework's network on MNIST: 784-1024-128-10, tanh, batches of 128, SGD."""

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from _loops import LabSeconds, bare_epoch, lab_epoch, print_fit, shuffled
from _timing import (
    Case,
    arguments,
    in_turn,
    mnist_root,
    print_conditions,
    print_table,
    print_verdict,
    ratio,
    seconds,
    spread,
)
from torch import Tensor, nn

from udl_lab.data.mnist import mnist

SIZES, BATCH_SIZE, LR = (784, 1024, 128, 10), 128, 0.1
OURS, BARE, JAX = "ours (udl_lab.train)", "bare torch", "JAX, a jitted step a call"


def mlp() -> nn.Module:
    """The network, with torch's initial weights: they do not change the time."""
    a, b, c, d = SIZES
    return nn.Sequential(
        nn.Flatten(), nn.Linear(a, b), nn.Tanh(), nn.Linear(b, c), nn.Tanh(), nn.Linear(c, d)
    )


def jax_epoch(x: Tensor, y: Tensor) -> Case:
    """As in the homework: batches cut from NumPy arrays on the host, one jitted step a call."""
    import jax
    from jax import numpy as jnp

    images, labels = x.flatten(1).numpy(), np.eye(10, dtype=np.float32)[y.numpy()]
    random = np.random.default_rng(0)

    def loss(layers, batch, targets):
        for weight, bias in layers[:-1]:
            batch = jnp.tanh(batch @ weight + bias)
        weight, bias = layers[-1]
        return -(targets * jax.nn.log_softmax(batch @ weight + bias)).sum(1).mean()

    @jax.jit
    def step(layers, batch, targets):
        gradients = jax.grad(loss)(layers, batch, targets)
        return jax.tree.map(lambda value, gradient: value - LR * gradient, layers, gradients)

    def epoch() -> None:
        layers = [
            (0.1 * random.normal(size=(a, b)).astype(np.float32), np.zeros(b, np.float32))
            for a, b in pairwise(SIZES)
        ]
        order = random.permutation(len(labels))
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            layers = step(layers, images[rows], labels[rows])
        jax.block_until_ready(layers)

    return lambda: seconds(epoch)


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time the cases, and print their ratios and the verdict."""
    parser = arguments(__doc__, repeats=7)
    options = parser.parse_args(arguments_given)
    root = mnist_root(parser, options.data_root)
    print_conditions(torch.get_num_threads())
    x, y = mnist(root).train
    runs: list[LabSeconds] = []

    def ours() -> float:
        runs.append(lab_epoch(["experiment=jax_mnist/base", "data=mnist", f"data.root={root}"]))
        return runs[-1].epoch

    cases = {
        BARE: lambda: seconds(lambda: bare_epoch(mlp(), shuffled(x, y, BATCH_SIZE), LR)),
        OURS: ours,
    }
    if find_spec("jax"):
        cases[JAX] = jax_epoch(x, y)
    else:
        print("No row for JAX, which is not installed:  pip install -e '.[bench]'")
    times = in_turn(cases, options.repeats, options.warm_up)
    print_table(
        ["case", "s/epoch", "µs/image", "time / bare"],
        [
            (
                name,
                f"{spread(times[name]):.2f}",
                f"{1e6 * statistics.median(times[name]) / len(y):.1f}",
                f"{ratio(times, name, BARE):.2f}",
            )
            for name in cases
        ],
    )
    print_fit(runs[options.warm_up :])
    print_verdict("ours / bare torch", ratio(times, OURS, BARE), "at most", 1.2, ".2f")


if __name__ == "__main__":
    main()
