"""One epoch of a linear model on MNIST, every image turned by a random angle."""

import statistics
from collections.abc import Iterator, Sequence

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
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from udl_lab.data.augment import Rotation
from udl_lab.data.mnist import mnist

BATCH_SIZE, LR = 64, 0.01  # lab-04's
MEAN, STD = 0.1307, 0.3081
OURS, ORIGINAL = "ours (udl_lab.train)", "torchvision, per image"
BARE, BILINEAR = "bare, the same rotation", "bare, bilinear grid_sample"


def linear() -> nn.Module:
    """Lab-04's network."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def per_image(root: str, n_images: int) -> Case:
    """The original's way on the first `n_images`, its seconds scaled up to all of them."""
    every_image = MNIST(
        root,
        transform=transforms.Compose(
            [
                transforms.RandomRotation(180),
                transforms.ToTensor(),
                transforms.Normalize((MEAN,), (STD,)),
            ]
        ),
    )
    some = Subset(every_image, range(n_images))
    scale = len(every_image) / n_images

    def case() -> float:
        loader = DataLoader(some, BATCH_SIZE, shuffle=True)
        return scale * seconds(lambda: bare_epoch(linear(), loader, LR))

    return case


def rotated(x: Tensor, y: Tensor, rotation: Rotation) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches turned by the lab's function."""
    angles = torch.Generator().manual_seed(0)
    for images, labels in shuffled(x, y, BATCH_SIZE):
        drawn = rotation.draw(len(labels), angles)
        yield rotation(images, drawn, -MEAN / STD), labels


def rotated_bilinearly(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches turned by torch's own functions, an angle for each image."""
    background = -MEAN / STD
    for images, labels in shuffled(x, y, BATCH_SIZE):
        angle = (2 * torch.rand(len(labels)) - 1) * torch.pi
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        turn = torch.stack([cos, sin, zero, -sin, cos, zero], 1).view(-1, 2, 3)
        grid = F.affine_grid(turn, list(images.shape), align_corners=False)
        turned = F.grid_sample(images - background, grid, align_corners=False) + background
        yield turned, labels


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time the cases, and print their ratios and the verdict."""
    parser = arguments(__doc__, repeats=7)
    parser.add_argument(
        "--per-image", type=int, default=10_000, help="images of the per-image case (%(default)s)"
    )
    options = parser.parse_args(arguments_given)
    root = mnist_root(parser, options.data_root)
    print_conditions(torch.get_num_threads())
    pixels, y = mnist(root).train
    x = (pixels - MEAN) / STD
    n_per_image = min(options.per_image, len(y))
    runs: list[LabSeconds] = []

    def ours() -> float:
        recipe = ["net=linear", f"data.batch_size={BATCH_SIZE}", f"model.optimizer.lr={LR}"]
        runs.append(lab_epoch(["data=mnist", f"data.root={root}", "augment=rotation", *recipe]))
        return runs[-1].epoch

    cases = {
        ORIGINAL: per_image(root, n_per_image),
        BARE: lambda: seconds(lambda: bare_epoch(linear(), rotated(x, y, Rotation()), LR)),
        BILINEAR: lambda: seconds(lambda: bare_epoch(linear(), rotated_bilinearly(x, y), LR)),
        OURS: ours,
    }
    times = in_turn(cases, options.repeats, options.warm_up)
    print_table(
        ["case", "s/epoch", "µs/image", "time / ours"],
        [
            (
                name,
                f"{spread(times[name]):.2f}",
                f"{1e6 * statistics.median(times[name]) / len(y):.1f}",
                f"{ratio(times, name, OURS):.2f}",
            )
            for name in cases
        ],
    )
    print(f"The per-image case took {n_per_image:,} of {len(y):,} images; its time is scaled.")
    print_fit(runs[options.warm_up :])
    print_verdict(f"{ORIGINAL} / ours", ratio(times, ORIGINAL, OURS), "at least", 12, ".1f")


if __name__ == "__main__":
    main()
