"""Parts of a configuration that do not go together, told before any of them is built."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig

from udl_lab.data.latent_noise import LatentNoise
from udl_lab.data.noise import Noise
from udl_lab.errors import UsageError
from udl_lab.latent.mlp_vae import LinearVAE
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.models.diffusion import Diffusion
from udl_lab.models.vae import VAE, check_processes
from udl_lab.probes.against_ppca import AgainstPPCA
from udl_lab.probes.posterior_gaps import PosteriorGaps

_SAMPLERS = "udl_lab.diffusion.walks."


class _Kind(NamedTuple):
    """A kind of training with noise and measurements of its own."""

    model: type
    flag: str  # the class attribute of measurements that are of this kind only
    subject: str
    option: str
    measures: str
    augment: type
    says: str
    noise: str


_KINDS = (
    _Kind(
        *(Diffusion, "of_denoisers", "a denoiser", "diffusion"),
        "measure=denoising, or vector_samples, image_samples, …",
        *(Noise, "learns to denoise", "noise"),
    ),
    _Kind(
        *(VAE, "of_latents", "a latent model", "vae", "measure=latent"),
        *(LatentNoise, "samples its latents", "latent_noise"),
    ),
)


def check_parts(cfg: DictConfig, find: Callable[[str], Callable[..., Any]]) -> None:
    """Refuse a network, measurement, augmentation or data that are not this training's.

    Args:
        cfg: a configuration of a training.
        find: what a part of it builds, by its path.

    Raises:
        UsageError: naming both parts and the remedy.
    """
    model = find("model")
    kind = next((kind for kind in _KINDS if kind.model is model), None)
    _check_net(find("net"), model)
    for name in cfg.measure:
        measurement = find(f"measure.{name}")
        of = next((k for k in _KINDS if getattr(measurement, k.flag, False)), None)
        if of is kind:
            _check_measured(f"measure.{name}", measurement, find("net"), cfg.net)
            continue
        said = f"measure.{name}: {measurement.__qualname__}"
        if of is not None:
            raise UsageError(
                f"{said} is made of {of.subject} only; set model={of.option} or another measure"
            )
        assert kind is not None
        raise UsageError(f"{said} cannot be made of {kind.subject}; set {kind.measures}")
    if kind is None:
        return
    augment = find("augment") if cfg.augment else None
    if augment is not kind.augment:
        raise UsageError(
            f"model={kind.option} {kind.says}, and augment ({getattr(augment, '__name__', 'none')})"
            f" draws no noise; set augment={kind.noise}"
        )
    if model is Diffusion:
        for part in ("measure", "callbacks"):
            _check_steps(part, cfg[part], cfg.model.schedule.get("n_steps"))
    if model is VAE:
        _check_pixels(cfg)
        _check_drawn(cfg)
        devices = cfg.trainer.get("devices", 1)
        if isinstance(devices, int):  # "auto" and the like are known once a trainer is made
            check_processes(cfg.model.get("free_bits", 0.0), max(1, devices))


def _check_net(net: Callable[..., Any], model: Callable[..., Any]) -> None:
    latent = inspect.isclass(net) and issubclass(net, LatentModel | HierarchicalModel)
    if latent and model is not VAE:
        raise UsageError(
            f"net: {net.__name__} is a latent model, which {model.__name__} cannot train; set "
            "model=vae and augment=latent_noise, or choose another net"
        )
    if model is VAE and not latent:
        raise UsageError(
            f"net: {net.__name__} is no latent model, which model=vae trains; set net=mlp_vae, "
            "two_layer_vae, conv_vae or linear_vae"
        )


def _check_measured(
    path: str, measurement: Callable[..., Any], net: Callable[..., Any], settings: DictConfig
) -> None:
    """Refuse a network that cannot be measured so, now and not once it is trained."""
    if measurement is AgainstPPCA and net is not LinearVAE:
        raise UsageError(
            f"{path}: AgainstPPCA is made of a linear VAE only, and net is {net.__name__}; set "
            "net=linear_vae or another measure"
        )
    if measurement is not PosteriorGaps:
        return
    if inspect.isclass(net) and issubclass(net, HierarchicalModel):
        raise UsageError(
            f"{path}: PosteriorGaps is made of one layer of latents, and {net.__name__} has two; "
            "set net=mlp_vae net.latent=2 or another measure"
        )
    latent = settings.get("latent")
    if latent is not None and latent > 2:
        raise UsageError(
            f"{path}: PosteriorGaps integrates over one or two latents, and net.latent={latent}; "
            "set net.latent=2 or another measure"
        )


def _check_drawn(cfg: DictConfig) -> None:
    """Refuse noise for another number of samples, latents or pixels than the network takes."""
    k, drawn = cfg.model.get("k", 1), cfg.augment.get("k", 1)
    if k != drawn:
        raise UsageError(
            f"augment.k={drawn} draws noise for other samples than model.k={k} takes; leave "
            "augment.k out"
        )
    given = cfg.augment.get("latents")
    for name in ("latent", "latents"):
        latents = cfg.net.get(name)
        if latents is not None and given is not None and _total(latents) != _total(given):
            raise UsageError(
                f"augment.latents={given} draws noise for other latents than net.{name}={latents} "
                "has; leave augment.latents out"
            )
    shape, pixels = cfg.example.shape, cfg.augment.get("in_shape")
    if pixels is not None and math.prod(pixels) != math.prod(shape):
        raise UsageError(
            f"augment.in_shape={pixels} draws other pixels than those of the data, "
            f"example.shape={shape}; leave augment.in_shape out"
        )


def _total(latents: int | Sequence[int]) -> int:
    return latents if isinstance(latents, int) else sum(latents)


def _check_pixels(cfg: DictConfig) -> None:
    drawn = cfg.augment.get("binarise", "stochastic") != "none"
    if (drawn or cfg.net.get("head") == "bernoulli") and (cfg.data.mean, cfg.data.std) != (0, 1):
        raise UsageError(
            f"data.mean={cfg.data.mean} and data.std={cfg.data.std} move pixels out of [0, 1], "
            "where they are probabilities for augment=latent_noise and a Bernoulli head; set "
            "data.mean=0 data.std=1"
        )


def _check_steps(path: str, node: Any, n_levels: int | None) -> None:
    """Refuse a sampler of more steps than levels now, and not once the network is trained."""
    if n_levels is None or not isinstance(node, DictConfig | ListConfig):
        return
    named = node.items() if isinstance(node, DictConfig) else enumerate(node)
    for name, child in named:
        _check_steps(f"{path}.{name}", child, n_levels)
    if not isinstance(node, DictConfig) or "steps" not in node:
        return
    if str(node.get("_target_", "")).startswith(_SAMPLERS) and node.steps > n_levels:
        raise UsageError(
            f"{path}.steps={node.steps}: a sampler takes at most as many steps as levels, and "
            f"model.schedule.n_steps={n_levels}; take fewer steps"
        )
