"""Pixels and noise of a latent model: what is drawn when, and what is drawn once."""

from udl_lab.data.resident import ResidentData  # isort: skip  # repairs torchvision, for lightning

import pytest
import torch

from udl_lab.data.latent_noise import LatentNoise, eps_of
from udl_lab.data.source import Examples, Source
from udl_lab.errors import UsageError
from udl_lab.randomness import generator

SHAPE = (1, 4, 4)


def grey(n=64):
    """Example i is a constant image i / n, so that its pixels tell which it is on average."""
    i = torch.arange(n)
    return Examples((i / n).reshape(n, 1, 1, 1).expand(n, *SHAPE).clone(), i % 10)


def ready(binarise="stochastic", n=64, **settings):
    usual = {"batch_size": 10, "n_validation": 12, "mean": 0.0, "std": 1.0, "seed": 0}
    augment = LatentNoise(SHAPE, 3, 2, binarise)
    source = Source(grey(n), grey(30))
    data = ResidentData(lambda root: source, "", augment=augment, **(usual | settings))
    data.setup()
    return data


def shown(data, epoch):
    """Every training example as a network gets it in an epoch, in the order of its file."""
    place = data._place
    data._place = lambda: place()._replace(epoch=epoch)
    found = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    data._place = place
    order = torch.cat([batch.y for batch in found])
    return torch.cat([batch.x for batch in found]), order


def is_binary(x):
    return bool(((x == 0) | (x == 1)).all())


@pytest.mark.parametrize("binarise", ["stochastic", "fixed", "none"])
@pytest.mark.parametrize(("latents", "n_noise"), [(3, 3), ([4, 2], 6)])
def test_the_noise_is_k_independent_samples_of_every_example(binarise, latents, n_noise):
    noise = LatentNoise(SHAPE, latents, 5, binarise)
    numbers = noise.draw(2000, generator(0, "draw"))
    eps = eps_of(numbers, 5, n_noise, 16)
    assert eps.shape == (5, 2000, n_noise)
    flat = eps.transpose(0, 1).flatten(1)
    # 2,000 draws: a moment of the normal is off by 5 standard errors in one of a million tries.
    assert (flat.T.cov() - torch.eye(5 * n_noise)).abs().max() < 5 * (2 / 2000) ** 0.5
    assert flat.mean(0).abs().max() < 5 * 2000**-0.5
    # Each number is used once.
    assert torch.equal(flat, numbers[:, numbers.shape[1] - 5 * n_noise :])


def test_noise_drawn_for_another_model_is_refused():
    numbers = LatentNoise(SHAPE, 3, 2).draw(4, generator(0, "draw"))
    eps_of(numbers, 2, 3, 16)
    with pytest.raises(ValueError, match=r"22 numbers.*k=4 samples of 3"):
        eps_of(numbers, 4, 3, 16)
    with pytest.raises(ValueError, match="net=mlp_vae"):
        LatentNoise(SHAPE, None)


def test_a_pixel_is_one_as_often_as_it_is_bright():
    noise, n = LatentNoise(SHAPE, 1), 20_000
    x = torch.tensor([0.0, 0.2, 0.7, 1.0]).repeat(n, 4).reshape(n, *SHAPE)
    bits = noise(x, noise.draw(n, generator(0, "bits")), 0.0)
    assert is_binary(bits)
    rate = bits.reshape(-1, 4).mean(0)
    assert rate[0] == 0 and rate[3] == 1  # exactly: what is binary already stays
    # 80,000 draws of variance at most 1/4: five standard errors.
    assert (rate - x.reshape(-1, 4)[0]).abs().max() < 5 * 0.5 / 80_000**0.5


def test_stochastic_pixels_are_drawn_anew_at_every_presentation():
    data = ready()
    (first, order), (second, again) = shown(data, 0), shown(data, 1)
    assert is_binary(first) and is_binary(second)
    assert not torch.equal(first[order.argsort(stable=True)], second[again.argsort(stable=True)])
    repeated, _ = shown(data, 0)
    assert torch.equal(repeated, first)


def test_fixed_pixels_are_those_of_the_example_whatever_the_epoch_and_the_seed():
    data, other = ready("fixed"), ready("fixed", seed=3)
    assert is_binary(data.train.x)
    assert torch.equal(data.train.x, other.train.x)
    first, _ = shown(data, 0)
    second, _ = shown(data, 1)
    rows = {tuple(row.tolist()) for row in data.train.x.flatten(1)}
    for seen in (first, second):
        assert {tuple(row.tolist()) for row in seen.flatten(1)} == rows


def test_without_binarisation_pixels_stay_grey():
    data = ready("none")
    assert torch.equal(data.test.x, grey(30).x)
    seen, _ = shown(data, 0)
    assert torch.equal(seen.flatten(1)[:, 0].sort().values, data.train.x[:, 0, 0, 0].sort().values)


def test_test_and_validation_pixels_are_drawn_once_and_for_all_seeds():
    one, other, fixed = ready(), ready(seed=7), ready("fixed")
    for split in ("test", "validation"):
        assert is_binary(getattr(one, split).x)
        assert torch.equal(getattr(one, split).x, getattr(other, split).x)
    assert torch.equal(one.test.x, fixed.test.x)
    assert one.fingerprints()["test"] == fixed.fingerprints()["test"]
    assert abs(one.test.x.mean() - grey(30).x.mean()) < 5 * 0.5 / (30 * 16) ** 0.5
    [batch] = list(one.val_dataloader())
    [again] = list(other.val_dataloader())
    assert torch.equal(batch.drawn, again.drawn)
    assert torch.equal(one.on_after_batch_transfer(batch, 0).x, one.validation.x)


def test_the_shares_of_two_processes_are_the_batch_of_one():
    data = ready()
    whole = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    place, parts = data._place, []
    for rank in range(2):
        data._place = lambda rank=rank: place()._replace(rank=rank, world_size=2)
        parts.append([data.on_after_batch_transfer(b, 0) for b in data.train_dataloader()])
    for batch, a, b in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([a.x, b.x]), batch.x)
        assert torch.equal(torch.cat([a.drawn, b.drawn]), batch.drawn)


def test_file_order_is_no_shuffling():
    data = ready("none", order="file")
    for epoch in range(2):
        seen, _ = shown(data, epoch)
        assert torch.equal(seen, data.train.x)


@pytest.mark.parametrize("binarise", ["stochastic", "fixed"])
def test_normalised_pixels_are_no_probabilities(binarise):
    with pytest.raises(UsageError, match=r"test split go from -0\.5 to .*data\.mean=0 data\.std=1"):
        ready(binarise, mean=0.5)
    ready("none", mean=0.5)


@pytest.mark.parametrize("binarise", ["stochastic", "fixed"])
def test_a_pixel_that_is_not_a_number_is_no_black_one(binarise):
    x = grey().x
    x[3, 0, 1, 2] = float("nan")
    with pytest.raises(UsageError, match=r"one of the test split is not a number.*repair the data"):
        LatentNoise(SHAPE, 3, 2, binarise).pinned(x, "test")
    kept = LatentNoise(SHAPE, 3, 2, "none").pinned(x, "test")
    assert kept is x
