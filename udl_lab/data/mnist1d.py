"""MNIST-1D: ten classes of signals of 40 samples, generated, never downloaded."""

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from mnist1d.data import get_dataset_args, make_dataset

from udl_lab.data.source import Examples, Source


def mnist1d(root: str) -> Source:
    """4,000 training and 1,000 test signals at the package's defaults (Greydanus & Kobak 2024).

    The frozen file of the authors has the same labels and the same inputs to 2.2e-16.

    Args:
        root: not used: the signals are computed (about two seconds).
    """
    with isolate_rng():  # make_dataset reseeds the global generators
        arrays = make_dataset(get_dataset_args())
    return Source(
        *(
            Examples(
                torch.from_numpy(arrays[x]).float().unsqueeze(1), torch.from_numpy(arrays[y]).long()
            )
            for x, y in (("x", "y"), ("x_test", "y_test"))
        )
    )
