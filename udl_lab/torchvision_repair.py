"""Makes torchvision importable beside a torch of another build (CUDA torchvision, CPU torch).

Call `repair()` before the first import of torchvision, lightning or torchmetrics (both import
torchvision when it is installed). It declares a missing operator only *after* torchvision has tried
to load its own library and failed: declaring one that exists would abort the process.
"""

import re

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def repair() -> None:
    """Import torchvision, declaring each operator that its import finds missing.

    Raises:
        RuntimeError: when the import fails for any other reason.
    """
    declared = set()
    while True:
        try:
            import torchvision  # noqa: F401
        except ImportError:
            return
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None or missing[1] in declared:
                raise
            torch.library.define(f"torchvision::{missing[1]}", _SCHEMA)
            declared.add(missing[1])
        else:
            return
