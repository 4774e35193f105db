"""`python experiments/mnist_features/distances.py ROOT`: the README's table, from the pinned file.

Distances of sets whose quality is known, in the lab's features, from n real test images.
"""

import sys

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from udl_lab.data.mnist import mnist
from udl_lab.randomness import generator
from udl_lab.sample_quality.features import mnist_features
from udl_lab.sample_quality.frechet import first_order_bias, frechet_distance
from udl_lab.sample_quality.kernel_distance import kernel_distance

SPLITS = 5  # random halves of the test images
SIZES = (1000, 2000, 5000)


def sets(real: Tensor, train: tuple[Tensor, Tensor], split: int) -> dict[str, Tensor]:
    """As many images of each kind as `real`, which is half of the test images."""
    images, labels = train
    order = torch.randperm(len(images), generator=generator(0, "training images", split))
    images, labels = images[order], labels[order]
    n = len(real)
    noise = torch.randn(real.shape, generator=generator(0, "noise", split))
    return {
        "other test images": real,
        "training images": images[:n],
        "blurred, 0.5 pixels": blurred(real, 0.5),
        "blurred, 1 pixel": blurred(real, 1.0),
        "noise of sd 0.1 added": real + 0.1 * noise,
        "noise of sd 0.5 added": real + 0.5 * noise,
        "only ones": images[labels == 1][:n],
        "noise of sd 1 alone": noise,
    }


def blurred(images: Tensor, pixels: float) -> Tensor:
    """Convolved with a Gaussian of that standard deviation, on empty paper."""
    sigma = (0, 0, pixels, pixels)
    return torch.from_numpy(gaussian_filter(images.numpy(), sigma, mode="constant", cval=-1.0))


def main(root: str) -> None:
    """Print accuracy, statistics of the features, and both distances with their spread."""
    net = mnist_features()
    published = mnist(root)
    x, y = published.test.x * 2 - 1, published.test.y
    train = (published.train.x * 2 - 1, published.train.y)
    all_real = net.features(x)
    print(f"fingerprint {net.fingerprint}")
    print(f"test accuracy {(net.classes_of(all_real) == y).double().mean():.4f}")
    dead = int((all_real.std(0) == 0).sum())
    covariance = all_real.T.cov()
    print(f"units without spread {dead}; total variance {covariance.trace():.2f}")
    biases = [f"{first_order_bias(covariance, n):.3f}" for n in SIZES]
    print(f"bias of normal features to first order in 1/n, n = {SIZES}: {biases}")

    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for split in range(SPLITS):
        order = torch.randperm(len(x), generator=generator(0, "halves", split))
        reference = all_real[order[:5000]]
        for name, images in sets(x[order[5000:]], train, split).items():
            other = net.features(images)
            for n in SIZES:
                frechet = frechet_distance(other[:n], reference[:n])
                kernel = kernel_distance(other[:n], reference[:n]).mmd_squared
                found.setdefault((name, n), []).append((frechet, kernel))
    for (name, n), values in found.items():
        numbers = torch.tensor(values, dtype=torch.float64)
        (frechet, kernel), (frechet_sd, kernel_sd) = numbers.mean(0), numbers.std(0)
        print(
            f"{name:24} n={n}  Fréchet {frechet:9.3f} ± {frechet_sd:.3f}   "
            f"kernel {kernel:9.4f} ± {kernel_sd:.4f}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
