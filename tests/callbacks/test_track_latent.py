"""Latents are watched while a model learns, and the learning is not disturbed."""

from udl_lab.callbacks.track_latent import TrackLatent  # isort: skip  # first

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from udl_lab.data.latent_noise import LatentNoise
from udl_lab.data.resident import ResidentData
from udl_lab.data.source import Examples, Source
from udl_lab.latent.mlp_vae import MLPVAE, TwoLayerVAE
from udl_lab.models.vae import VAE
from udl_lab.probes.latent_bounds import look
from udl_lab.randomness import generator, seeded


def tiny(two_layers=False, n_validation=100):
    x = torch.rand(300, 6, generator=generator(0, "grey"))
    examples = Examples(x, torch.zeros(300, dtype=torch.int64))
    with seeded(0, "init"):
        net = TwoLayerVAE([6], (4, 2), (5,), (3,)) if two_layers else MLPVAE([6], 3, (5,))
    data = ResidentData(
        lambda root: Source(examples, examples),
        "",
        *(50, n_validation, 0.0, 1.0, 0),
        augment=LatentNoise([6], net.n_noise),
    )
    return VAE(net, {"name": "adam", "lr": 0.05}, {"name": "constant"}), data


def logged(tmp_path, logs="logs"):
    return pd.read_csv(tmp_path / logs / "metrics.csv")


def test_bound_and_latents_are_logged_every_n_epochs(make_trainer, tmp_path):
    model, data = tiny()
    make_trainer(TrackLatent(every_n_epochs=2), max_epochs=4).fit(model, data)
    found = logged(tmp_path).dropna(subset="latent/elbo")
    assert found["epoch"].tolist() == [1, 3]
    assert found["step"].tolist() == [8, 16]
    total = found["latent/rate"] + found["latent/distortion"]
    assert torch.allclose(
        torch.tensor((total + found["latent/elbo"]).values), torch.zeros(2).double()
    )
    last = found.iloc[-1]
    model.eval()
    with torch.no_grad():
        q = model.net.posterior(data.validation.x)
    for j, kl in enumerate(q.kl().mean(0).tolist()):
        assert last[f"latent/kl_unit0{j}"] == pytest.approx(kl, rel=1e-5, abs=1e-7)
    active = q.mean.var(0, correction=0) > 0.01
    assert last["latent/active_units"] == int(active.sum())


def test_after_each_epoch_the_latents_kls_sum_to_the_rate(make_trainer, tmp_path):
    make_trainer(TrackLatent(), max_epochs=3).fit(*tiny())
    metrics = logged(tmp_path).dropna(subset="latent/rate")
    assert metrics["epoch"].tolist() == [0, 1, 2]
    units = metrics[[f"latent/kl_unit0{j}" for j in range(3)]]
    assert units.sum(axis=1).tolist() == pytest.approx(metrics["latent/rate"].tolist(), rel=1e-6)


def test_the_learning_goes_on_bit_for_bit(make_trainer):
    learned = []
    for callbacks in ([TrackLatent()], []):
        model, data = tiny()
        make_trainer(*callbacks, max_epochs=2, logs=f"logs{len(callbacks)}").fit(model, data)
        assert model.net.training
        learned.append(model.net.state_dict())
    assert all(torch.equal(weight, learned[1][name]) for name, weight in learned[0].items())


def test_two_layers_have_their_active_latents_counted_apart(make_trainer, tmp_path):
    make_trainer(TrackLatent()).fit(*tiny(two_layers=True))
    columns = set(logged(tmp_path).columns)
    assert {"latent/active_units_h1", "latent/active_units_h2", "latent/rate"} <= columns
    assert not [c for c in columns if c.startswith("latent/kl_unit")]


@pytest.mark.parametrize("average_first", [True, False])
def test_an_average_of_the_weights_is_what_is_watched(average_first, make_trainer, tmp_path):
    """The average begins at step 100: here it is the start."""
    callbacks = [EMAWeightAveraging(update_starting_at_step=100), TrackLatent()]
    model, data = tiny()
    start, _ = tiny()
    make_trainer(*(callbacks if average_first else reversed(callbacks))).fit(model, data)
    with torch.no_grad():
        seen = look(start.net, data.validation.x, generator(0, "tracked latents"))
    found = logged(tmp_path)["latent/elbo"].dropna().tolist()
    assert found == pytest.approx([float(seen.elbo.mean())], rel=1e-6)


@pytest.mark.filterwarnings("ignore:Total length of `list`")  # lightning's, of no validation
def test_nothing_is_watched_without_a_validation_split(make_trainer, tmp_path):
    make_trainer(TrackLatent()).fit(*tiny(n_validation=0))
    assert not (tmp_path / "logs" / "metrics.csv").exists()
