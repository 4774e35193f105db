"""From a configuration to objects: the only place that instantiates."""

import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from udl_lab.data.resident import ResidentData
from udl_lab.errors import UsageError
from udl_lab.models.diffusion import Diffusion
from udl_lab.models.vae import VAE
from udl_lab.randomness import seeded


def build(node: DictConfig | None, path: str, **injected: Any) -> Any:
    """Instantiate one node of the configuration; lists and dictionaries arrive as plain Python's.

    Raises:
        UsageError: when the constructor refuses its arguments.
    """
    if node is None:
        return None
    try:
        # Injected objects go past Hydra, which would turn a dataclass into a dictionary.
        return instantiate(node, _partial_=True, _convert_="all")(**injected)
    except Exception as error:
        # Hydra wraps what a constructor raises; the constructor's own words are the message.
        cause = error.__cause__ or error
        if isinstance(cause, ValueError | TypeError | OSError | UsageError):
            raise UsageError(f"{path}: {cause}") from error
        raise


def build_net(cfg: DictConfig) -> nn.Module:
    """The network with the weights it has before its first step: they depend on the seed alone."""
    with seeded(cfg.seed, "init"):
        return build(cfg.net, "net")


def build_model(cfg: DictConfig) -> L.LightningModule:
    """The network and how it is trained.

    Raises:
        UsageError: for a denoiser in a training that tells it no level.
    """
    net = build_net(cfg)
    model = build(cfg.model, "model", net=net)
    if getattr(net, "takes_level", False) and not isinstance(model, Diffusion):
        raise UsageError(
            f"net: {type(net).__name__} is a denoiser, which {type(model).__name__} tells no noise "
            "level; set model=diffusion and augment=noise, or choose another net"
        )
    return model


def build_data(cfg: DictConfig) -> ResidentData:
    """The data module; it has read nothing yet."""
    augment = build(cfg.augment, "augment")
    return build(cfg.data, "data", augment=augment)


def start_from_data(model: L.LightningModule, data: ResidentData) -> None:
    """Let a fresh latent model start at its training data, once they are read.

    A resumed or reopened one has its weights from the checkpoint.

    Raises:
        UsageError: for data that the model's head gives no probability.
    """
    if not isinstance(model, VAE):
        return
    try:
        model.net.head.check(data.test.x)  # whose pixels are drawn, where they are to be
        if hasattr(model.net, "start_at"):
            model.net.start_at(data.train.x)
    except ValueError as error:
        raise UsageError(f"net: {error}") from error


def as_config(config: dict[str, Any]) -> DictConfig:
    """A plain dictionary, from a checkpoint or a run folder, as a configuration."""
    return OmegaConf.create(config)


def load_checkpoint(path: str) -> dict[str, Any]:
    """Open a checkpoint without running anything that it may hold.

    Raises:
        UsageError: when it is no checkpoint, or holds more than plain data and tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a file that is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UsageError(f"there is no checkpoint {path}") from error
    except Exception as error:
        # torch's own message advises to load the file without protection: it is not passed on.
        raise UsageError(
            f"{path} is not a checkpoint of this lab: it is damaged, or holds code that was not "
            "run. Use another checkpoint, or make the run again"
        ) from error


def with_last_weights(
    content: dict[str, Any], make: Callable[[], L.LightningModule]
) -> L.LightningModule | None:
    """The model with the weights of a checkpoint's last step, where it holds an average as well.

    Lightning's weight averaging keeps the average under `state_dict`, and them under another name.
    """
    if "current_model_state" not in content:
        return None
    model = make()
    model.load_state_dict(content["current_model_state"])
    return model.float().eval()
