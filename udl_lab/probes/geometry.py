"""Where the places of each layer's map lie in the input, and what they see of it.

The geometry is found by one forward of a batch: hooks on the layers, and between them the autograd
graph, which names every operation that led from one layer to the next, in modules or not. Where
the way back to the input is not understood, the site's geometry has a `reason` why it is unknown,
and so have the sites after it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from udl_lab.activations.sites import ROOT, Site, named_layers
from udl_lab.probes.subject import device_of, evaluating
from udl_lab.probes.windows import Geometry, Lost, Step, module_step, operation_steps


@dataclass(frozen=True)
class Layer:
    """One call of one module: what it was given, and the operations since the layer before."""

    site: str
    module: nn.Module
    source: int  # the layer before, by its place in the list; -1 is the input
    before: Geometry  # of the source
    steps: tuple[tuple[Step, Geometry], ...]  # each with the geometry after it
    geometry: Geometry


def geometry(net: nn.Module, in_shape: Sequence[int]) -> dict[str, Geometry]:
    """The geometry of each leaf module's output, in order of execution.

    The sites are those of `activations`.

    Args:
        net: the network, run once, in evaluation mode, on a batch of zeros.
        in_shape: (channels, *sides) of one example.
    """
    return {layer.site: layer.geometry for layer in trace(net, in_shape)}


def trace(net: nn.Module, in_shape: Sequence[int]) -> list[Layer]:
    """The calls of a network's leaf modules, in order of execution, each with what it does to maps.

    A module with a `kernel_size` counts as a leaf, whatever it is made of. So `dilation`, `stride`,
    `padding` and `padding_mode` make the geometry of any module known, unless it is torch's own.
    """
    _, net = next(named_layers(net))  # without the wrapper of a compiled or distributed network
    dtypes = (p.dtype for p in net.parameters() if p.is_floating_point())
    x = torch.zeros(2, *in_shape, dtype=next(dtypes, torch.float64), device=device_of(net))
    x = x.requires_grad_().clone()  # a copy, so that a first layer may work in place
    tracer = _Tracer(x, tuple(in_shape[1:]))
    with ExitStack() as hooks:
        for path, module in _leaves(net):
            if tracer.paths.setdefault(module, path) == path:  # its first name
                hooks.callback(module.register_forward_pre_hook(tracer.enter).remove)
                hooks.callback(module.register_forward_hook(tracer.leave).remove)
        with evaluating(net), torch.enable_grad():
            net(x)
    return _with_calls(tracer.layers)


def _with_calls(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with the index of the call in the site, `relu#0`, where a module has several."""
    calls = Counter(layer.site for layer in layers)
    seen = Counter[str]()
    named = []
    for layer in layers:
        site = Site(layer.site, seen[layer.site])
        seen[layer.site] += 1
        named.append(replace(layer, site=site.in_full if calls[layer.site] > 1 else str(site)))
    return named


def _leaves(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that compute; a module of several names is met under each of them."""
    inside: tuple[str, ...] = ()  # the names that begin so are parts of a leaf
    for path, module in named_layers(net):
        if path.startswith(inside):
            continue
        if hasattr(module, "kernel_size") or not any(True for _ in module.children()):
            yield path, module
            inside = (*inside, "" if path == ROOT else f"{path}.")


_Place = tuple[Any, int]  # an operation of the autograd graph, and which of its outputs


@dataclass(frozen=True)
class _Path:
    """How a tensor came from the layer before it."""

    source: int
    before: Geometry
    steps: tuple[tuple[Step, Geometry], ...] = ()

    @property
    def geometry(self) -> Geometry:
        return self.steps[-1][1] if self.steps else self.before

    def then(self, step: Step, shape: tuple[int, ...]) -> "_Path":
        steps = (*self.steps, (step, self.geometry.after(step, shape)))
        return replace(self, steps=steps)


class _Tracer:
    """Notes every call of the hooked modules, and follows tensors back through the graph."""

    def __init__(self, x: Tensor, frame: tuple[int, ...]) -> None:
        rank = len(frame)
        pixels = Geometry(
            tuple(x.shape[1:]),
            frame,
            spatial=True,
            stride=(1,) * rank,
            receptive_field=(1,) * rank,
            start=(0.0,) * rank,
            padded=(False,) * rank,
        )
        if not frame:
            pixels = Geometry(pixels.shape, frame, reason="an example of one axis is no map")
        self.frame = frame
        self.paths: dict[nn.Module, str] = {}
        self.layers: list[Layer] = []
        # Holding the operations keeps them the same Python objects, so that they can be keys.
        self.made: dict[_Place, tuple[int, Geometry]] = {(x.grad_fn, x.output_nr): (-1, pixels)}
        self.given: dict[nn.Module, _Path | Lost] = {}

    def enter(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        """Before the call: a module that works in place then changes its input's history."""
        try:
            tensors = [value for value in inputs if isinstance(value, Tensor)]
            if len(tensors) != 1:
                raise Lost(f"it is given {len(tensors)} tensors, not one")
            self.given[module] = self.followed(tensors[0])
        except Lost as lost:
            self.given[module] = lost

    def leave(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
        try:
            path = self.passed(module, output, shape)
            geometry = path.geometry
        except Lost as lost:
            geometry = Geometry(shape, self.frame, reason=str(lost))
            path = _Path(-1, geometry)
        if isinstance(output, Tensor):
            self.made[output.grad_fn, output.output_nr] = len(self.layers), geometry
        site = self.paths[module]
        self.layers.append(Layer(site, module, path.source, path.before, path.steps, geometry))

    def passed(self, module: nn.Module, output: object, shape: tuple[int, ...]) -> _Path:
        """The path of a module's output."""
        path = self.given.pop(module)
        if isinstance(path, Lost):
            raise path
        if not isinstance(output, Tensor):
            raise Lost(f"it gives a {type(output).__name__}, not a tensor")
        step = module_step(module, path.geometry, shape)
        # A module that is not in the table is judged by the operations that it did.
        return path.then(step, shape) if step else self.followed(output)

    def followed(self, tensor: Tensor) -> _Path:
        """The path of a tensor, back along the graph to what a layer or the input gave."""
        place, nodes = (tensor.grad_fn, tensor.output_nr), []
        while place not in self.made:
            node = place[0]
            if node is None or len(node.next_functions) != 1:
                name = node.name() if node else "an operation without a derivative"
                raise Lost(f"{name} is no function of one earlier layer alone")
            nodes.append(node)
            place = node.next_functions[0]
        source, before = self.made[place]
        if not before.known:
            raise Lost(before.reason if source < 0 else f"follows {self._unknown(source)}")
        path = _Path(source, before)
        for node in reversed(nodes):
            # What autograd calls the input of the backward pass is the output of the forward.
            for step, shape in operation_steps(node, path.geometry, node._input_metadata[0].shape):
                path = path.then(step, shape)
        return path

    def _unknown(self, source: int) -> str:
        """The first layer that is unknown on the way to this one, and why."""
        reason = self.layers[source].geometry.reason
        if reason.startswith("follows "):
            return reason.removeprefix("follows ")
        return f"{self.layers[source].site}, which is unknown: {reason}"
