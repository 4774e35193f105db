"""How a network is trained: thin, final LightningModules."""

from udl_lab.torchvision_repair import repair

repair()  # before lightning, which imports torchvision
