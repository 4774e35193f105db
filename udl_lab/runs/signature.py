"""Every value of a configuration, held against the signature of what it will build.

Before anything is built, read or written: names, types and the ranges of `udl_lab.ranges`.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_type_hints

import pydantic
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter

from udl_lab.configuration import OF_TRAINING, no_use_for
from udl_lab.errors import UsageError, nearest
from udl_lab.ranges import NonNegative
from udl_lab.runs.compatible import check_parts

_LOOSE = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

# What `udl_lab.runs.build` hands over itself, and no configuration can.
INJECTED = {"model": {"net"}, "data": {"augment"}}

# Parts whose numbers others take over by interpolation.
_GIVERS = ("net", "model")

# Where the things that a configuration may build are written.
_BUILT = ("nets", "models", "data", "diffusion", "latent", "symmetry", "probes")

_TOP_LEVEL = {
    "study": str,
    "arm": str,
    "seed": NonNegative,
    "runs_root": str,
    "run_dir": str | None,
    "resume": str | None,
}


def check(cfg: DictConfig) -> None:
    """Refuse the first key that its target does not take, and the first value that it cannot be.

    Raises:
        UsageError: naming the key, the value and what is allowed.
    """
    for key, annotation in _TOP_LEVEL.items():
        _check_value(key, cfg[key], annotation)
    if "calculation" in cfg:
        for key in OF_TRAINING:
            if cfg.get(key) is not None:
                raise UsageError(no_use_for(key))
    # These first: other parts take numbers from them, and would be blamed for a wrong one.
    for path, node in sorted(_targets(cfg), key=lambda found: not found[0].startswith(_GIVERS)):
        check_target(path, node)
    if "calculation" not in cfg:
        _check_training(cfg)


def _check_training(cfg: DictConfig) -> None:
    """Refuse parts that do not go together."""
    _check_value("weights", cfg.weights, Literal["best", "last"])
    if cfg.weights == "best" and not cfg.data.n_validation:
        raise UsageError(
            "weights=best is chosen on the validation split, and data.n_validation=0 leaves none; "
            "set weights=last or data.n_validation"
        )
    check_parts(cfg, lambda path: _find(path, OmegaConf.select(cfg, path)["_target_"]))


def refuse_foreign_targets(cfg: DictConfig) -> None:
    """Refuse a configuration that would build anything but the lab's own parts.

    For a configuration that comes with a file from somebody else: `_target_` may name any function
    of any library, and building calls it.

    Raises:
        UsageError: naming the first foreign target.
    """
    rooms = tuple(f"udl_lab.{room}." for room in _BUILT)
    built = ("net", "model", "data", "augment", "measure")
    parts = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in built if cfg.get(key)}
    for path, node in _targets(OmegaConf.create(parts)):
        name = str(node["_target_"])
        # `udl_lab.data.x.os.system` begins well too: ask the thing itself where it was written.
        if not name.startswith(rooms) or not _find(path, name).__module__.startswith(rooms):
            raise UsageError(
                f"{path}._target_={name} is not one of the lab's networks, models, data or "
                "measurements; a checkpoint may build nothing else"
            )


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, ListConfig):
        children = enumerate(node)
    elif isinstance(node, DictConfig) and not node._is_none():
        if "_target_" in node:
            yield path, node
        children = ((name, node[name]) for name in node)
    else:
        return
    for name, child in children:
        yield from _targets(child, f"{path}.{name}" if path else str(name))


def check_target(path: str, node: DictConfig) -> None:
    target = _find(path, node["_target_"])
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = _hints(target)
    given = {str(k) for k in node if not str(k).startswith("_")}
    for name in sorted(given):
        if name not in parameters:
            if takes_any:
                continue
            raise UsageError(
                f"{path}.{name}: {target.__qualname__} takes no {name!r}; "
                f"{nearest(name, parameters)}"
            )
        if name in hints and not _builds(node[name]):
            _check_value(f"{path}.{name}", node[name], hints[name])
    needed = {
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    missing = needed - given - INJECTED.get(path, set())
    if missing and not node.get("_partial_"):
        raise UsageError(
            f"{path}: {target.__qualname__} needs {', '.join(sorted(missing))} as well"
        )


def _find(path: str, name: str) -> Callable[..., Any]:
    try:
        return get_object(name)
    except Exception as error:
        raise UsageError(f"{path}._target_={name} cannot be imported ({error})") from error


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:  # a library whose types are imported for type checkers only
        return {}


def _builds(value: Any) -> bool:
    """Whether a value is, or holds, something that will be built from a target of its own."""
    return any(True for _ in _targets(value))


def _check_value(key: str, value: Any, annotation: Any) -> None:
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    try:
        adapter = TypeAdapter(annotation, config=_LOOSE)
    except (pydantic.PydanticUserError, pydantic.errors.PydanticSchemaGenerationError):
        try:
            adapter = TypeAdapter(annotation)
        except pydantic.PydanticUserError:
            return  # a type that says nothing about plain values
    try:
        adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise UsageError(_message(key, annotation, error)) from error


def _message(key: str, annotation: Any, error: pydantic.ValidationError) -> str:
    """The value that is wrong, inside a list or dictionary too, and what is allowed there."""
    first = error.errors(include_url=False)[0]
    inside = [part for part in first["loc"] if not _names_a_type(part)]
    place = ".".join([key, *map(str, inside)])
    allowed = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "extra_forbidden":
        return f"there is no key {place!r}; {nearest(str(inside[-1]), _fields(annotation))}"
    return f"{place}={first['input']!r}: {allowed}"


def _fields(annotation: Any) -> list[str]:
    """The keys that a dictionary type has."""
    return list(getattr(annotation, "__annotations__", {}))


def _names_a_type(part: int | str) -> bool:
    """Pydantic names the branch of a union in the place; only keys and positions are the user's."""
    return isinstance(part, str) and (part in ("int", "float", "str", "bool") or "[" in part)
