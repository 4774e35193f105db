"""Runs: executed from a configuration, written to a folder and reopened."""

import os

from udl_lab.torchvision_repair import repair

repair()  # before lightning, which imports torchvision
os.environ.setdefault("WANDB_SILENT", "true")  # before wandb: a run prints its own summary
