"""What each layer of a network computes: forward hooks that leave no trace.

`record` watches any number of forwards; `activations` is the everyday one-shot reader. Layers carry
their eager names (without the `_orig_mod` of a compiled module or the `module` of a DDP wrapper);
the network itself is called `"."`, a name that no layer can have.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn

from udl_lab.activations.byte_budget import in_bytes, spelled
from udl_lab.activations.sites import Site, match, named_layers, tensors_in
from udl_lab.errors import UsageError

Reduce = Callable[[Site, Tensor], None]


@contextmanager
def record(
    net: nn.Module,
    sites: str | Sequence[str],
    *,
    copy: str = "clone",
    stop: bool = False,
    reduce: Reduce | None = None,
    max_bytes: int | str | None = None,
) -> Iterator["Recording"]:
    """Record the outputs of the modules named by `sites` while the block runs.

    Only what runs inside `net(...)` counts, and the last forward is kept, detached unless it is
    live. Train or eval mode, grad mode and random state stay the caller's. A compiled net runs
    eagerly in the block, so that recording neither recompiles it nor is compiled into it.

    Args:
        net: the network; DDP and compiled wrappers are looked through.
        sites: globs over module names, where `*` also crosses dots. A glob passes over the network
            itself and modules that only group others (Sequential, ModuleList): name those exactly.
        copy: "clone" copies each tensor, so that a later in-place operation cannot change it.
            "guard" copies nothing and refuses to read a tensor that was written to since.
            "live" keeps the network's own tensor with its graph and forward-mode tangents, which
            the others drop; nothing tells of a later in-place operation.
        stop: abort a forward once every site has recorded; later calls of a module stay unknown.
            A bare `net(...)` then ends the block; after `rec.run(...)` the block goes on.
        reduce: is given each tensor, which is then not kept. Unless cloned, it is the network's own
            tensor: use it at once, and do not write to it.
        max_bytes: the most that one forward may keep, as a number or like "200MB"; a forward that
            exceeds it is aborted and nothing of it is kept. What `reduce` is given does not count.

    Raises:
        UsageError: a pattern names no module; or, when the block ends normally, has recorded
            nothing; or the net is wrapped in DataParallel; or a forward exceeds `max_bytes`.
    """
    recording = Recording(net, sites, copy, stop, reduce, max_bytes)
    with ExitStack() as attached:
        recording._attach(attached)
        with suppress(recording._stopped):
            yield recording
    recording._check()


def activations(
    net: nn.Module, *inputs: object, sites: str | Sequence[str], stop: bool = False
) -> dict[str, Tensor]:
    """The activations of one forward `net(*inputs)`, by site, in order of execution; see `record`.

    Keys are `str(site)`, except that the first call of a module that was called several times is
    `relu#0`: a bare `relu` would hide the other calls.
    """
    with record(net, sites, stop=stop) as rec:
        rec.run(*inputs)
    reused = {site.path for site in rec.sites() if site.call}
    return {s.in_full if s.path in reused else str(s): rec[s] for s in rec.sites()}


class Recording:
    """The activations of the last forward; made by `record`."""

    def __init__(
        self,
        net: nn.Module,
        sites: str | Sequence[str],
        copy: str,
        stop: bool,
        reduce: Reduce | None,
        max_bytes: int | str | None = None,
    ):
        if copy not in ("clone", "guard", "live"):
            raise ValueError(f"copy={copy!r} is neither 'clone' nor 'guard' nor 'live'")
        self._net, self._copy, self._stop, self._reduce = net, copy, stop, reduce
        self._max_bytes = None if max_bytes is None else in_bytes(max_bytes)
        self._names: dict[nn.Module, list[str]] = {}  # the first is canonical, the rest aliases
        for name, module in named_layers(net):
            self._names.setdefault(module, []).append(name)
        self._aliases = {names[0]: names for names in self._names.values()}
        self._wanted = match([sites] if isinstance(sites, str) else sites, self._names)
        self._hooked = {module for modules in self._wanted.values() for module in modules}
        self._ever: set[nn.Module] = set()  # recorded in some forward
        # A class of its own, so that nested recordings do not catch each other's; an Exception, so
        # that torch still runs the hooks marked `always_call` on its way out.
        self._stopped = type("Stopped", (Exception,), {})
        self._running = False
        self._forget()

    def sites(self) -> list[Site]:
        """The sites that recorded in the last forward, in order of execution."""
        return list(self._kept)

    def __getitem__(self, address: str | Site) -> Tensor:
        """The activation at a site; call and port may be left out where there is only one.

        Raises:
            LookupError: nothing, or more than one tensor, was recorded under this address.
            RuntimeError: the tensor was modified in place (copy="guard"), or the module has since
                run outside `net(...)`, so that this is not its last output.
        """
        if isinstance(address, Site) and address in self._kept:
            spelling, found = str(address), [address]
        else:
            spelling = address.in_full if isinstance(address, Site) else address
            found = [site for site in self._kept if spelling in self._spellings(site)]
        if len(found) != 1:
            many = "several tensors in the last forward" if found else f"nothing; {_RULE}"
            choice = [site.in_full for site in found or self._kept]
            raise LookupError(f"{spelling!r} recorded {many}; choose from {choice}")
        if found[0].path in self._strays:
            raise RuntimeError(f"{spelling!r} ran again after the last forward; {_RULE}")
        tensor, version = self._kept[found[0]]
        if tensor is None:
            raise LookupError(f"{spelling!r} was handed to `reduce`, so it was not kept")
        if version is not None and tensor._version != version:
            raise RuntimeError(
                f"{spelling!r} was modified in place after it was recorded: use copy='clone'"
            )
        return tensor

    def run(self, *inputs: object, **options: object) -> None:
        """One forward `net(*inputs, **options)`, cut short once `stop` is satisfied."""
        with suppress(self._stopped):
            self._net(*inputs, **options)

    def _attach(self, attached: ExitStack) -> None:
        if any("_orig_mod" in m._modules or m._compiled_call_impl for m in self._net.modules()):
            attached.enter_context(torch.compiler.set_stance("force_eager"))
        root = next(iter(self._names))
        attached.callback(root.register_forward_pre_hook(self._begin).remove)
        for module in self._hooked:
            attached.callback(module.register_forward_hook(self._record).remove)
        # Last, so that the network's own output still counts as inside its forward; and always, so
        # that a forward that failed is over too.
        end = root.register_forward_hook(self._end, always_call=True)
        attached.callback(end.remove)

    def _begin(self, root: nn.Module, inputs: object) -> None:
        if not _recomputing():
            self._forget()
            self._running = True

    def _end(self, root: nn.Module, inputs: object, output: object) -> None:
        self._running = False

    def _forget(self) -> None:
        self._kept: dict[Site, tuple[Tensor | None, int | None]] = {}  # with its guarded version
        self._calls: dict[nn.Module, int] = {}
        self._strays: set[str] = set()  # ran outside net(...) since this forward

    # A bound method, not a closure: `deepcopy(net)` inside the block copies the recording with the
    # hooks, instead of making a copy that writes into this one.
    def _record(self, module: nn.Module, inputs: object, output: object) -> None:
        path = self._names[module][0]
        if not self._running:
            if not _recomputing():
                self._strays.add(path)
            return
        call = self._calls.get(module, 0)
        self._calls[module] = call + 1
        for port, tensor in tensors_in(output):
            self._keep(Site(path, call, port), tensor)
            self._ever.add(module)
        if self._stop and self._hooked <= self._calls.keys():
            raise self._stopped

    def _keep(self, site: Site, tensor: Tensor) -> None:
        if self._reduce is None:
            self._check_budget(site, tensor)
        if self._copy != "live":
            tensor = tensor.detach()
        if self._copy == "clone":
            tensor = tensor.clone()
        elif self._copy == "guard" and self._reduce is None and tensor.is_inference():
            raise RuntimeError("inference_mode keeps no versions: use no_grad or copy='clone'")
        if self._reduce is not None:
            self._kept[site] = (None, None)
            self._reduce(site, tensor)
        else:
            self._kept[site] = (tensor, tensor._version if self._copy == "guard" else None)

    def _check_budget(self, site: Site, tensor: Tensor) -> None:
        if self._max_bytes is None:
            return
        sizes = {str(s): t.nbytes for s, (t, _) in self._kept.items() if t is not None}
        sizes[str(site)] = tensor.nbytes
        if sum(sizes.values()) > self._max_bytes:
            self._forget()
            each = ", ".join(f"{name} {spelled(size)}" for name, size in sizes.items())
            raise UsageError(
                f"the activations of one forward exceed max_bytes={spelled(self._max_bytes)} at "
                f"{site}: {each}; give fewer images at a time, name fewer sites, hand the tensors "
                "to `reduce`, or raise max_bytes"
            )

    def _spellings(self, site: Site) -> Iterator[str]:
        for name in self._aliases[site.path]:
            for called in (name, f"{name}#{site.call}"):
                yield from (called, f"{called}:{site.port}")

    def _check(self) -> None:
        for pattern, modules in self._wanted.items():
            if self._ever.isdisjoint(modules):
                raise UsageError(f"site {pattern!r} recorded nothing; {_RULE}")


_RULE = (
    "a module records tensors when it is called inside net(...): not by net.forward or another "
    "method, and not where its parent uses its weights directly (MultiheadAttention.out_proj)"
)


def _recomputing() -> bool:
    """Whether this is a backward pass, where gradient checkpointing repeats a forward."""
    return torch._C._current_graph_task_id() != -1
