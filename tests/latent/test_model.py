"""The models' terms against exact linear-Gaussian chains, and what is computed how often."""

import inspect
import math

import pytest
import torch
from torch import distributions as D
from torch.utils.flop_counter import FlopCounterMode

from udl_lab.latent import bounds
from udl_lab.latent.heads import Bernoulli, Gaussian
from udl_lab.latent.mlp_vae import MLPVAE, LinearEncoder, LinearVAE, TwoLayerVAE
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.latent.priors import StandardNormal
from udl_lab.nets.fcn import FCN
from udl_lab.randomness import generator, seeded


def draw(*shape, stream):
    return torch.randn(shape, generator=generator(0, "model", stream), dtype=torch.float64)


def bits(*shape):
    return (draw(*shape, stream="bits") > 0).double()


def binary(two_layers=False):
    with seeded(0, "net"):
        model = TwoLayerVAE([6], (4, 2), (5,), (3,)) if two_layers else MLPVAE([6], 3, (5,))
    return model.double()


def exact_layer():
    """Probabilistic PCA with orthogonal columns and its exact posterior, and log p(x)."""
    model = LinearVAE([5], 2).double()
    with torch.no_grad():
        weight = torch.linalg.qr(draw(5, 2, stream="W")).Q * torch.tensor([1.3, 0.6])
        b, s = draw(5, stream="b"), 0.7
        m = weight.square().sum(0) + s**2
        model.decoder.weight.copy_(weight)
        model.decoder.bias.copy_(b)
        model.head.log_std.fill_(math.log(s))
        model.encoder.mean.weight.copy_((weight / m).T)
        model.encoder.mean.bias.copy_(-(b @ weight) / m)
        model.encoder.log_std.copy_((s / m.sqrt()).log())
    return model, D.MultivariateNormal(b, weight @ weight.T + s**2 * torch.eye(5).double())


def exact_chain():
    """h2 ~ N(0, 1), h1 = a h2 + c + r noise, x = W h1 + b + s noise, and the exact posterior."""
    a, c, r, s = 0.8, 0.3, 0.5, 0.7
    weight, b = draw(5, 1, stream="W"), draw(5, stream="b")
    model = HierarchicalModel(
        LinearEncoder(5, 1),
        LinearEncoder(1, 1),
        torch.nn.Linear(1, 5),
        LinearEncoder(1, 1),
        1,
        StandardNormal(1),
        Gaussian(),
    ).double()
    v = a**2 + r**2  # of h1 before x
    precision = 1 / v + weight.square().sum() / s**2  # of h1 given x
    with torch.no_grad():
        model.decoder.weight.copy_(weight)
        model.decoder.bias.copy_(b)
        model.head.log_std.fill_(math.log(s))
        for net, slope, bias, std in [
            (model.upper_decoder, a, c, r),
            (model.upper_encoder, a / v, -a * c / v, r / v**0.5),
        ]:
            net.mean.weight.fill_(slope)
            net.mean.bias.fill_(bias)
            net.log_std.fill_(math.log(std))
        model.encoder.mean.weight.copy_(weight.T / s**2 / precision)
        model.encoder.mean.bias.copy_((c / v - (weight.T @ b) / s**2) / precision)
        model.encoder.log_std.copy_(-0.5 * precision.log())
    return model, D.MultivariateNormal(
        weight[:, 0] * c + b, v * weight @ weight.T + s**2 * torch.eye(5).double()
    )


@pytest.mark.parametrize("build", [exact_layer, exact_chain])
def test_under_the_exact_posterior_every_weight_is_p_of_x(build):
    model, law = build()
    x = 2 * draw(7, 5, stream="x")
    log_weights = model.terms(x, draw(50, 7, model.n_noise, stream="eps")).log_weights
    assert (log_weights.amax(0) - log_weights.amin(0)).max() < 1e-12
    torch.testing.assert_close(log_weights.mean(0), law.log_prob(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [exact_layer, exact_chain])
def test_with_another_posterior_the_weights_differ_and_have_the_mean_p_of_x(build):
    model, law = build()
    with torch.no_grad():
        model.encoder.mean.bias += 0.3
        model.encoder.log_std += 0.2  # wider than the truth: the weights are bounded
    x, n = draw(1, 5, stream="x"), 40_000
    log_weights = model.terms(x, draw(n, 1, model.n_noise, stream="eps")).log_weights[:, 0]
    ratio = (log_weights - law.log_prob(x)).exp()
    assert ratio.std() > 0.1
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / n**0.5


def test_the_analytic_elbo_at_the_exact_posterior_is_log_p_in_expectation():
    """E_q log p(x|z) in closed form: the squared residual of the mean, plus Σ_j |W_j|² Var z_j."""
    model, law = exact_layer()
    x = draw(7, 5, stream="x")
    q = model.posterior(x)
    spread = (model.decoder.weight.square().sum(0) * (2 * q.log_std).exp()).sum(-1)
    fit = model.head.log_prob(x, model.decode(q.mean[None]))
    fit = fit - 0.5 * spread * (-2 * model.head.log_std).exp()
    found = fit.mean(0) - model.kl(q).sum(-1)
    torch.testing.assert_close(found, law.log_prob(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [exact_layer, exact_chain])
def test_the_joint_is_the_terms_without_the_posterior(build):
    model, _ = build()
    x, eps = draw(4, 5, stream="x"), draw(3, 4, model.n_noise, stream="eps")
    z = model.posterior(x).sample(eps[..., : model.posterior(x).mean.shape[-1]])
    if isinstance(model, HierarchicalModel):
        z = torch.cat([z, model.upper_posterior(z).sample(eps[..., model.n_lower :])], -1)
    terms = model.terms(x, eps)
    expected = terms.log_likelihood + terms.log_prior
    torch.testing.assert_close(model.log_joint(x, z), expected, rtol=1e-12, atol=1e-12)


def test_the_joint_of_the_chain_is_that_of_one_large_normal():
    """Mean and covariance of (x, h1, h2) from x = W h1 + b + s e, h1 = a h2 + c + r e."""
    model, _ = exact_chain()
    weight, b = model.decoder.weight.detach(), model.decoder.bias.detach()
    mix = torch.zeros(7, 7).double()  # columns: the noises of x, of h1, and h2 itself
    mix[:5, :5], mix[:5, 5], mix[:5, 6] = 0.7 * torch.eye(5), 0.5 * weight[:, 0], 0.8 * weight[:, 0]
    mix[5, 5], mix[5, 6], mix[6, 6] = 0.5, 0.8, 1.0
    mean = torch.cat([b + 0.3 * weight[:, 0], torch.tensor([0.3, 0.0]).double()])
    x, z = draw(4, 5, stream="x"), draw(3, 4, 2, stream="z")
    both = torch.cat([x.expand(3, 4, 5), z], -1)
    expected = D.MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(mix @ mix.T))
    torch.testing.assert_close(model.log_joint(x, z), expected.log_prob(both))


@pytest.mark.parametrize("build", [exact_layer, exact_chain])
def test_draws_of_the_prior_have_its_variance(build):
    model, _ = build()
    z = model.sample_prior(20_000, generator(0, "prior"))
    variance = torch.tensor([1.0, 1.0] if build is exact_layer else [0.89, 1.0]).double()
    # The variance of n normal draws has the standard error var √(2/n), here .01 var.
    assert ((z.var(0) / variance - 1).abs() < 0.04).all()


@pytest.mark.parametrize("two_layers", [False, True])
def test_a_row_of_many_samples_and_examples_is_that_of_one(two_layers):
    model = binary(two_layers)
    x, eps = bits(4, 6), draw(5, 4, model.n_noise, stream="eps")
    together = model.terms(x, eps)
    for i in range(5):
        for j in range(4):
            alone = model.terms(x[j : j + 1], eps[i : i + 1, j : j + 1])
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[i, j], b[0, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("two_layers", [False, True])
def test_each_example_is_encoded_once_however_many_samples_it_has(two_layers):
    model, rows = binary(two_layers), []
    model.encoder.register_forward_hook(lambda net, inputs, out: rows.append(len(inputs[0])))
    for gradient in ("full", "path", "doubly"):
        model.terms(bits(4, 6), draw(50, 4, model.n_noise, stream="eps"), gradient)
    assert rows == [4, 4, 4]


def test_a_step_of_fifty_samples_needs_far_less_arithmetic_than_repeated_examples():
    """IWAE's nets forward and backward: (493.6 + 622.0) / (493.6 / 50 + 622.0) = 1.765.

    In thousands of multiplications: of the encoder three times 784·200 + 200·200 + 200·100 less
    784·200, as pixels need no gradient; of the decoder three times 50·200 + 200·200 + 200·784, and
    twice the 784 of x·logits.
    """
    with seeded(0, "net"):
        model = MLPVAE([784], 50)
    x, eps, counts = bits(2, 784).float(), draw(50, 2, 50, stream="eps").float(), []
    for data, noise in [(x, eps), (x.repeat(50, 1), eps.reshape(1, 100, 50))]:
        with FlopCounterMode(display=False) as counter:
            log_weights = model.terms(data, noise).log_weights.reshape(50, 2)
            bounds.iwae(log_weights).sum().backward()
        counts.append((counter.get_total_flops(), log_weights))
    (ours, once), (naive, repeated) = counts
    torch.testing.assert_close(once, repeated, rtol=1e-5, atol=1e-3)
    assert naive / ours == pytest.approx(1.765, abs=0.005)


def test_the_labs_own_networks_serve_as_encoder_and_decoder():
    with seeded(0, "net"):
        encoder, decoder = FCN([1, 2, 3], 4, [5]), FCN([2], 6, [5])
    model = LatentModel(encoder, decoder, StandardNormal(2), Bernoulli()).double()
    terms = model.terms(bits(4, 1, 2, 3), draw(3, 4, 2, stream="eps"))
    assert terms.log_weights.shape == (3, 4)


@pytest.mark.parametrize("two_layers", [False, True])
def test_noise_of_the_wrong_shape_is_an_error_that_says_the_right_one(two_layers):
    model = binary(two_layers)
    x, n = bits(4, 6), model.n_noise
    with pytest.raises(ValueError, match="k=0"):
        model.terms(x, torch.zeros(0, 4, n).double())
    with pytest.raises(ValueError, match=rf"must be \(k, 4, {n}\)"):
        model.terms(x, torch.zeros(2, 4, n + 1).double())


def test_an_unknown_gradient_is_an_error_with_the_nearest_name():
    model, x = binary(), bits(1, 6)
    unchecked = inspect.unwrap(type(model).terms_at)  # as users call it, without the type checker
    with pytest.raises(ValueError, match="'doubly'"):
        unchecked(model, model.posterior(x), x, draw(1, 1, 3, stream="eps"), "double")


def test_grey_pixels_are_refused_by_the_model_as_a_whole():
    with pytest.raises(ValueError, match="soft_targets"):
        binary().terms(0.5 * bits(4, 6), draw(1, 4, 3, stream="eps"))


def test_a_learned_prior_has_no_kl_in_closed_form():
    with seeded(0, "net"):
        model = MLPVAE([6], 3, (5,), prior="vamp", n_pseudo=4).double()
    with pytest.raises(ValueError, match="no closed-form KL to a VampPrior"):
        model.kl(model.posterior(bits(4, 6)))
