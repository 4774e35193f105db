"""What a denoiser is trained on: targets, weights, levels, and the loss that nothing can beat.

A loss is a mean over dimensions and examples, so it can be compared between images and vectors. ε,
x_0 and v losses are one objective with three weights: errors of the same x̂_0 relate as

    ‖ε − ε̂‖² = SNR ‖x_0 − x̂_0‖²,    ‖v − v̂‖² = (SNR + 1) ‖x_0 − x̂_0‖².
"""

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from udl_lab.diffusion.denoisers import Denoiser
from udl_lab.diffusion.process import Kind, against, diffuse, target
from udl_lab.diffusion.schedule import Schedule
from udl_lab.ranges import PositiveFloat

Weighting = Literal["simple", "snr", "min_snr", "vlb"]


def stratified(n: int, generator: torch.Generator) -> Float64[Tensor, " n"]:
    """One number from each of n equal pieces of [0, 1), in random order.

    Each of them is uniform, as independent draws are; a mean over a batch of them varies less.
    """
    shares = (torch.arange(n) + torch.rand(n, dtype=torch.float64, generator=generator)) / n
    return shares[torch.randperm(n, generator=generator)]


def level_at(shares: Float[Tensor, " batch"], n_steps: int) -> Int[Tensor, " batch"]:
    """The levels 1 … T, equally likely, for uniform numbers of [0, 1)."""
    return 1 + (shares * n_steps).long().clamp(max=n_steps - 1)


def loss_weight(
    schedule: Schedule,
    kind: Kind,
    weighting: Weighting,
    t: Int[Tensor, "*batch"],
    gamma: PositiveFloat = 5.0,
) -> Float64[Tensor, "*batch"]:
    """The factor of the squared error of the target, at each level.

    - `simple`: 1 (Ho et al. 2020, eq. 14, for ε).
    - `snr`: that which makes it the ε error, whatever the target.
    - `min_snr`: min(SNR, γ) ‖x_0 − x̂_0‖² (Hang et al. 2023, eq. 8).
    - `vlb`: T times the bound's term in nats, ½ (SNR_{t−1} − SNR_t) ‖x_0 − x̂_0‖², for the mean
      over T levels (Kingma et al. 2021, eq. 14). Level 1, whose term is another, gets level 2's.

    Raises:
        ValueError: for ε where ᾱ = 0, whose error says nothing of x_0.
    """
    if weighting == "simple":
        return torch.ones(t.shape, dtype=torch.float64, device=t.device)
    snr_table = schedule.snr.to(t.device)
    snr = snr_table[t]
    if weighting == "snr":
        wanted = snr
    elif weighting == "min_snr":
        wanted = snr.clamp(max=gamma)
    else:
        if schedule.n_steps == 1:
            raise ValueError("weighting='vlb' needs at least 2 levels")
        later = t.clamp(min=2)
        wanted = 0.5 * schedule.n_steps * (snr_table[later - 1] - snr_table[later])
    if kind == "x0":
        return wanted
    if kind == "v":
        return wanted / (snr + 1)
    if (snr == 0).any():
        raise ValueError("the ε error says nothing of x_0 where ᾱ = 0; predict v or x0")
    return wanted / snr


def target_errors(
    schedule: Schedule,
    kind: Kind,
    output: Float[Tensor, " batch *shape"],
    x0: Float[Tensor, " batch *shape"],
    t: Int[Tensor, " batch"],
    eps: Float[Tensor, " batch *shape"],
) -> Float[Tensor, " batch"]:
    """The squared error of a network's output, averaged over dimensions, for each example."""
    return (output - target(schedule, kind, x0, eps, t)).square().flatten(1).mean(1)


def irreducible_error(
    oracle: Denoiser,
    kind: Kind,
    x0: Float[Tensor, " batch *shape"],
    t: int,
    eps: Float[Tensor, " batch *shape"],
) -> Float[Tensor, " batch"]:
    """The squared error of the perfect denoiser at a level: the floor under every training loss.

    E‖ε − E[ε | x_t]‖² = SNR E Var[x_0 | x_t], per dimension, here for each of the given draws of
    x_t: their mean is the floor. Taking the conditional variance, not the error itself, leaves only
    the draw of x_t to chance.

    Args:
        oracle: an exact denoiser of the data's law, which says Var[x_0 | x_t].
        kind: what is predicted.
        x0: draws of the data.
        t: the level, from 1 up.
        eps: standard normal noise.

    Raises:
        ValueError: when the denoiser does not say its variance.
    """
    schedule = oracle.schedule
    variance = oracle(diffuse(schedule, x0, t, eps), t).x0_variance
    if variance is None:
        raise ValueError("the denoiser says no Var[x_0 | x_t]; give an oracle of the data's law")
    snr = schedule.snr[t]
    factor = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1}[kind]
    spread = variance.expand_as(x0).flatten(1).mean(1)
    return against(factor, spread) * spread
