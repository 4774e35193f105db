"""A tiny problem that every callback is tried on: 100 digits and a linear map."""

import pytest


@pytest.fixture
def tiny():
    """Makes the data (4 steps an epoch, the last of 4 examples) and the model of a fit."""

    def make(net=None, seed=0, **settings):
        from udl_lab.data.digits import digits
        from udl_lab.data.resident import ResidentData
        from udl_lab.models.classifier import Classifier
        from udl_lab.nets.fcn import FCN
        from udl_lab.randomness import seeded

        usual = {"batch_size": 32, "n_validation": 1300, "mean": 0.1556, "std": 0.2774}
        data = ResidentData(digits, "", seed=seed, **(usual | {"n_train": 100} | settings))
        with seeded(seed, "init"):
            net = net or FCN([1, 28, 28], 10)
        return Classifier(net, 10, {"name": "sgd", "lr": 0.1, "momentum": 0.9}), data

    return make
