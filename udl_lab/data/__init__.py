"""Data sets resident in memory, drawn in whole batches, reproducible by name."""

from udl_lab.torchvision_repair import repair

repair()  # before lightning, which imports torchvision
