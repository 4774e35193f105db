"""The pinned feature network: its file, its features, and distances whose order is known."""

import hashlib
import re

import pytest
import torch
from safetensors.torch import load_file

from udl_lab.configuration import EXPERIMENTS, compose
from udl_lab.data.mnist import mnist
from udl_lab.randomness import generator
from udl_lab.runs.build import build_net
from udl_lab.sample_quality.features import SHA256, WEIGHTS, FeatureNet, mnist_features
from udl_lab.sample_quality.frechet import frechet_distance


@pytest.fixture(scope="module")
def net() -> FeatureNet:
    return mnist_features()


@pytest.fixture(scope="module")
def test_split(mnist_root):
    test = mnist(mnist_root).test
    return test.x * 2 - 1, test.y


@pytest.fixture(scope="module")
def real_features(net, test_split):
    return net.features(test_split[0])


@pytest.fixture(scope="module")
def readme() -> str:
    return (EXPERIMENTS / "mnist_features" / "README.md").read_text()


def noise(n: int, *name) -> torch.Tensor:
    return torch.randn(n, 1, 28, 28, generator=generator(0, "features", *name))


def test_the_fingerprint_is_the_hash_of_the_file(net):
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256
    assert net.fingerprint == SHA256[:12]


def test_a_file_with_one_bit_changed_is_refused(tmp_path):
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content)
    with pytest.raises(ValueError, match=rf"changed.*pinned feature network {SHA256[:12]}"):
        mnist_features(weights=changed)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.safetensors cannot be read; restore it"):
        mnist_features(weights=tmp_path / "none.safetensors")


def test_features_are_the_last_hidden_activation_of_the_studys_network(net):
    # The network as the configuration builds it, so the file and the study belong together.
    classifier = build_net(compose(["experiment=mnist_features/classifier"]))
    classifier.load_state_dict(load_file(WEIGHTS))
    hidden = []
    sites = dict(classifier.named_modules())
    sites["dense.0.activation"].register_forward_hook(lambda *call: hidden.append(call[2]))
    images = noise(7, "hook")
    with torch.no_grad():
        logits = classifier.double()(images.double())
    assert net.features(images).shape == (7, 64)
    assert torch.allclose(net.features(images), hidden[0], rtol=0, atol=1e-12)
    assert torch.equal(net.classes(images), logits.argmax(1))


def test_features_do_not_depend_on_the_batch(net):
    images = noise(120, "batch")  # two whole batches and a part
    together = net.features(images)
    alone = torch.cat([net.features(image[None]) for image in images])
    # Sums of 1176 products in another order, in float64.
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)


def test_features_are_computed_in_float64_whatever_the_images_are(net):
    images = noise(3, "precision").double() / 3  # not exact in float32
    rounded = images.float()
    assert torch.equal(net.features(rounded), net.features(rounded.double()))
    assert not torch.equal(net.features(rounded), net.features(images))


def test_features_keep_no_graph(net):
    images = noise(2, "graph").requires_grad_()
    assert not net.features(images).requires_grad


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32), (0, 1, 28, 28)])
def test_other_shapes_are_refused(net, shape):
    with pytest.raises(ValueError, match=re.escape(f"{shape}; the features are of grey images")):
        net.features(torch.zeros(shape))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-0.4242, 2.8215)])
def test_pixels_in_another_range_are_refused(net, low, high):
    images = torch.rand(4, 1, 28, 28, generator=generator(0, "range"))
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])  # both ends occur
    with pytest.raises(ValueError, match=r"give 2 \* images - 1"):
        net.features(low + (high - low) * images)


def test_samples_may_leave_the_range_or_not_fill_it(net):
    # N(0, 4) as a diverging sampler gives it, and the grey of an untrained decoder.
    for samples in (2 * noise(3, "wide"), 0.05 * noise(3, "grey")):
        assert torch.isfinite(net.features(samples)).all()


def test_pixels_that_are_not_finite_are_refused(net):
    images = noise(3, "nan")
    images[1, 0, 5, 5] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        net.features(images)


def test_accuracy_on_real_digits_is_what_the_readme_states(net, real_features, test_split, readme):
    images, labels = test_split
    found = (net.classes_of(real_features) == labels).double().mean().item()
    stated = re.search(r"test accuracy of the pinned weights is (\.\d{4})", readme)
    assert stated is not None and f"{found:.4f}" == f"0{stated[1]}"
    assert net.fingerprint in readme
    assert torch.equal(net.classes(images[:20]), net.classes_of(real_features[:20]))


def test_real_digits_are_nearer_to_each_other_than_to_noise_or_one_class(
    net, real_features, test_split
):
    labels = test_split[1]
    real, other = real_features[:2000], real_features[2000:4000]
    between_real = frechet_distance(real, other)
    assert 50 * between_real < frechet_distance(real, net.features(noise(2000, "images")))
    ones, eights = real_features[labels == 1], real_features[labels == 8]
    assert 50 * between_real < frechet_distance(ones, real)
    assert 50 * between_real < frechet_distance(ones, eights)
