"""Training the denoiser of digits: the lab against a bare loop, and the net against a plain one."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

import torch
from _loops import LabSeconds, lab_epoch, print_fit, shuffled
from _timing import (
    arguments,
    in_turn,
    mnist_root,
    print_conditions,
    print_table,
    print_verdict,
    ratio,
    seconds,
    spread,
)
from torch import Tensor, nn

from udl_lab.data.mnist import mnist
from udl_lab.diffusion.schedule import linear
from udl_lab.nets.unet import UNet

LR, T = 0.002, 1000
OURS, BARE, PLAIN = "ours (udl_lab.train)", "bare torch", "bare torch, a plain U-Net"


def bare_denoising(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Adam on the mean squared error of v, and nothing else."""
    optimizer = torch.optim.Adam(net.parameters(), LR, fused=True)  # as the lab's
    alpha_bar = linear(T).alpha_bar
    for x, _ in batches:
        t = torch.randint(1, T + 1, (len(x),))
        kept = alpha_bar[t].float().reshape(-1, 1, 1, 1)
        signal, noise, eps = kept.sqrt(), (1 - kept).sqrt(), torch.randn_like(x)
        optimizer.zero_grad()
        said = net(signal * x + noise * eps, t / T)
        (said - (signal * eps - noise * x)).square().mean().backward()
        optimizer.step()


def plain() -> nn.Module:
    """Three resolutions from 28 x 28 pixels on, .75 M weights, as a library builds it."""
    if not find_spec("diffusers"):  # the lab's own at the full resolution, .67 M: a faster peer
        return UNet((1, 28, 28), (32, 64, 96), stem_stride=1)
    from diffusers import UNet2DModel

    channels = (32, 40, 60)
    net = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=4,
        add_attention=False,
    )
    return Unwrapped(net)


class Unwrapped(nn.Module):
    """diffusers' network, called as the lab's are."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t * T).sample


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time the cases, and print their ratios and the verdicts."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--steps", type=int, default=60, help="of an epoch (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="%(default)s, as data=mnist")
    options = parser.parse_args(arguments_given)
    root, size = mnist_root(parser, options.data_root), options.batch_size
    print_conditions(torch.get_num_threads())
    x, y = (part[: size * options.steps] for part in mnist(root).train)
    runs: list[LabSeconds] = []

    def ours() -> float:
        runs.append(
            lab_epoch(
                [
                    *("data=mnist", f"data.root={root}", f"data.n_train={len(y)}"),
                    *("data.mean=0.5", "data.std=0.5", f"data.batch_size={size}"),
                    *("augment=noise", "net=unet", "model=diffusion", "model.kind=v"),
                    f"model.optimizer.lr={LR}",
                ],
                measure=["denoising", "denoising.n_levels=1", "denoising.n_examples=10"],
            )
        )
        return runs[-1].epoch / len(y)

    def bare(net: nn.Module, n: int) -> float:
        batches = shuffled(2 * x[:n] - 1, y[:n], size)
        return seconds(lambda: bare_denoising(net.train(), batches)) / n

    cases = {  # seconds per image
        BARE: lambda: bare(UNet((1, 28, 28), attention=True), len(y)),
        OURS: ours,
        PLAIN: lambda: bare(plain(), max(1, options.steps // 6) * size),  # for about as long
    }
    times = in_turn(cases, options.repeats, options.warm_up)
    print_table(
        ["case", "images a second", "time / bare"],
        [
            (
                name,
                f"{spread(1 / taken for taken in times[name]):.0f}",
                f"{ratio(times, name, BARE):.2f}",
            )
            for name in cases
        ],
    )
    print_fit(runs[options.warm_up :])
    print_verdict("ours / bare", ratio(times, OURS, BARE), "at most", 1.05, ".2f")
    print_verdict(
        "images a second / plain U-Net's", ratio(times, PLAIN, BARE), "at least", 7, ".1f"
    )


if __name__ == "__main__":
    main()
