"""One option of a configuration group, with some of its arguments changed on a command line."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from udl_lab.errors import UsageError
from udl_lab.runs.build import build
from udl_lab.runs.signature import check_target


def make_option(folder: Path, option: str, changes: dict[str, str]) -> Any:
    """What `<folder>/<option>.yaml` describes.

    Args:
        folder: the group's, whose name is that of the thing in messages.
        option: a file of it.
        changes: arguments that replace those of the file, as typed.

    Raises:
        UsageError: for an argument that it does not take, or a value that it cannot have.
    """
    node = OmegaConf.load(folder / f"{option}.yaml")
    typed = [f"{key}={value}" for key, value in changes.items()]
    try:
        node = OmegaConf.merge(node, OmegaConf.from_dotlist(typed))
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UsageError(f"{folder.name}: cannot read {changes} ({error})") from error
    assert isinstance(node, DictConfig)
    check_target(folder.name, node)
    return build(node, folder.name)
