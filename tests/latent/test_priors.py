"""Priors against torch's distributions."""

import copy

import pytest
import torch
from torch import distributions as D
from torch import nn

from udl_lab.latent.priors import StandardNormal, VampPrior
from udl_lab.randomness import generator, seeded


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "priors", stream), dtype=torch.float64)


def vamp(n=3, latent=2, d=4):
    with seeded(0, "encoder"):
        encoder = nn.Linear(d, 2 * latent).double()
    return VampPrior(latent, encoder, draw(n, d, stream="pseudo")), encoder


def mixture(prior, encoder):
    outputs = encoder(prior.pseudo_inputs)
    components = D.Independent(D.Normal(outputs[:, :2], outputs[:, 2:].exp()), 1)
    weights = D.Categorical(torch.ones(len(outputs), dtype=torch.float64))
    return D.MixtureSameFamily(weights, components)


def test_the_standard_normal_is_torchs():
    z = draw(5, 4, 3, stream="z")
    expected = D.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(StandardNormal(3).log_prob(z), expected, rtol=1e-12, atol=1e-12)


def test_the_vamp_prior_is_the_even_mixture_of_posteriors():
    prior, encoder = vamp()
    z = draw(5, 4, 2, stream="z")
    expected = mixture(prior, encoder).log_prob(z)
    torch.testing.assert_close(prior.log_prob(z), expected, rtol=1e-12, atol=1e-12)


def test_with_one_pseudo_input_the_vamp_prior_is_its_posterior():
    prior, _ = vamp(n=1)
    z = draw(7, 2, stream="z")
    torch.testing.assert_close(prior.log_prob(z), prior.components().log_prob(z))


def test_samples_have_the_moments_of_the_prior():
    n = 40_000
    prior, encoder = vamp()
    law = mixture(prior, encoder)
    for z, mean, variance in [
        (StandardNormal(2).sample(n, generator(0, "s")), torch.zeros(2), torch.ones(2)),
        (prior.sample(n, generator(0, "v")), law.mean, law.variance),
    ]:
        standard_error = (variance / n).sqrt()
        assert ((z.mean(0) - mean).abs() < 4 * standard_error).all()
        squares = (z - mean).square()
        assert ((squares.mean(0) - variance).abs() < 4 * squares.std(0) / n**0.5).all()


def test_the_pseudo_inputs_learn_and_the_encoder_is_saved_once():
    prior, encoder = vamp()
    prior.log_prob(draw(6, 2, stream="z")).sum().backward()
    assert prior.pseudo_inputs.grad.abs().min() > 0
    assert encoder.weight.grad is not None
    assert list(prior.state_dict()) == ["pseudo_inputs"]


def test_a_copy_of_a_model_has_a_vamp_prior_of_the_copied_encoder():
    prior, encoder = vamp()
    copied = copy.deepcopy(nn.ModuleDict({"encoder": encoder, "prior": prior}))
    assert copied["prior"]._encoder[0] is copied["encoder"]


@pytest.mark.parametrize("size", [0, -1])
def test_no_latents_is_an_error_that_names_them(size):
    with pytest.raises(ValueError, match=f"latent={size}.*1 or more"):
        StandardNormal(size)
