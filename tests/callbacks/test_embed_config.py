"""A checkpoint says how to rebuild its model, in plain data that cannot run code."""

from udl_lab.callbacks.embed_config import KEY, EmbedConfig  # isort: skip  # first

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

CONFIG = {
    "study": "tiny",
    "seed": 3,
    "net": {"_target_": "udl_lab.nets.fcn.FCN", "widths": [8, 4], "init": None},
    "data": {"mean": 0.1307, "root": "", "shuffled": False},
}


def test_the_configuration_comes_back_from_a_checkpoint_opened_as_plain_data(
    tiny, make_trainer, tmp_path
):
    checkpoint = ModelCheckpoint(str(tmp_path / "ckpt"), "last")
    make_trainer(EmbedConfig(CONFIG), checkpoint).fit(*tiny())
    content = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert content[KEY] == CONFIG


def test_no_checkpoint_holds_hyperparameters_of_another_kind(tiny, make_trainer, tmp_path):
    """What Lightning's `save_hyperparameters` would put there cannot be opened as plain data."""
    checkpoint = ModelCheckpoint(str(tmp_path / "ckpt"), "last")
    make_trainer(EmbedConfig(CONFIG), checkpoint).fit(*tiny())
    content = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert not {"hyper_parameters", "datamodule_hyper_parameters"} & content.keys()
