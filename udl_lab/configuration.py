"""From what the user typed to a configuration, or to one message that says what to type instead.

Nothing here imports torch or lightning: a `--help` or a mistyped name is answered at once.
"""

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from udl_lab.errors import UsageError, nearest

_PACKAGE = Path(__file__).resolve().parents[0]
_ASSETS = _PACKAGE / "_assets"
ROOT = _ASSETS if _ASSETS.is_dir() else _PACKAGE.parent
CONFIGS = ROOT / "configs"
SYMMETRIES = CONFIGS / "symmetry"
SAMPLERS = CONFIGS / "sampler"
EXPERIMENTS = ROOT / "experiments"  # configs/experiment points here: Hydra's group of that name

# What a training is made of and a calculation goes without (configs/without_training.yaml).
OF_TRAINING = ("data", "augment", "net", "model", "trainer", "callbacks", "measure", "weights")


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(folder.name for folder in EXPERIMENTS.iterdir() if folder.is_dir())


def arms(study: str) -> list[str]:
    """The names of a study's arms."""
    files = (EXPERIMENTS / study).glob("*.yaml")
    return sorted(file.stem for file in files if file.stem != "claims")


def groups() -> dict[str, list[str]]:
    """The options of every configuration group of a run, but the experiments."""
    folders = sorted(f for f in CONFIGS.iterdir() if f.is_dir() and not f.is_symlink())
    return {f.name: _options(f) for f in folders if f not in (SYMMETRIES, SAMPLERS)}


def symmetries() -> list[str]:
    """The actions that `python -m udl_lab.probe` knows by name."""
    return _options(SYMMETRIES)


def samplers() -> list[str]:
    """The samplers that `python -m udl_lab.sample` knows by name."""
    return _options(SAMPLERS)


def _options(folder: Path) -> list[str]:
    return sorted(option.stem for option in folder.glob("*.yaml"))


def _list_experiments() -> str:
    return "\n".join(f"  {study}/{{{','.join(arms(study))}}}" for study in studies() if arms(study))


def _list_groups() -> str:
    return "\n".join(f"  {group}: {', '.join(options)}" for group, options in groups().items())


OmegaConf.register_new_resolver("udl.experiments", _list_experiments, replace=True)
OmegaConf.register_new_resolver("udl.groups", _list_groups, replace=True)


def command(task: Callable[[DictConfig], Any]) -> None:
    """Run a task as a command: compose what the command line says, and turn mistakes into messages.

    Exits with code 2 and one message on a user's mistake. `UDL_TRACEBACK=1` shows the traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting

    def run(cfg: DictConfig) -> None:
        exit_with_message(lambda: task(cfg))  # here, or Hydra prints a message of its own

    main = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")(run)
    exit_with_message(lambda: (check_experiment(sys.argv[1:]), main()))


def exit_with_message(run: Callable[[], Any]) -> None:
    """Call `run`; on a user's mistake print one message and exit with code 2."""
    try:
        run()
    except (UsageError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("UDL_TRACEBACK"):
            raise
        print(f"udl_lab: {explain(error)}", file=sys.stderr)
        sys.exit(2)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration that `python -m udl_lab.train <overrides>` would run.

    Raises:
        UsageError: when a name, key or value does not exist.
    """
    check_experiment(overrides)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose("train", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error)) from error


def check_experiment(overrides: Sequence[str]) -> None:
    """Refuse an experiment that does not exist.

    Hydra would take `claims.yaml` for an arm, and lists the arms of a wrong study in an odd place.

    Raises:
        UsageError: naming the nearest studies or arms.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") in ("experiments", "experiment") and value not in ("", "null"):
            if key.lstrip("+") == "experiments":
                raise UsageError(f"write experiment={value}, in the singular")
            for experiment in value.split(","):
                check_arm(experiment)


def check_arm(experiment: str) -> None:
    """Refuse a `<study>/<arm>` that does not exist.

    Raises:
        UsageError: naming the nearest studies or arms.
    """
    study, _, arm = experiment.partition("/")
    if study not in studies():
        raise UsageError(f"there is no study {study!r}; {nearest(study, studies())}")
    if arm not in arms(study):
        every = arms(study)
        asked = f"there is no arm {arm!r} in study {study!r}" if arm else f"{study!r} has arms"
        hint = (
            nearest(arm, every) if arm else f"choose one: experiment={study}/{{{','.join(every)}}}"
        )
        raise UsageError(f"{asked}; {hint}")


def explain(error: Exception) -> str:
    """One message for an error of composition: the bad name or value, and the nearest valid."""
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read {error.override!r} ({str(error).splitlines()[0]}); write key=value, and "
            "quote brackets for the shell: 'net.widths=[64,32]'"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        valid = groups().get(group, error.options or [])
        return f"there is no {group}={option}; {nearest(option, valid)}"
    if isinstance(error, ConfigCompositionException):
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return _explain_key(cause)
        first = str(error).splitlines()[0]
        if "No match in the defaults list" in str(error) or "Could not override" in first:
            name = first.split("'")[1] if "'" in first else first
            return f"there is no key or group {name!r}; {nearest(name.lstrip('+'), _top_level())}"
    return str(error)


def _explain_key(cause: OmegaConfBaseException) -> str:
    key = str(cause.full_key)
    parent = cause.parent_node
    name = key.rpartition(".")[2]
    if key in OF_TRAINING and isinstance(parent, DictConfig) and "calculation" in parent:
        return no_use_for(key)
    # A node that could not even be made (bad syntax in its file) has no content to search.
    searchable = isinstance(parent, DictConfig) and isinstance(parent._content, dict)
    if not searchable or name in parent:
        return f"{key}: {str(cause).splitlines()[0]}"
    valid = [str(k) for k in parent if not str(k).startswith("_")]
    if not difflib.get_close_matches(name, valid):
        # The right name in the wrong place: model.lr for model.optimizer.lr.
        everywhere = _every_key(parent._get_root())
        lasts = {k.rpartition(".")[2] for k in everywhere}
        near = difflib.get_close_matches(name, lasts, cutoff=0.75)
        close = [k for last in near for k in everywhere if k.rpartition(".")[2] == last]
        if close:
            return f"there is no key {key!r}; did you mean {' or '.join(close[:3])}?"
    return f"there is no key {key!r}; {nearest(name, valid)} (--help shows every key)"


def no_use_for(key: str) -> str:
    """What to say when a calculation is given something that only a training has."""
    debug = " (debug=fast does)" if key == "trainer" else ""
    return (
        f"{key}: a calculation trains nothing and has no {key}; leave out what sets it{debug}, or "
        "set calculation=none"
    )


def _every_key(node: Any, prefix: str = "") -> list[str]:
    """The dotted names of all values below a node, the ones beginning with _ left out."""
    if not isinstance(node, DictConfig) or node._is_none():
        return []
    keys = []
    for name in map(str, node):
        if not name.startswith("_"):
            keys += [prefix + name, *_every_key(node._get_node(name), f"{prefix}{name}.")]
    return keys


def _top_level() -> list[str]:
    keys = OmegaConf.load(CONFIGS / "train.yaml")
    return [*groups(), "experiment", *(str(k) for k in keys if k not in ("defaults", "hydra"))]
