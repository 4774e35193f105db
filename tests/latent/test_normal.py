"""The diagonal normal against torch's distributions."""

import torch
from torch import distributions as D

from udl_lab.latent.normal import Normal
from udl_lab.randomness import generator


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "normal", stream), dtype=torch.float64)


def build():
    return Normal(draw(4, 3, stream="mean"), draw(4, 3, stream="log_std"))


def test_the_log_density_is_that_of_independent_normals_for_every_leading_shape():
    q = build()
    peer = D.Independent(D.Normal(q.mean, q.log_std.exp()), 1)
    for shape in [(4, 3), (5, 4, 3), (2, 5, 4, 3)]:
        z = draw(*shape, stream="z")
        torch.testing.assert_close(q.log_prob(z), peer.log_prob(z), rtol=1e-12, atol=1e-12)


def test_the_kl_of_each_latent_is_torchs():
    q = build()
    expected = D.kl_divergence(D.Normal(q.mean, q.log_std.exp()), D.Normal(0.0, 1.0))
    torch.testing.assert_close(q.kl(), expected, rtol=1e-12, atol=1e-12)


def test_the_kl_of_an_almost_standard_normal_keeps_its_digits():
    """KL of N(0, e^(2s)) is s² + O(s³); a difference of rounded numbers would give 0 or noise."""
    s = torch.tensor([[1e-6]], dtype=torch.float64)
    torch.testing.assert_close(Normal(0 * s, s).kl(), s**2, rtol=1e-4, atol=0)


def test_a_sample_is_its_noise_scaled_and_moved():
    q, eps = build(), draw(5, 4, 3, stream="eps")
    z = q.sample(eps)
    torch.testing.assert_close((z - q.mean) / q.log_std.exp(), eps, rtol=1e-12, atol=1e-12)


def test_outputs_are_means_first():
    q = Normal.from_outputs(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert q.mean.tolist() == [[1.0, 2.0]]
    assert q.log_std.tolist() == [[3.0, 4.0]]


def test_detached_parameters_get_no_gradient_and_the_latents_do():
    mean, log_std = draw(2, 3, stream="m").requires_grad_(), draw(2, 3, stream="s").requires_grad_()
    z = draw(2, 3, stream="z").requires_grad_()
    Normal(mean, log_std).detach().log_prob(z).sum().backward()
    assert mean.grad is None and log_std.grad is None
    torch.testing.assert_close(z.grad, -((z - mean) / (2 * log_std).exp()).detach())
