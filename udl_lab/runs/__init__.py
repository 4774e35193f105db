"""Runs: executed from a configuration, written to a folder and reopened."""

from udl_lab.torchvision_repair import repair

repair()  # before lightning, which imports torchvision
