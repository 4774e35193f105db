"""What a sampler does beside its network: one DDIM update, and a walk with look-up tables."""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch
from _timing import (
    Case,
    arguments,
    in_turn,
    print_conditions,
    print_table,
    print_verdict,
    ratio,
    seconds,
    spread,
)

from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.lookup import fit_lookup
from udl_lab.diffusion.plan import make_plan
from udl_lab.diffusion.process import ddim_weights
from udl_lab.diffusion.samplers import ddpm_end, draw_prior
from udl_lab.diffusion.schedule import constant, linear
from udl_lab.randomness import generator

UPDATE, PEER = "ours, two products", "diffusers DDIMScheduler.step"
TABLE, BOOK = "ours, tables in torch, float32", "the book's NumPy, float64"
T, BETA = 100, 0.01511


def updates(calls: int) -> dict[str, Case]:
    """So many updates of 64 images from level 500 by twenty levels, given the network's ε."""
    from diffusers import DDIMScheduler

    schedule = linear(1000)
    x, eps = torch.randn(2, 64, 1, 28, 28, generator=generator(0, "images"))
    peer = DDIMScheduler(num_train_timesteps=1000, clip_sample=False)
    peer.set_timesteps(50)

    def ours() -> None:
        for _ in range(calls):
            weights = ddim_weights(schedule, "eps", 480, 500)
            (weights.of_x * x).add_(eps, alpha=weights.of_output)

    def theirs() -> None:
        for _ in range(calls):
            peer.step(eps, 500, x)

    return {PEER: lambda: seconds(theirs), UPDATE: lambda: seconds(ours)}


def walks(samples: int) -> dict[str, Case]:
    """Ancestral sampling of as many samples of the book's mixture, 100 steps with noise."""
    schedule = constant(T, BETA)
    law = make_law("book", schedule)
    table = fit_lookup(schedule, law.sample(20_000, generator(0, "x")), generator(0, "noise"))
    start = draw_prior(samples, (1,), generator(0, "start"))  # single, as `udl_lab.sample` does
    plan, random = make_plan(schedule, T), np.random.RandomState(0)  # as the book

    def ours() -> torch.Tensor:
        return ddpm_end(table, plan, start, generator(0, "steps"), "large")

    def theirs() -> np.ndarray:
        return book(table.table.numpy(), start[:, 0].double().numpy(), random)

    moments = [(x.mean(), x.std()) for x in (ours().numpy(), theirs())]
    assert np.allclose(*moments, atol=6 / samples**0.5), f"they sample different laws: {moments}"
    return {BOOK: lambda: seconds(theirs), TABLE: lambda: seconds(ours)}


def book(tables: np.ndarray, z: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Algorithm 18.2 as notebook 18.3 has it: states in rows, bins in 32 bits, normal(0, σ).

    But without noise on the last step, or it would sample another law.
    """
    states = np.zeros((T + 1, len(z)))
    states[T, :] = z
    for t in range(T, 0, -1):
        bins = np.floor((states[t, :] + 3.0) / 0.01)
        bins = np.clip(bins, 0, tables.shape[1] - 1).astype("uint32")
        noise_share = BETA / np.sqrt(1 - (1 - BETA) ** t)
        states[t - 1, :] = (states[t, :] - noise_share * tables[t][bins]) / np.sqrt(1 - BETA)
        if t > 1:
            states[t - 1, :] += random.normal(0, np.sqrt(BETA), len(z))
    return states[0]


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time both pairs, and print their ratios and the verdicts."""
    parser = arguments(__doc__, repeats=9)
    parser.add_argument("--calls", type=int, default=500, help="of an update (%(default)s)")
    parser.add_argument("--samples", type=int, default=100_000, help="of a walk (%(default)s)")
    options = parser.parse_args(arguments_given)
    print_conditions(torch.get_num_threads())
    pairs = [(walks(options.samples), TABLE, BOOK, "s a walk", 1.0, 3.0)]
    if find_spec("diffusers"):
        a_call = 1e6 / options.calls
        pairs.insert(0, (updates(options.calls), UPDATE, PEER, "µs an update", a_call, 6.0))
    else:
        print("No rows for diffusers: pip install -e '.[dev]'")
    rows, verdicts = [], []
    for cases, case, peer, unit, scale, target in pairs:
        times = in_turn(cases, options.repeats, options.warm_up)
        faster = ratio(times, peer, case)
        for name in cases:
            shown = spread(scale * taken for taken in times[name])
            rows.append((name, f"{shown:.3g} {unit}", f"{ratio(times, peer, name):.2f}"))
        verdicts.append((f"{case}, times faster than {peer}", faster, target))
    print_table(["case", "time", "times faster than its peer"], rows)
    for what, faster, target in verdicts:
        print_verdict(what, faster, "at least", target, ".1f")


if __name__ == "__main__":
    main()
