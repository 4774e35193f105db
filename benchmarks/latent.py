"""Importance-weighted bounds: a training step with many samples, and log p(x) with thousands."""

import math
from collections.abc import Sequence

import torch
from _timing import (
    Case,
    arguments,
    in_turn,
    print_conditions,
    print_table,
    print_verdict,
    ratio,
    seconds,
    spread,
)
from torch import Tensor, nn
from torch.nn import functional as F

from udl_lab.latent.gradients import iwae
from udl_lab.latent.log_likelihood import bytes_per_sample, importance_log_likelihood
from udl_lab.latent.mlp_vae import MLPVAE
from udl_lab.randomness import generator, seeded

STEP, NAIVE_STEP = "a step, ours", "a step, x repeated k times"
LIKELIHOOD, NAIVE_LIKELIHOOD = "log p(x), ours", "log p(x), x repeated K times"
CHUNKED_LIKELIHOOD = "log p(x), x repeated 2,500 times, twice"  # how much of it is the chunks


def naive_log_weights(net: MLPVAE, x: Tensor, k: int, stream: torch.Generator) -> Tensor:
    """As it is usually written: every image k times through encoder and decoder."""
    many = x.repeat_interleave(k, 0)
    mean, log_std = net.encoder(many).chunk(2, 1)
    eps = torch.randn(mean.shape, generator=stream)
    z = mean + log_std.exp() * eps
    logits = net.decoder(z)
    log_likelihood = -F.binary_cross_entropy_with_logits(
        logits, many.flatten(1), reduction="none"
    ).sum(1)
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
    log_posterior = -(0.5 * eps.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(1)
    return (log_likelihood + log_prior - log_posterior).view(len(x), k).T


def steps(net: MLPVAE, x: Tensor, k: int) -> dict[str, Case]:
    """Loss, gradients and Adam, as both compute the very same bound."""

    def train(bound: nn.Module | None = None) -> None:
        optimizer.zero_grad()
        stream = generator(0, "step")
        if bound is None:
            value = naive_log_weights(net, x, k, stream).logsumexp(0) - math.log(k)
        else:
            value = iwae(net, x, torch.randn(k, len(x), net.n_noise, generator=stream)).value
        (-value.mean()).backward()
        optimizer.step()

    optimizer = torch.optim.Adam(net.parameters(), 1e-4, fused=True)  # as the lab's
    return {
        NAIVE_STEP: lambda: seconds(train),
        STEP: lambda: seconds(lambda: train(net)),
    }


def likelihoods(net: MLPVAE, x: Tensor, k: int) -> dict[str, Case]:
    """Each image's log p(x) from K weights; the naive ways one image after the other."""

    def naive(per_chunk: int) -> Tensor:
        stream, parts = generator(0, "weights"), []
        for done in range(0, k, per_chunk):
            n = min(per_chunk, k - done)
            parts.append(torch.stack([_column(net, image, n, stream) for image in x], 1))
        return torch.cat(parts).logsumexp(0) - math.log(k)

    def ours() -> Tensor:
        return importance_log_likelihood(net, x, k, None, generator(0, "weights")).log_likelihood

    with torch.no_grad():  # the same weights at the same noise
        eps = torch.randn(9, 1, net.n_noise, generator=generator(0, "weights"))
        expected = naive_log_weights(net, x[:1], 9, generator(0, "weights"))
        torch.testing.assert_close(net.terms(x[:1], eps).log_weights, expected)
    return {
        NAIVE_LIKELIHOOD: lambda: seconds(torch.no_grad()(lambda: naive(k))),
        CHUNKED_LIKELIHOOD: lambda: seconds(torch.no_grad()(lambda: naive(2500))),
        LIKELIHOOD: lambda: seconds(torch.no_grad()(ours)),
    }


def _column(net: MLPVAE, image: Tensor, n: int, stream: torch.Generator) -> Tensor:
    return naive_log_weights(net, image.unsqueeze(0), n, stream)[:, 0]


def main(arguments_given: Sequence[str] | None = None) -> None:
    """Time both pairs, and print their ratios and the verdicts."""
    parser = arguments(__doc__, repeats=7)
    parser.add_argument("--k", type=int, default=50, help="of a step (%(default)s)")
    parser.add_argument("--samples", type=int, default=5000, help="of log p(x) (%(default)s)")
    parser.add_argument("--images", type=int, default=20, help="of log p(x) (%(default)s)")
    options = parser.parse_args(arguments_given)
    print_conditions(torch.get_num_threads())
    with seeded(0, "net"):
        net = MLPVAE((1, 28, 28), 50)
    x = (torch.rand(100, 1, 28, 28, generator=generator(0, "x")) < 0.13).float()
    few = x[: options.images]
    rows, verdicts = [], []
    for cases, case, peer, target in (
        (steps(net, x[:20], options.k), STEP, NAIVE_STEP, 1.5),
        (likelihoods(net, few, options.samples), LIKELIHOOD, NAIVE_LIKELIHOOD, 2.4),
    ):
        times = in_turn(cases, options.repeats, options.warm_up)
        for name in cases:
            rows.append((name, f"{spread(times[name]):.3g} s", f"{ratio(times, peer, name):.2f}"))
        verdicts.append((f"{case}: times faster", ratio(times, peer, case), target))
    print_table(["case", "time", "times faster than its peer"], rows)
    each = bytes_per_sample(net, few)
    print(
        f"Ours keeps {each:,} bytes for a sample of all {len(few)} images; by default as many at "
        "once as 16 MB hold, whatever the number of images and of samples (10,000 x 5,000 as well)."
    )
    for what, faster, target in verdicts:
        print_verdict(what, faster, "at least", target, ".2f")


if __name__ == "__main__":
    main()
