"""The module that trains latent models."""

import udl_lab.runs  # noqa: F401  # isort: skip

import pytest
import torch

from udl_lab.data.latent_noise import LatentNoise, eps_of
from udl_lab.data.loader import Batch
from udl_lab.data.resident import ResidentData
from udl_lab.data.source import Examples, Source
from udl_lab.errors import UsageError
from udl_lab.latent import bounds
from udl_lab.latent.mlp_vae import MLPVAE, TwoLayerVAE
from udl_lab.models.vae import VAE
from udl_lab.nets.fcn import FCN
from udl_lab.randomness import generator, seeded

ADAM = {"name": "adam", "lr": 0.01}
CONSTANT = {"name": "constant"}


def net(two_layers=False, **options):
    with seeded(0, "init"):
        return (
            TwoLayerVAE([6], (4, 2), (5,), (3,)) if two_layers else MLPVAE([6], 3, (5,), **options)
        )


def module(estimator="elbo", k=1, two_layers=False, schedule=CONSTANT, kind=VAE, **options):
    return kind(net(two_layers), ADAM, schedule, estimator, k, **options)


def batch_of(n=8, k=1, n_noise=3, binarise="stochastic"):
    x = (torch.rand(n, 6, generator=generator(0, "x")) > 0.5).float()
    drawn = LatentNoise([6], n_noise, k, binarise).draw(n, generator(0, "noise"))
    return Batch(x, torch.zeros(n, dtype=torch.int64), drawn)


@pytest.mark.parametrize(("estimator", "k"), [("elbo", 1), ("elbo", 4), ("iwae", 4), ("dreg", 4)])
@pytest.mark.parametrize("binarise", ["stochastic", "none"])
def test_the_loss_is_the_bound_of_the_noise_that_came_with_the_batch(estimator, k, binarise):
    model, batch = module(estimator, k), batch_of(k=k, binarise=binarise)
    eps = eps_of(batch.drawn, k, 3, 6)
    terms = model.net.terms(batch.x, eps)
    bound = bounds.iwae(terms.log_weights)
    if estimator == "elbo":
        bound = terms.log_likelihood.mean(0) - model.net.kl(model.net.posterior(batch.x)).sum(1)
    found = model.losses(batch)["loss"]
    torch.testing.assert_close(found, -bound.mean(), rtol=1e-6, atol=0)


def test_two_layers_are_trained_by_samples_of_both():
    model, batch = module(two_layers=True, k=2), batch_of(k=2, n_noise=[4, 2])
    terms = model.net.terms(batch.x, eps_of(batch.drawn, 2, 6, 6))
    expected = -terms.log_weights.mean()
    torch.testing.assert_close(model.losses(batch)["loss"], expected, rtol=1e-6, atol=0)


class Halfway(VAE):
    """A module that has taken five steps."""

    global_step = 5


def test_the_kl_has_half_its_weight_in_the_middle_of_the_warm_up():
    batch = batch_of()
    whole = module(beta=2.0).losses(batch)["loss"]
    none = module(beta=0.0).losses(batch)["loss"]
    half = module(beta=2.0, warm_up=10, kind=Halfway).losses(batch)["loss"]
    start = module(beta=2.0, warm_up=10).losses(batch)["loss"]
    torch.testing.assert_close(half, (whole + none) / 2, rtol=1e-6, atol=0)
    assert torch.equal(start, none)
    assert torch.equal(module(beta=2.0, warm_up=5, kind=Halfway).losses(batch)["loss"], whole)


def test_summed_gradients_are_the_batchs_size_times_the_mean_and_the_loss_is_the_same():
    batch, gradients = batch_of(8), {}
    for reduction in ("mean", "sum"):
        model = module(gradients=reduction)
        loss = model.losses(batch)["loss"]
        loss.backward()
        gradients[reduction] = [p.grad for p in model.parameters()], loss.detach()
    assert torch.equal(gradients["sum"][1], gradients["mean"][1])
    for summed, mean in zip(gradients["sum"][0], gradients["mean"][0], strict=True):
        torch.testing.assert_close(summed, 8 * mean, rtol=1e-5, atol=1e-6)


def fit_on(make_trainer, model, k=1, n_validation=20, **settings):
    n = 60 + n_validation
    x = torch.rand(n, 6, generator=generator(0, "grey"))
    examples = Examples(x, torch.zeros(n, dtype=torch.int64))
    n_noise = model.net.n_noise
    data = ResidentData(
        lambda root: Source(examples, examples),
        "",
        *(20, n_validation, 0.0, 1.0, 0),
        augment=LatentNoise([6], n_noise, k),
    )
    trainer = make_trainer(**settings)
    trainer.fit(model, data)
    return trainer, data


def test_validation_logs_the_loss_and_an_elbo_with_its_parts(make_trainer):
    model = module("iwae", 3)
    trainer, data = fit_on(make_trainer, model, 3)
    logged = trainer.callback_metrics
    [batch] = list(data.val_dataloader())
    with torch.no_grad():
        terms = model.net.terms(data.validation.x, eps_of(batch.drawn, 3, 3, 6))
    expected = {
        "val/loss": -bounds.iwae(terms.log_weights).mean(),
        "val/elbo": terms.log_weights.mean(),
        "val/reconstruction": terms.log_likelihood.mean(),
        "val/kl": (terms.log_posterior - terms.log_prior).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(logged[name], value, rtol=1e-5, atol=1e-6)


def test_the_validation_loss_has_the_whole_weight_of_the_kl_in_the_middle_of_the_warm_up(
    make_trainer,
):
    model = module(beta=2.0, warm_up=1_000_000)
    logged = fit_on(make_trainer, model)[0].callback_metrics
    expected = 2 * logged["val/kl"] - logged["val/reconstruction"]
    torch.testing.assert_close(logged["val/loss"], expected, rtol=1e-5, atol=0)


def test_the_validation_loss_is_the_mean_over_examples_of_uneven_batches(make_trainer):
    """Batches of 1,000 and 20: a mean of the two means would weigh the 20 as the 1,000."""
    model = module("iwae", 3)
    trainer, data = fit_on(make_trainer, model, 3, n_validation=1020)
    batches = list(data.val_dataloader())
    assert [len(batch.x) for batch in batches] == [1000, 20]
    with torch.no_grad():
        values = [
            bounds.iwae(model.net.terms(b.x, eps_of(b.drawn, 3, 3, 6)).log_weights)
            for b in (data.on_after_batch_transfer(batch, 0) for batch in batches)
        ]
    of_batches = -torch.stack([value.mean() for value in values]).mean()
    expected = -torch.cat(values).mean()
    assert abs(of_batches - expected) > 1e-3
    found = trainer.callback_metrics["val/loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("free_bits", "n_below"), [(0.1, 0), (0.5, 2), (3.0, 3)])
def test_free_bits_are_in_the_loss(free_bits, n_below):
    model, batch = module(free_bits=free_bits, beta=2.0), batch_of()
    with torch.no_grad():
        by_unit = model.net.kl(model.net.posterior(batch.x)).mean(0).tolist()
        log_likelihood = model.net.terms(batch.x, eps_of(batch.drawn, 1, 3, 6)).log_likelihood
    assert sum(kl < free_bits for kl in by_unit) == n_below
    rate = sum(max(kl, free_bits) for kl in by_unit)
    found = float(model.losses(batch)["loss"].detach())
    assert found == pytest.approx(2 * rate - float(log_likelihood.mean()), rel=1e-6)


def test_free_bits_are_those_of_the_whole_batch_and_so_of_one_process(make_trainer):
    # The trainer of two processes starts none before it fits.
    two = make_trainer(devices=2, strategy="ddp")
    for free_bits in (0.0, 0.1):
        model = module(free_bits=free_bits)
        model.trainer = two
        if free_bits:
            with pytest.raises(
                UsageError, match=r"free_bits=0\.1.*2 processes.*trainer\.devices=1"
            ):
                model.setup("fit")
        else:
            model.setup("fit")


def test_each_epoch_has_the_rate_of_its_schedule(make_trainer):
    seen = []

    class Noting(VAE):
        def on_train_epoch_end(self):
            seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    schedule = {"name": "burda2015"}
    fit_on(make_trainer, module(schedule=schedule, kind=Noting), max_epochs=5)
    assert seen == pytest.approx([0.1, 0.072, 0.072, 0.072, 0.052], rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0: .*k=1 or more"),
        ({"estimator": "iwae", "beta": 2.0}, r"estimator=iwae.*beta=2\.0.*estimator=elbo"),
        ({"estimator": "dreg", "free_bits": 0.1}, r"estimator=dreg.*free_bits=0\.1"),
        ({"estimator": "stl", "warm_up": 3}, r"estimator=stl.*warm_up=3"),
        ({"two_layers": True, "free_bits": 0.1}, r"free_bits=0\.1.*set free_bits=0"),
        ({"schedule": {"name": "cosine"}}, "needs last_lr and epochs"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        module(**options)


def test_a_network_without_latents_is_refused():
    with pytest.raises(ValueError, match=r"FCN is no latent model.*net=mlp_vae"):
        VAE(FCN([6], 2), ADAM, CONSTANT)


def test_a_batch_without_noise_says_what_is_missing():
    with pytest.raises(ValueError, match="augment=latent_noise"):
        module().losses(batch_of()._replace(drawn=None))
    with pytest.raises(ValueError, match=r"leave augment\.k"):
        module(k=2).losses(batch_of(k=1))


def test_grey_pixels_under_a_bernoulli_head_are_refused():
    batch = batch_of()
    with pytest.raises(ValueError, match=r"x = 0\.5; binarise"):
        module().losses(batch._replace(x=torch.full_like(batch.x, 0.5)))
