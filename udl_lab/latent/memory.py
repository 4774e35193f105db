"""How much memory a computation holds at once, counted tensor by tensor."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _LiveBytes(TorchDispatchMode):
    """Counts the storage of every tensor made inside, until its last view is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.views: dict[int, int] = {}  # how many live tensors look at each storage
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {t.untyped_storage()._cdata for t in tree_leaves(args) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor, inputs)
        return result

    def _count(self, tensor: Tensor, inputs: set[int]) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address not in self.views:
            if address in inputs:  # a view of what was there before
                return
            self.views[address] = 0
            self.live += size
            self.peak = max(self.peak, self.live)
        self.views[address] += 1
        weakref.finalize(tensor, self._drop, address, size)

    def _drop(self, address: int, size: int) -> None:
        self.views[address] -= 1
        if not self.views[address]:
            del self.views[address]
            self.live -= size


def peak_bytes(function: Callable[[], object]) -> int:
    """The most bytes that tensors made by a function hold at one time, on any device.

    Workspace inside one operation is not seen (a convolution's, for one).
    """
    with _LiveBytes() as count:
        function()
    return count.peak
