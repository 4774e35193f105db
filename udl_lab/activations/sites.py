"""Addresses of what a network computes: its layers by their eager names, calls and outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from udl_lab.errors import UsageError, nearest

ROOT = "."


@dataclass(frozen=True)
class Site:
    """Where a tensor appeared: which module, which of its calls in one forward, which output.

    Written `fc`, `relu#1` (second call), `lstm:0` or `lstm:1.0` (in nested tuples) and
    `heads:logits` (in a dict). The port is empty when the output is the tensor itself.
    """

    path: str
    call: int = 0
    port: str = ""

    def __str__(self) -> str:
        return self._spelled(f"#{self.call}" if self.call else "")

    @property
    def in_full(self) -> str:
        """The address with its call index, also for the first call."""
        return self._spelled(f"#{self.call}")

    def _spelled(self, call: str) -> str:
        return self.path + call + (f":{self.port}" if self.port else "")


def named_layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module under each of its eager names, parents first."""
    if isinstance(module, nn.DataParallel):
        raise UsageError("DataParallel copies the net in every forward: record its `.module`")
    if "_orig_mod" in module._modules:
        yield from named_layers(module.get_submodule("_orig_mod"), path)
    elif isinstance(module, nn.parallel.DistributedDataParallel):
        yield from named_layers(module.module, path)
    else:
        yield path or ROOT, module
        for name, child in module._modules.items():
            if child is not None:
                yield from named_layers(child, f"{path}.{name}" if path else name)


def match(patterns: Sequence[str], names: dict[nn.Module, list[str]]) -> dict[str, set[nn.Module]]:
    """The modules that each pattern names: exactly, or else as a glob over those that compute."""
    if not patterns:
        raise UsageError("no sites were asked for; sites='*' records every layer")
    grouping = (nn.Module.forward, nn.Sequential.forward)  # the first is also ModuleList's
    layers = [m for m in list(names)[1:] or names if type(m).forward not in grouping]
    wanted = {}
    for pattern in patterns:
        wanted[pattern] = {m for m in names if pattern in names[m]} or {
            m for m in layers if any(fnmatchcase(name, pattern) for name in names[m])
        }
        if not wanted[pattern]:
            known = [name for aliases in names.values() for name in aliases]
            raise UsageError(
                f"site {pattern!r} names no layer (a glob passes over Sequential, ModuleList and "
                f"the network itself, whose exact name is {ROOT!r}): {nearest(pattern, known)}"
            )
    return wanted


def tensors_in(output: object, port: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors inside nested tuples, lists and mappings; anything else is passed over."""
    if isinstance(output, Tensor):
        yield port, output
    elif isinstance(output, Mapping | tuple | list):
        parts = output.items() if isinstance(output, Mapping) else enumerate(output)
        for key, part in parts:
            yield from tensors_in(part, f"{port}.{key}" if port else str(key))
