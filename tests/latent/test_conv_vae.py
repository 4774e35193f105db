"""The convolutional model fits its images, and every parameter takes part."""

import pytest
import torch

from udl_lab.latent import bounds
from udl_lab.latent.conv_vae import ConvVAE
from udl_lab.randomness import generator, seeded


@pytest.mark.parametrize("head", ["bernoulli", "gaussian", "logistic"])
def test_every_head_gives_a_finite_bound_that_moves_every_parameter(head):
    with seeded(0, "net"):
        model = ConvVAE([2, 8, 12], 3, 4, 8, head)
    x = (torch.rand(5, 2, 8, 12, generator=generator(0, "x")) < 0.5).float()
    eps = torch.randn(3, 5, 3, generator=generator(0, "eps"))
    value = bounds.iwae(model.terms(x, eps).log_weights)
    value.sum().backward()
    assert value.isfinite().all()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


def test_latents_decode_to_the_size_of_mnist():
    with seeded(0, "net"):
        model = ConvVAE([1, 28, 28])
    assert model.decode(torch.zeros(7, 2)).shape == (7, 784)


@pytest.mark.parametrize("shape", [[784], [1, 30, 28], [1, 28, 27]])
def test_shapes_that_cannot_be_halved_twice_are_refused(shape):
    with pytest.raises(ValueError, match="sides that 4 divides, or use MLPVAE"):
        ConvVAE(shape)


def test_no_latents_is_an_error():
    with pytest.raises(ValueError, match=r"latent=0.*use 1 or more"):
        ConvVAE([1, 8, 8], 0)
