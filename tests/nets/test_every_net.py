"""What must hold for every network with a configuration; a new one is found by its file."""

import io
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.randomness import generator, seeded

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted((CONFIGS / "net").glob("*.yaml"))
EXAMPLES = [OmegaConf.load(file).example for file in (CONFIGS / "data").glob("*.yaml")]
# The shapes of the data, and the largest digit where inputs are digits; a scalar and a vector in
# any case.
FOUND = {(tuple(e.shape), e.get("largest_digit", 0)) for e in EXAMPLES}
SHAPES = sorted(FOUND | {((1,), 0), ((2,), 0)})
N_OUT = 7  # no data set's number of classes
T = torch.tensor([0.1, 0.4, 0.7, 1.0])  # the noise levels of a batch's rows

every_net = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def build(file, shape, seed=0):
    example = {"shape": list(shape), "n_classes": N_OUT}
    config = OmegaConf.create({"example": example, "net": OmegaConf.load(file)})
    OmegaConf.resolve(config)
    with seeded(seed, "init"):
        return instantiate(config.net, _convert_="all")


def draw(n, shape, digit, name):
    """Inputs like those of the data: digits where its configuration says so, else any numbers."""
    g = generator(0, name)
    if digit:
        return torch.randint(1, digit + 1, (n, *shape), generator=g).float()
    return torch.randn(n, *shape, generator=g)


def run(net, x, t=T):
    """The outputs for a batch; a denoiser is told the noise level of each row."""
    if takes_level(net):
        return net(x, t[: len(x)].to(x.dtype))
    return net(x)


def takes_level(net):
    return getattr(net, "takes_level", False)


def is_latent(net):
    return isinstance(net, LatentModel | HierarchicalModel)


def everything(net, x):
    """All that a network computes; of a latent model its importance weights, and not only means."""
    if not is_latent(net):
        return run(net, x)
    eps = torch.randn(2, len(x), net.n_noise, generator=generator(0, "eps"))
    return net.terms((x > 0).to(x.dtype), eps).log_weights


def builds(file, seed=0):
    """The network for each shape of the lab's data that it is made for, with a batch of four."""
    pairs = []
    for shape, digit in SHAPES:
        x = draw(4, shape, digit, "batch")
        try:
            net = build(file, shape, seed)
            run(net, x)
        except Exception as refusal:
            assert isinstance(
                refusal.__cause__ or refusal, ValueError
            )  # no such shape, or no such inputs, for this net
            continue
        pairs.append((net, x))
    assert pairs, f"{file.name} builds a network for none of the shapes {SHAPES}"
    return pairs


def test_networks_and_shapes_were_found():
    assert FILES
    assert SHAPES


@every_net
def test_outputs_are_finite_and_one_row_for_each_example(file):
    for net, x in builds(file):
        row = x.shape[1:] if takes_level(net) or is_latent(net) else (N_OUT,)
        assert run(net, x).shape == (4, *row)
        assert run(net, x[:1]).shape == (1, *row)
        assert run(net, x).isfinite().all()
        assert tuple(net.in_shape) == x.shape[1:]


@every_net
def test_rows_of_a_batch_do_not_see_each_other(file):
    for net, x in builds(file):
        net.eval()
        others = x.clone()
        digit = dict(SHAPES)[tuple(x.shape[1:])]
        others[[0, 1, 3]] = draw(3, x.shape[1:], digit, "others")
        levels = torch.tensor([0.2, 1.0, T[2], 0.3])
        assert torch.equal(run(net, others, levels)[2], run(net, x)[2])
        assert not torch.equal(run(net, others)[1], run(net, x)[1])
        if takes_level(net):
            assert not torch.equal(run(net, x, levels)[1], run(net, x)[1])
        if digit:  # which have no derivative
            continue
        x.requires_grad_()
        run(net, x)[2].sum().backward()
        assert not x.grad[[0, 1, 3]].any()
        assert x.grad[2].any()


@every_net
def test_every_parameter_gets_a_gradient(file):
    for net, x in builds(file):
        everything(net, x).square().sum().backward()
        without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []
        assert sum(1 for _ in net.parameters()) > 0


@every_net
def test_a_saved_state_gives_equal_outputs_bit_for_bit(file):
    for (net, x), (other, _) in zip(builds(file, seed=0), builds(file, seed=1), strict=True):
        buffer = io.BytesIO()
        torch.save(net.state_dict(), buffer)
        buffer.seek(0)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(run(other, x), run(net, x))


@every_net
def test_the_weights_are_those_of_the_seed(file):
    for (net, x), (same, _), (other, _) in zip(
        builds(file, seed=0), builds(file, seed=0), builds(file, seed=1), strict=True
    ):
        assert torch.equal(run(net, x), run(same, x))
        assert not torch.equal(run(net, x), run(other, x))


@every_net
def test_double_precision_gives_the_same_outputs_to_rounding(file):
    for net, x in builds(file):
        y = run(net, x)
        exact = run(net.double(), x.double())
        # Single precision carries 2^-24 a rounding; a thousand of them in a row bound any net here.
        torch.testing.assert_close(y.double(), exact, rtol=0, atol=1000 * 2**-24)
