"""The module that trains denoisers."""

import udl_lab.runs  # noqa: F401  # isort: skip

import pytest
import torch

from udl_lab.data.loader import Batch
from udl_lab.data.noise import Noise, drawn
from udl_lab.diffusion import schedule
from udl_lab.diffusion.objectives import level_at
from udl_lab.diffusion.process import diffuse, velocity
from udl_lab.diffusion.variational_bound import reconstruction_term, step_term
from udl_lab.models.diffusion import Diffusion
from udl_lab.nets.fcn import FCN
from udl_lab.nets.time_mlp import TimeMLP
from udl_lab.randomness import generator, seeded

ADAM = {"name": "adam", "lr": 1e-3}
LINEAR = schedule.linear(50)


def batch_of(n=64, d=2, stream="noise"):
    x = torch.randn(n, d, generator=generator(0, "x"))
    y = torch.arange(n) % 3
    return Batch(x, y, Noise((d,)).draw(n, generator(0, stream)))


def module(kind="eps", table=LINEAR, **options):
    net_options = {k: options.pop(k) for k in ("n_classes", "n_outputs") if k in options}
    with seeded(0, "init"):
        net = TimeMLP([2], 16, 1, 8, **net_options)
    return Diffusion(net, table, ADAM, kind, **options)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_the_loss_is_the_mean_square_of_what_the_target_is_missed_by(kind):
    model, batch = module(kind), batch_of()
    level, _, eps = drawn(batch.drawn, batch.x)
    t = level_at(level, 50)
    output = model.net(diffuse(LINEAR, batch.x, t, eps), (t / 50).float())
    wanted = {"eps": eps, "x0": batch.x, "v": velocity(LINEAR, batch.x, eps, t)}[kind]
    expected = (output - wanted).square().mean()
    torch.testing.assert_close(model.losses(batch)["loss"], expected, rtol=1e-6, atol=0)


def test_every_level_of_the_schedule_is_trained_and_no_other():
    seen = []
    model = module()
    model.net.register_forward_hook(lambda net, args, output: seen.append(args[1]))
    for i in range(20):
        model.losses(batch_of(stream=f"noise{i}"))
    levels = (torch.cat(seen) * 50).round()
    assert set(levels.int().tolist()) == set(range(1, 51))


def test_labels_are_left_out_as_often_as_asked():
    model = module(n_classes=3, drop_labels=0.25)
    seen = []
    model.net.register_forward_hook(lambda net, args, output: seen.append(args[2]))
    for i in range(50):
        model.losses(batch_of(stream=f"noise{i}"))
    labels = torch.cat(seen)
    share = (labels == 3).double().mean()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / len(labels)) ** 0.5  # four standard errors
    kept = labels != 3
    given = (torch.arange(64) % 3).repeat(50)
    assert torch.equal(labels[kept], given[kept])


def test_weights_of_the_snr_make_every_target_the_noise():
    batch = batch_of()
    model = module("x0", weighting="snr")
    level, _, eps = drawn(batch.drawn, batch.x)
    t = level_at(level, 50)
    x_t = diffuse(LINEAR, batch.x, t, eps)
    signal, noise = (a.float()[:, None] for a in (LINEAR.at(t).sqrt(), (1 - LINEAR.at(t)).sqrt()))
    said = (x_t - signal * model.net(x_t, (t / 50).float())) / noise
    expected = (said - eps).square().mean()
    torch.testing.assert_close(model.losses(batch)["loss"], expected, rtol=1e-4, atol=0)


def test_a_learned_variance_adds_a_thousandth_of_the_whole_bound_per_dimension():
    """One example at each of the 50 levels: the mean of T times each term is their sum."""
    model = module(n_outputs=2).double()
    x = torch.randn(50, 2, generator=generator(0, "x"), dtype=torch.float64)
    numbers = torch.rand(50, 4, generator=generator(0, "noise"), dtype=torch.float64)
    numbers[:, 0] = (torch.arange(50) + 0.5) / 50
    loss = model.losses(Batch(x, torch.zeros(50, dtype=torch.int64), numbers))["loss"]
    terms, squares = [], []
    for t, x0, eps in zip(range(1, 51), x.split(1), numbers[:, 2:].split(1), strict=True):
        denoiser = model.denoiser()
        if t > 1:
            terms.append(step_term(denoiser, x0, t - 1, t, eps, "learned"))
        else:
            terms.append(reconstruction_term(denoiser, x0, 1, eps, "learned"))
        squares.append((denoiser(diffuse(LINEAR, x0, t, eps), t).eps - eps).square().mean())
    expected = sum(squares) / 50 + 1e-3 * sum(terms) / 2
    torch.testing.assert_close(loss, expected[0].float(), rtol=1e-5, atol=0, check_dtype=False)


def test_the_bound_teaches_the_variance_and_not_the_mean():
    model, plain = module(n_outputs=2), batch_of()
    loss = model.losses(plain)["loss"]
    gradient = torch.autograd.grad(loss, model.net.mlp.output.bias)[0].reshape(2, 2)
    level, _, eps = drawn(plain.drawn, plain.x)
    t = level_at(level, 50)
    output = model.net(diffuse(LINEAR, plain.x, t, eps), (t / 50).float())[:, 0]
    alone = torch.autograd.grad((output - eps).square().mean(), model.net.mlp.output.bias)[0]
    torch.testing.assert_close(gradient[0], alone.reshape(2, 2)[0], rtol=1e-5, atol=1e-7)
    assert gradient[1].abs().min() > 0


def test_a_network_without_levels_is_refused():
    with pytest.raises(ValueError, match="net=time_mlp"):
        Diffusion(FCN([2], 2), LINEAR, ADAM)


def test_noise_as_the_target_of_pure_noise_is_refused():
    with pytest.raises(ValueError, match="kind=v"):
        module("eps", schedule.angle_uniform(50))
    module("v", schedule.angle_uniform(50))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_network_with_labels_must_learn_to_do_without_and_with_them(share):
    with pytest.raises(ValueError, match=r"set drop_labels=0\.1"):
        module(n_classes=3, drop_labels=share)


def test_a_schedule_of_one_level_is_refused():
    with pytest.raises(ValueError, match="n_steps >= 2"):
        module("v", schedule.constant(1, 0.5))


def test_the_module_hands_weighting_and_gamma_on():
    """Min-SNR for the noise as the target: min(SNR, γ) / SNR (Hang et al. 2023, §3.4)."""
    model, batch = module(weighting="min_snr", gamma=0.5), batch_of()
    level, _, eps = drawn(batch.drawn, batch.x)
    t = level_at(level, 50)
    output = model.net(diffuse(LINEAR, batch.x, t, eps), (t / 50).float())
    snr = (LINEAR.alpha_bar / (1 - LINEAR.alpha_bar))[t]
    weight = (snr.clamp(max=0.5) / snr).float()
    assert weight.min() < 0.1 and weight.max() == 1
    expected = (weight * (output - eps).square().mean(1)).mean()
    torch.testing.assert_close(model.losses(batch)["loss"], expected, rtol=1e-4, atol=0)


def test_labels_to_drop_need_labels():
    with pytest.raises(ValueError, match="n_classes"):
        module(drop_labels=0.1)


def test_a_batch_without_noise_says_what_is_missing():
    with pytest.raises(ValueError, match="augment=noise"):
        module().losses(batch_of()._replace(drawn=None))
