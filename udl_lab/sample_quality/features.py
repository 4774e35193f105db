"""The lab's own features of MNIST-like images: 64 hidden units of a small classifier.

Fréchet and kernel distances need features, and the usual ones are of photographs and of weights
from elsewhere. These are of digits: the last hidden layer of a convolutional network that
`experiments/mnist_features` trains from a fixed seed, and whose weights are pinned by their hash. A
distance in them is comparable with others in this lab of the same fingerprint and number of
samples, and with nothing else. It is not the FID.
"""

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float, Float64, Int64
from safetensors.torch import load
from torch import Tensor, nn

from udl_lab.nets.cnn import CNN

WEIGHTS = Path(__file__).with_name("mnist_features.safetensors")
SHA256 = "75bb8e100dd8ca665bd8e3cfed77b682f7a038a177b66663eb094085ee66009f"
SHAPE = (1, 28, 28)
N_FEATURES = 64
N_CLASSES = 10
BATCH = 50  # images at a time: what they unfold to stays near the cache, twice as fast as 250


class FeatureNet:
    """A frozen classifier and its last hidden layer, all in float64.

    float64 because a number must not depend on the batch, the threads or the device: convolutions
    in float32 on a GPU may be rounded to 10 bits.
    """

    def __init__(self, net: CNN, fingerprint: str) -> None:
        """Take a trained network, which is changed: nothing else should use it.

        Args:
            net: a classifier with a linear layer `output`.
            fingerprint: the first 12 hex digits of the SHA-256 of its file; print it with every
                number.
        """
        net = net.double().eval().requires_grad_(False)
        self._output = net.output
        net.set_submodule("output", nn.Identity())
        self._hidden = net
        self.fingerprint = fingerprint

    @property
    def device(self) -> torch.device:
        """Where it computes; images may lie elsewhere, and results lie here."""
        return self._output.weight.device

    @torch.no_grad()
    def features(
        self, images: Float[Tensor, "image channel height width"]
    ) -> Float64[Tensor, "image feature"]:
        """The 64 hidden units behind the rectifier, so none is negative.

        Pixels are in [-1, 1], empty paper at -1. Samples may leave that range: a generative
        model's do, they are not clipped here, and their distance says so.

        Raises:
            ValueError: for other shapes, a pixel that is not finite, and pixels that seem to be in
                another range: none below 0, or none below -0.5 and some above 1.
        """
        _check(images)
        return torch.cat(
            [self._hidden(batch.to(self.device, torch.float64)) for batch in images.split(BATCH)]
        )

    @torch.no_grad()
    def classes(
        self, images: Float[Tensor, "image channel height width"]
    ) -> Int64[Tensor, " image"]:
        """The digit that the classifier names for each image, from 0 to 9.

        Raises:
            ValueError: as `features`.
        """
        return self.classes_of(self.features(images))

    @torch.no_grad()
    def classes_of(self, features: Float64[Tensor, "image feature"]) -> Int64[Tensor, " image"]:
        """The same from features already computed."""
        return self._output(features).argmax(1)


def mnist_features(device: torch.device | str = "cpu", weights: Path = WEIGHTS) -> FeatureNet:
    """The pinned network: 86,018 parameters, trained on MNIST with seed 0.

    Args:
        device: where it computes.
        weights: another place of the same file.

    Raises:
        ValueError: when the file is absent, or not the pinned one to the byte.
    """
    content = _pinned(weights)
    net = CNN(
        in_shape=SHAPE,
        out_features=N_CLASSES,
        channels=(16, 24),
        kernel_size=5,
        padding="same",
        pool=2,
        widths=(N_FEATURES,),
    )
    net.load_state_dict(load(content))
    return FeatureNet(net.to(device), SHA256[:12])


def _pinned(weights: Path) -> bytes:
    """The content of the file: what is checked is what is used."""
    remedy = f"restore it (git checkout -- {weights}) or install the lab again"
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise ValueError(f"the feature network {weights} cannot be read; {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{weights} has the SHA-256 {found[:12]}…, and the pinned feature network "
            f"{SHA256[:12]}…: numbers of the two are not comparable; {remedy}"
        )
    return content


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1:] != SHAPE or len(images) == 0:
        raise ValueError(
            f"the images have the shape {tuple(images.shape)}; the features are of grey images of "
            "28 x 28 pixels, so give (n, 1, 28, 28) with n from 1 up"
        )
    low, high = (extreme.item() for extreme in images.aminmax())
    if not bool(torch.isfinite(images).all()):
        raise ValueError(
            "the images hold a pixel that is not finite; report samples that diverged, then leave "
            "them out"
        )
    # Empty paper is 0 in pixels from 0 to 1 or 255, and -.42 where MNIST is standardised.
    if low >= 0 or (low > -0.5 and high > 1):
        raise ValueError(
            f"the pixels lie in [{low:.3g}, {high:.3g}]; the features are of pixels in [-1, 1] "
            "with empty paper at -1: for pixels in [0, 1] give 2 * images - 1"
        )
