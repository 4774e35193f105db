"""Which values of a forward no hook sees: those that no module returns."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from udl_lab.activations.sites import named_layers, tensors_in


@dataclass(frozen=True)
class Unseen:
    """An operation whose results no module returns, how often, and in whose `forward`."""

    module: str
    operation: str
    count: int

    def __str__(self) -> str:
        return f"{self.module}: {self.operation} ({self.count})"


def unseen(net: nn.Module, *inputs: object) -> list[Unseen]:
    """The operations of one forward `net(*inputs)` that `record` misses, in order of first use.

    An operation counts when its result depends on the inputs, is a new value (no view or reshape
    of a seen one), and leaves no module. A `Tap` around it makes it seen. One forward is run
    without gradients, in the caller's mode; a compiled net runs eagerly. What torch's own functions
    do inside (`multi_head_attention_forward`) is one operation.

    Raises:
        UsageError: the net is wrapped in DataParallel.
    """
    watch = _Watch()
    with ExitStack() as attached:
        attached.enter_context(torch.compiler.set_stance("force_eager"))
        names = {}
        for name, module in named_layers(net):
            names.setdefault(module, name)
        for module, name in names.items():
            attached.callback(module.register_forward_pre_hook(watch.entering(name)).remove)
            leaving = module.register_forward_hook(watch.leaving, always_call=True)
            attached.callback(leaving.remove)
        attached.enter_context(torch.no_grad())
        for tensor in _tensors(inputs):
            watch.learn(tensor)
        attached.enter_context(watch)
        net(*inputs)
    return watch.unseen()


class _Watch(TorchFunctionMode):
    """Follows values by where they are stored and how often that was written to."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: list[Tensor] = []  # so that no storage is used twice
        self._known: set[tuple[int, int]] = set()  # depend on the inputs
        self._returned: set[tuple[int, int]] = set()  # by a module
        self._made: dict[tuple[int, int], tuple[str, str]] = {}  # by which operation
        self._inside: list[str] = []

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: Mapping | None = None
    ) -> object:
        kwargs = kwargs or {}
        # Before the call, which may write to its arguments.
        depends = any(_value(tensor) in self._known for tensor in _tensors((args, kwargs)))
        result = func(*args, **kwargs)
        for tensor in _tensors(result) if depends and self._inside else ():
            if _value(tensor) not in self._known:
                operation = resolve_name(func) or func.__name__
                self._made[_value(tensor)] = (self._inside[-1], operation)
                self.learn(tensor)
        return result

    def learn(self, tensor: Tensor) -> None:
        self._alive.append(tensor)
        self._known.add(_value(tensor))

    def entering(self, name: str) -> Callable:
        return lambda module, inputs: self._inside.append(name)

    def leaving(self, module: nn.Module, inputs: object, output: object) -> None:
        self._inside.pop()
        for tensor in _tensors(output):
            self._returned.add(_value(tensor))
            self.learn(tensor)

    def unseen(self) -> list[Unseen]:
        made = (by for value, by in self._made.items() if value not in self._returned)
        return [Unseen(*by, count) for by, count in Counter(made).items()]


def _tensors(values: object) -> Iterator[Tensor]:
    return (tensor for _, tensor in tensors_in(values) if tensor.numel())


def _value(tensor: Tensor) -> tuple[int, int]:
    return tensor.untyped_storage().data_ptr(), tensor._version
