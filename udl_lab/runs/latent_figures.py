"""What is drawn of a latent model's run: what it decodes, where its latents lie, its bounds."""

import math

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor

from udl_lab.data.source import Examples
from udl_lab.figures.aggregate_posterior import aggregate_posterior
from udl_lab.figures.bound_by_k import bound_by_k
from udl_lab.figures.latent_manifold import latent_manifold, manifold_latents, prior_quantiles
from udl_lab.figures.posterior_on_grid import posterior_on_grid
from udl_lab.figures.reconstructions import reconstructions
from udl_lab.figures.traversals import traversal_latents, traversals
from udl_lab.figures.units_over_epochs import units_over_epochs
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.latent.normal import Normal
from udl_lab.latent.objective import has_closed_kl
from udl_lab.latent.posterior_gap import elbo_on_grid
from udl_lab.latent.quadrature import (
    Evidence,
    log_evidence,
    log_likelihood_of,
    posterior_grid,
)
from udl_lab.models.vae import VAE
from udl_lab.probes.subject import device_of, evaluating
from udl_lab.randomness import generator

_LOOKED_AT = 2000  # test examples, at random
_FINEST = 281  # points per dimension of a posterior's grid: some seconds for a convolutional net


def draw_latent(
    cfg: DictConfig,
    model: VAE,
    table: pd.DataFrame,
    metrics: pd.DataFrame | None,
    examples: Examples,
    name: str,
) -> dict[str, Figure]:
    """The figures that there is something to draw for, by the names of their files.

    Args:
        cfg: the run's.
        model: with the weights that were measured.
        table: what was measured.
        metrics: what was logged, if anything.
        examples: the test split, with its pixels drawn.
        name: the run's.
    """
    found = {
        "units_over_epochs": None if metrics is None else units_over_epochs(metrics, name),
        "bound_by_k": bound_by_k(table, _counted(table, "bound", name)),
        "bound_by_k_exact": _exact_ladder(table, name),
    }
    net = model.net
    order = torch.randperm(len(examples.y), generator=generator(0, "drawn examples"))
    some = examples.rows(order[:_LOOKED_AT])
    some = some._replace(x=some.x.to(device_of(net)))
    with evaluating(net):
        q = net.posterior(some.x)
        spread = torch.cat([q.mean.abs(), q.log_std.exp()])
        if spread.isfinite().all():  # a run that diverged has nothing to show
            if len(cfg.example.shape) == 3 and cfg.example.shape[0] in (1, 3):
                found |= _pictures(cfg, net, some, q, name)
            if isinstance(net, LatentModel) and has_closed_kl(net) and net.prior.size > 1:
                found |= _plane(cfg, net, some, q, name)
    return {file: figure for file, figure in found.items() if figure is not None}


def _exact_ladder(table: pd.DataFrame, name: str) -> Figure | None:
    """The bounds below the exact log p(x), where both were measured on the same examples."""
    exact = table.loc[table["metric"] == "log_prob", "estimate"]
    left = table[table["metric"] == "shortfall"]
    if exact.empty or left.empty:
        return None
    level = float(exact.iloc[0])
    bounds = left.assign(
        metric="bound",
        estimate=level - left["estimate"],
        low=level - left["high"],
        high=level - left["low"],
    )
    title = _counted(table, "shortfall", name)
    return bound_by_k(bounds, title, level, "95 % intervals of the distance from log p(x)")


def _counted(table: pd.DataFrame, metric: str, name: str) -> str:
    """The name, and of how many examples the metric is."""
    return f"{name}: {table.loc[table['metric'] == metric, 'n'].max()} test examples"


def _pictures(
    cfg: DictConfig,
    net: LatentModel | HierarchicalModel,
    some: Examples,
    q: Normal,
    name: str,
) -> dict[str, Figure]:
    x, first = some.x[:8], Normal(q.mean[:8], q.log_std[:8])
    eps = torch.randn(3, *first.mean.shape, generator=generator(0, "drawn latents")).to(x)
    images, mean, draws = _pixels(cfg, x), _decoded(cfg, net, first.mean), first.sample(eps)
    found = {"reconstructions": reconstructions(images, mean, _decoded(cfg, net, draws), name)}
    if not has_closed_kl(net):  # the pictures below are of N(0, 1) and of one layer
        return found
    values = prior_quantiles(9)
    moved = _decoded(cfg, net, traversal_latents(q.mean[0], values))
    title = f"{name}: about a test image's mean of q(z|x)"
    found["traversals"] = traversals(moved, values, q.kl().mean(0).cpu(), title)
    if net.prior.size == 2:
        decoded = _decoded(cfg, net, manifold_latents(15).to(x))
        found["manifold"] = latent_manifold(decoded, f"{name}: E[x|z]")
    return found


def _plane(
    cfg: DictConfig, net: LatentModel, some: Examples, q: Normal, name: str
) -> dict[str, Figure | None]:
    """Where the latents lie: both of two, or the two that say most."""
    labels = some.y if 1 < cfg.example.n_classes <= 10 else None
    title = f"{name}: {len(some.y):,} test examples"
    if net.prior.size > 2:
        first, second = q.kl().mean(0).topk(2).indices.tolist()
        title = f"{title},\nthe two units of largest KL, of {net.prior.size}"
        return {"aggregate_posterior": aggregate_posterior(q, labels, title, (first, second))}
    four = Normal(q.mean[:4], q.log_std[:4])
    return {
        "aggregate_posterior": aggregate_posterior(q, labels, title),
        "posterior_on_grid": _posteriors(cfg, net, some.x[:4], four, name),
    }


def _posteriors(
    cfg: DictConfig, net: LatentModel, x: Tensor, q: Normal, name: str
) -> Figure | None:
    """Nothing where the posteriors are too narrow for a grid that is decoded in seconds."""
    likelihood = log_likelihood_of(net, x)
    reach = max(6.0, float((q.mean.abs() + 6 * q.log_std.exp()).max()))
    n = _points(reach, float(q.log_std.exp().min()))
    if n is None:
        return None
    # The posterior may be narrower than q: half as many points see that it is.
    rough = posterior_grid(likelihood, 2, _FINEST // 4 * 2 + 1, reach=reach, chunk=2000)
    spacing = float(rough.axis[1] - rough.axis[0])
    # Less than a quarter of its spacing a grid cannot tell from a point.
    narrowest = rough.moments().log_std.exp().nan_to_num(nan=0).min().clamp(min=spacing / 4)
    n = _points(reach, min(float(narrowest), float(q.log_std.exp().min()))) or _FINEST
    posterior = posterior_grid(likelihood, 2, n, reach=reach, chunk=2000)
    names = _divergences(net, x, q, log_evidence(likelihood, 2, n, reach=reach, chunk=2000))
    grey = len(cfg.example.shape) == 3 and cfg.example.shape[0] == 1
    images = _pixels(cfg, x)[:, 0] if grey else None
    return posterior_on_grid(posterior, q, name, images=images, names=names)


def _points(reach: float, std: float) -> int | None:
    """Of a grid, per dimension: half a deviation a step, or a whole one; none if it is narrower."""
    n = 2 * math.ceil(2 * reach / std) + 1
    return None if n > 2 * _FINEST else min(max(n, 101), _FINEST)


def _divergences(net: LatentModel, x: Tensor, q: Normal, evidence: Evidence) -> list[str]:
    """KL(q ‖ p(z|x)) = log p(x) − ELBO, of its digits those that quadrature gets right."""
    bound, error = elbo_on_grid(lambda z: net.log_joint(x, z), q)
    gap, error = evidence.log_prob - bound.cpu(), evidence.error + error.cpu()
    return [_rounded(*each) for each in zip(gap.tolist(), error.tolist(), strict=True)]


def _rounded(nats: float, error: float) -> str:
    """A heading of at most two decimals: half a unit of the last one is more than the error."""
    for digits, most in ((2, 0.005), (1, 0.05), (0, 0.5)):
        if error < most:
            return f"KL(q ‖ p(z|x)) = {nats:.{digits}f} nats"
    return "KL(q ‖ p(z|x)) is not resolved"


def _decoded(cfg: DictConfig, net: LatentModel | HierarchicalModel, z: Tensor) -> Tensor:
    """E[x|z] as images, for latents in any arrangement."""
    return _pixels(cfg, net.head.mean(net.decode(z)).unflatten(-1, list(cfg.example.shape)))


def _pixels(cfg: DictConfig, x: Tensor) -> Tensor:
    """Examples as they were before they were normalised, from 0 to 1."""
    return (x * cfg.data.std + cfg.data.mean).cpu()
