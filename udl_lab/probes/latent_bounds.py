"""How far a latent model's bounds are from each other, and what its latents carry."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from udl_lab.data.latent_noise import PINNED_SEED
from udl_lab.data.source import Examples
from udl_lab.latent.diagnostics import mutual_information, unit_activity
from udl_lab.latent.heads import Bernoulli
from udl_lab.latent.log_likelihood import estimate, ladder, weigh
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.latent.normal import Normal
from udl_lab.latent.objective import has_closed_kl, objective
from udl_lab.probes.statistics import Interval, mean, proportion
from udl_lab.probes.subject import Subject, device_of, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive

_ACTIVE = 0.01  # Burda et al. 2016, section 5.2
_HEAVY = 0.7  # Vehtari et al. 2024: with a heavier tail neither estimate nor error can be trusted
_DRAWS = 10  # of h1, in each half of the average over it


class LatentBounds:
    """What a latent model says of the test split, in nats per example.

    On pixels drawn once with a pinned seed where the model wants 0 and 1. Intervals over examples.

    - `elbo` on the whole split, with a sample of the latents for each example; `rate` is its KL
      and `distortion` its −E log p(x|z), so that rate + distortion = −elbo;
    - `active_units`: latents whose `activity`, Var_x(E[z|x]), is over .01; by latent (`@unit07`)
      that and, where it has a closed form, its part `kl` of the rate. With two stochastic layers
      both are of a layer, `/h1` and `/h2`; E[h2|x] is averaged over h1;
    - `mutual_information` of z (h1) and the examples, at most the logarithm of their number;
    - `bound@k10`, …: the IWAE bounds L_K on `n_ladder` examples, all from one set of weights, so
      that they rise with K for every example; the last is the estimate of log p(x);
    - of these weights `standard_error` and `ess`, the effective sample size, averaged over
      examples, and `heavy_tails`, the share of examples with a Pareto k over .7. Both over the
      examples where they are known (n of the row, and its note where they are not all); no row
      where they are known for none: one weight has no error, fewer than 25 no tail.
    """

    of_latents = True

    def __init__(
        self,
        rungs: Sequence[Positive] = (1, 10, 100, 1000, 5000),
        n_ladder: Positive = 300,
        ladder_of: Literal["random", "first"] = "random",
        n_information: Positive = 2000,
    ) -> None:
        """Say what is measured.

        Args:
            rungs: the K of the bounds.
            n_ladder: so many test examples.
            ladder_of: which: a random sample, the same for every run, or the first, which are
                easier in MNIST.
            n_information: so many test examples, at random, for the mutual information.

        Raises:
            ValueError: without rungs, or for rungs of which one does not divide the next.
        """
        if not rungs:
            raise ValueError("rungs=[]: give one or more K of the bounds, such as 1, 10, 100")
        if any(b % a or a == b for a, b in pairwise(rungs)):
            raise ValueError(
                f"rungs={list(rungs)}: each must divide the next, such as 1, 10, 100; else the "
                "bounds need not rise for every example"
            )
        self.rungs = list(rungs)
        self.n_ladder, self.ladder_of = n_ladder, ladder_of
        self.n_information = n_information

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure.

        Raises:
            ValueError: when the network is no latent model, or the examples none of its head's.
        """
        net = latent_model(subject.net)
        drawn = isinstance(net.head, Bernoulli) and not net.head.soft_targets
        note = "nats per example" + (f", pixels drawn with seed {PINNED_SEED}" if drawn else "")
        examples = subject.examples
        few = examples.rows(slice(0, self.n_ladder))
        if self.ladder_of == "random":
            few = subject.sample(self.n_ladder)
        with evaluating(net):
            rows = _seen_rows(look(net, examples.x, generator(0, "latent bounds", "elbo")), note)
            rows += self._information(net, subject.sample(self.n_information))
            rows += self._ladder(net, few, note)
        return rows

    def _information(self, net: LatentModel | HierarchicalModel, examples: Examples) -> list[Row]:
        q = _posterior(net, examples.x)
        eps = torch.randn(1, *q.mean.shape, generator=generator(0, "latent bounds", "information"))
        found = mutual_information(q, eps)
        value, half = found.mutual_information, 1.96 * found.standard_error
        note = f"nats, at most log n = {found.limit:.2f}"
        interval = Interval(value, value - half, value + half)
        return [row("mutual_information", interval, len(examples.y), note=note)]

    def _ladder(
        self, net: LatentModel | HierarchicalModel, examples: Examples, note: str
    ) -> list[Row]:
        k, stream = self.rungs[-1], generator(0, "latent bounds", "ladder")
        device, n = device_of(net), len(examples.y)
        steps, found = [], []
        for part in examples.x.split(100):  # all weights of so many are kept at once: 4 MB
            weights = torch.cat([w.cpu() for w in weigh(net, part.to(device), k, None, stream)])
            steps.append(ladder(weights, self.rungs))
            found.append(estimate(weights))
        which = f"{note}; {self.ladder_of} {n} of the test split"
        rows = [
            row("bound", mean(values.numpy()), n, element=f"k{rung}", note=which)
            for rung, values in zip(self.rungs, torch.cat(steps, 1), strict=True)
        ]
        ess = torch.cat([each.ess for each in found])
        rows.append(row("ess", mean(ess.numpy()), n, note=f"of {k} weights"))
        errors, said = _known(torch.cat([each.standard_error for each in found]))
        if len(errors):
            note = f"of each example's bound@k{k}, in nats{said}"
            rows.append(row("standard_error", mean(errors.numpy()), len(errors), note=note))
        shapes, said = _known(torch.cat([each.pareto_k for each in found]))
        if len(shapes):
            heavy = proportion(int((shapes > _HEAVY).sum()), len(shapes))
            note = f"Pareto k over {_HEAVY}{said}"
            rows.append(row("heavy_tails", heavy, len(shapes), note=note))
        return rows


class Seen(NamedTuple):
    """What a model says of examples, a number each in nats, and of its latents."""

    log_likelihood: Float64[Tensor, " example"]  # E_q log p(x|z)
    kl: Float64[Tensor, " example"]
    # KL of each latent, where it has a closed form, averaged over examples.
    kl_per_unit: Float64[Tensor, " latent"] | None
    activity: dict[str, Tensor]  # Var_x(E[z|x]) of each latent of a layer; "" if there is one only

    @property
    def elbo(self) -> Float64[Tensor, " example"]:
        """The evidence lower bound."""
        return self.log_likelihood - self.kl


def latent_model(net: nn.Module) -> LatentModel | HierarchicalModel:
    """The network, once it is a latent model.

    Raises:
        ValueError: when it is not.
    """
    if not isinstance(net, LatentModel | HierarchicalModel):
        raise ValueError(f"{type(net).__name__} is no latent model; measure a run with model=vae")
    return net


def look(
    net: LatentModel | HierarchicalModel,
    x: Float[Tensor, " example *shape"],
    stream: torch.Generator,
    batch_size: Positive = 1000,
) -> Seen:
    """The ELBO's parts of each example, from one sample, and the use of each latent.

    Args:
        net: in evaluation mode; under `torch.no_grad`.
        x: examples of the model's head.
        stream: of the noise, a CPU generator.
        batch_size: examples at once.
    """
    device = device_of(net)
    parts, means, upper, kls = [], [], [], []
    for part in x.split(batch_size):
        part = part.to(device)
        eps = torch.randn(1, len(part), net.n_noise, generator=stream).to(part)
        parts.append(objective(net, part, eps))
        q = net.posterior(part)
        means.append(q.mean.cpu())
        if isinstance(net, HierarchicalModel):
            upper.append(_upper_means(net, q, stream))
        elif has_closed_kl(net):
            kls.append(net.kl(q).double().cpu())
    activity = {"": unit_activity(torch.cat(means))}
    if upper:
        activity = {"h1": activity[""], "h2": _covariance(*torch.cat(upper, 1))}
    return Seen(
        torch.cat([each.log_likelihood.double().cpu() for each in parts]),
        torch.cat([each.kl.double().cpu() for each in parts]),
        torch.cat(kls).mean(0) if kls else None,
        activity,
    )


def n_active(activity: Float[Tensor, " latent"]) -> int:
    """How many latents are used (Burda et al. 2016, section 5.2)."""
    return int((activity > _ACTIVE).sum())


def _upper_means(
    net: HierarchicalModel, q: Normal, stream: torch.Generator
) -> Float64[Tensor, "2 example latent"]:
    """E[h2|x] of each example, twice, from independent draws of h1."""
    halves = []
    for _ in range(2):
        eps = torch.randn(_DRAWS, *q.mean.shape, generator=stream).to(q.mean)
        halves.append(net.upper_posterior(q.sample(eps)).mean.double().mean(0).cpu())
    return torch.stack(halves)


def _covariance(
    a: Float64[Tensor, "example latent"], b: Float64[Tensor, "example latent"]
) -> Float64[Tensor, " latent"]:
    """Of two noisy versions of E[h2|x]: their variance without that of their noise."""
    return ((a - a.mean(0)) * (b - b.mean(0))).mean(0)


def _posterior(net: LatentModel | HierarchicalModel, x: Tensor) -> Normal:
    found = [net.posterior(part.to(device_of(net))) for part in x.split(1000)]
    return Normal(*(torch.cat([getattr(q, n).cpu() for q in found]) for n in ("mean", "log_std")))


def _seen_rows(seen: Seen, note: str) -> list[Row]:
    n = len(seen.kl)
    of_examples = {"elbo": seen.elbo, "rate": seen.kl, "distortion": -seen.log_likelihood}
    rows = [row(name, mean(v.numpy()), n, note=note) for name, v in of_examples.items()]
    for layer, activity in seen.activity.items():
        said = f"of {len(activity)}, activity over {_ACTIVE}"
        count = Interval.exact(float(n_active(activity)))
        rows.append(row("active_units", count, n, site=layer, note=said))
        rows += _by_unit("activity", activity, n, layer)
    if seen.kl_per_unit is not None:
        rows += _by_unit("kl", seen.kl_per_unit, n, "")
    return rows


def _known(values: Tensor) -> tuple[Tensor, str]:
    """The finite ones, and how many they are of how many where these are not all."""
    known = values[values.isfinite()]
    return known, "" if len(known) == len(values) else f"; {len(known)} of {len(values)} are finite"


def _by_unit(metric: str, values: Tensor, n: int, site: str) -> list[Row]:
    return [
        row(metric, Interval.alone(float(value)), n, site=site, element=f"unit{i:02d}")
        for i, value in enumerate(values)
    ]
