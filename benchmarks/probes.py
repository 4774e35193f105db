"""What it costs to measure: a streamed distance against plain forwards, and a whole C4 report."""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from _timing import (
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
from torch import Tensor

from udl_lab.activations.distances import PairedDistance
from udl_lab.activations.recorder import activations
from udl_lab.data.mnist import mnist
from udl_lab.data.source import Examples
from udl_lab.nets.cnn import CNN
from udl_lab.probes.layerwise import Layerwise
from udl_lab.probes.orbits import walk_orbits
from udl_lab.probes.subject import Subject
from udl_lab.randomness import seeded
from udl_lab.symmetry.actions import Rotations

PLAIN, STREAM, STORE = "two plain forwards", "streamed distances", "storing all activations"
BATCH = 256


def network(seed: int) -> CNN:
    """Two convolutions and two dense layers: 8 layers that a probe looks at."""
    with seeded(seed, "init"):
        net = CNN([1, 28, 28], 10, channels=(16, 32), kernel_size=5, widths=(64,))
    return net.eval()


def turned(x: Tensor) -> Tensor:
    """The images by a quarter turn."""
    return torch.rot90(x, 1, (-2, -1))


def peak_of_now() -> float:
    """Forget the largest memory that the process ever held, and give what it holds, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM
    return highest()


def highest() -> float:
    """The largest resident memory since then, in MB."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time the cases, and print their ratios and the verdicts."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--images", type=int, default=10_000, help="of the stream (%(default)s)")
    options = parser.parse_args(arguments_given)
    root = mnist_root(parser, options.data_root)
    print_conditions(torch.get_num_threads())
    test = mnist(root).test
    x, net = test.x[: options.images], network(0)

    def plain() -> None:
        with torch.no_grad():
            for images in x.split(BATCH):
                net(images)
                net(turned(images))

    def stream() -> None:
        walk_orbits(net, x, [turned], ["*"], lambda site: {"d": PairedDistance()}, BATCH // 2)

    def store() -> None:
        with torch.no_grad():
            kept = [
                (activations(net, images, sites="*"), activations(net, turned(images), sites="*"))
                for images in x.split(BATCH)
            ]
            for site in kept[0][0]:
                a, b = (torch.cat([pair[i][site] for pair in kept]).flatten(1) for i in (0, 1))
                (a - b).norm(dim=1)

    plain()
    before = peak_of_now()
    stream()
    grown = highest() - before
    cases = {PLAIN: plain, STREAM: stream, STORE: store}
    timed = {name: lambda case=case: seconds(case) for name, case in cases.items()}
    times = in_turn(timed, options.repeats, options.warm_up)
    print_table(
        ["case", "s", "time / plain"],
        [
            (name, f"{spread(times[name]):.2f}", f"{ratio(times, name, PLAIN):.2f}")
            for name in cases
        ],
    )
    print(f"The stream over {len(x):,} pairs grew the process by {grown:.0f} MB; target: under 200")
    print_verdict("streamed / plain", ratio(times, STREAM, PLAIN), "at most", 1.5, ".2f")

    subject = Subject(network(0), network(1), Examples(test.x, test.y), 0.0)
    report = Layerwise(Rotations([90, 180, 270]), n_images=1000)
    taken = [seconds(lambda: report(subject)) for _ in range(max(1, options.repeats // 2))]
    print(f"The C4 report, trained and untrained, took {statistics.median(taken):.1f} s.")
    print_verdict("C4, 1,000 images, 8 layers, s", spread(taken), "at most", 60, ".1f")


if __name__ == "__main__":
    main()
