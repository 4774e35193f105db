"""One reducer out of those of all processes."""

from typing import TypeVar

import torch.distributed as dist

from udl_lab.activations.protocol import Reducer

AReducer = TypeVar("AReducer", bound=Reducer)


def merge_over_processes(reducer: AReducer) -> AReducer:
    """The reducer, which now holds what those of all processes hold; the same in each of them.

    In a single process nothing happens. Otherwise all processes must call this, for the same
    reducers in the same order, also those that saw no image. Only numbers travel, not functions.

    Raises:
        ValueError: if two processes counted the same image.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return reducer
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, reducer.gathered)
    for rank, gathered in enumerate(everyone):
        if rank != dist.get_rank():
            reducer.gathered.merge(gathered)
    return reducer
