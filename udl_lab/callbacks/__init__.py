"""What watches a training run."""

from udl_lab.torchvision_repair import repair

repair()  # before lightning, which imports torchvision
