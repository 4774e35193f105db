"""What one optimiser step costs beyond its arithmetic: a linear map of 16 numbers to 4 classes."""

from collections.abc import Sequence

import torch
from _loops import LabSeconds, bare_epoch, lab_epoch, print_fit, shuffled
from _timing import (
    arguments,
    difference,
    in_turn,
    print_conditions,
    print_table,
    print_verdict,
    ratio,
    seconds,
    spread,
)
from torch import nn

from udl_lab.data.source import Examples, Source

BATCH_SIZE, LR = 30, 0.1
OURS, BARE = "ours (udl_lab.train)", "bare torch"


def points(root: str, n_train: int) -> Source:
    """Random points with random labels. `root` is not used: nothing is read."""
    random = torch.Generator().manual_seed(0)

    def draw(n: int) -> Examples:
        x = torch.randn(n, 16, generator=random)
        return Examples(x, torch.randint(4, (n,), generator=random))

    return Source(draw(n_train), draw(100))


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time the cases, and print their difference and the verdict."""
    parser = arguments(__doc__, repeats=7)
    parser.add_argument("--steps", type=int, default=2000, help="of an epoch (%(default)s)")
    options = parser.parse_args(arguments_given)
    print_conditions(torch.get_num_threads())
    n_train = BATCH_SIZE * options.steps
    x, y = points("", n_train).train
    runs: list[LabSeconds] = []

    def ours() -> float:
        runs.append(
            lab_epoch(
                [
                    "study=benchmarks",
                    "arm=step_overhead",
                    "net=linear",
                    "augment=none",
                    "data=mnist1d",
                    "data.source._target_=step_overhead.points",
                    f"+data.source.n_train={n_train}",
                    f"data.batch_size={BATCH_SIZE}",
                    "example.shape=[16]",
                    "example.n_classes=4",
                ]
            )
        )
        return runs[-1].epoch

    def bare() -> float:
        batches = shuffled(x, y, BATCH_SIZE)
        return seconds(lambda: bare_epoch(nn.Linear(16, 4), batches, LR))

    times = in_turn({BARE: bare, OURS: ours}, options.repeats, options.warm_up)
    a_step = {name: [1e6 * s / options.steps for s in taken] for name, taken in times.items()}
    print_table(
        ["case", "µs/step", "µs over bare", "time / bare"],
        [
            (
                name,
                f"{spread(a_step[name]):.0f}",
                f"{difference(a_step, name, BARE):.0f}",
                f"{ratio(a_step, name, BARE):.2f}",
            )
            for name in a_step
        ],
    )
    print_fit(runs[options.warm_up :])
    over = difference(a_step, OURS, BARE)
    print_verdict("ours less bare, µs a step", over, "at most", 1000, ".0f")


if __name__ == "__main__":
    main()
