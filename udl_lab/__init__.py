"""A laboratory for understanding deep learning: every number stands beside its ground truth.

Importing the package imports nothing heavy, so that `--help` and a mistyped name are answered at
once; the modules that need torch or lightning import them (and `torchvision_repair`) themselves.
"""

__version__ = "0.1.0"
