"""Why the bound of a model with two latents falls short, image by image and without noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from udl_lab.latent.bounds import iwae
from udl_lab.latent.model import LatentModel
from udl_lab.latent.normal import Normal
from udl_lab.latent.posterior_gap import gaps
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of, posterior_grid
from udl_lab.probes.statistics import Interval, mean
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive, PositiveFloat

_NATS = "nats per image"


class PosteriorGaps:
    """The exact log p(x) by quadrature, and what its bounds leave (Cremer, Li & Duvenaud 2018).

    For a latent size of 1 or 2, on test images whose pixels were drawn once (`augment.binarise`), t
    intervals over images:

    - `log_prob`, the exact one; `elbo`, of the encoder's q, by quadrature too; `best_elbo`, of the
      best diagonal normal for each image alone;
    - `gap` = log_prob − elbo, the sum of `approximation_gap` = log_prob − best_elbo and
      `amortisation_gap` = best_elbo − elbo; `share_amortised` is the second's share of it;
    - `shortfall@k…`: log_prob less one draw of the importance-weighted bound of k samples;
    - `quadrature_error`, `unconverged`: the largest of any image, in nats. The gaps are no better
      known than that. The first is of log p(x) and of both bounds: the change when a grid twice as
      coarse is taken, and how far the search's nodes are off at the best normal.
    """

    of_latents = True

    def __init__(
        self,
        n: Positive = 50,
        n_grid: Positive = 1201,
        reach: PositiveFloat = 8.0,
        n_nodes: Positive = 14,
        ks: Sequence[Positive] = (1, 5, 50, 500),
    ) -> None:
        """Say what is measured.

        Args:
            n: so many test images.
            n_grid: points of the grid per dimension, odd, 9 or more.
            reach: the grid's end in each direction. Odd images' posteriors lie far out: a grid to 6
                left out .012 nats of one of them.
            n_nodes: of Gauss-Hermite quadrature per dimension, in the search for the best normal.
                The bounds themselves are sums over a grid of each normal, as fine as need be.
            ks: numbers of samples, one or more.

        Raises:
            ValueError: for a grid of an even number of points or too few, and without ks.
        """
        if n_grid < 9 or n_grid % 2 == 0:
            # The posterior's moments come from a grid half as fine, which needs 5 points itself.
            near = max(9, n_grid + 1 - n_grid % 2)
            raise ValueError(f"n_grid={n_grid}: take an odd number, 9 or more, say {near}")
        if not ks:
            raise ValueError(f"ks={list(ks)}: give one or more numbers of samples, such as 1, 500")
        self.n = n
        self.n_grid = n_grid
        self.reach = reach
        self.n_nodes = n_nodes
        self.ks = tuple(ks)

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure.

        Raises:
            ValueError: for a network that is no latent model of size 1 or 2.
        """
        model = subject.net
        if not isinstance(model, LatentModel):
            raise ValueError(
                f"{type(model).__name__} has no single layer of latents; use net=mlp_vae or "
                "net=conv_vae with net.latent=2"
            )
        x = subject.sample(self.n).x
        with evaluating(model):
            likelihood = log_likelihood_of(model, x)
            size = model.prior.size
            grid = {"log_prior": model.prior.log_prob, "reach": self.reach}
            evidence = log_evidence(likelihood, size, self.n_grid, **grid)
            posterior = posterior_grid(likelihood, size, self.n_grid // 4 * 2 + 1, **grid)
            moments = posterior.moments()
            q = model.posterior(x)
            shortfalls = self._shortfalls(model, x, evidence.log_prob)
        found = gaps(
            lambda z: model.log_joint(x, z),
            evidence.log_prob,
            q,
            [Normal(moments.mean.to(x), moments.log_std.to(x))],
            self.n_nodes,
        )
        numbers = {
            "log_prob": found.log_evidence,
            "elbo": found.elbo,
            "best_elbo": found.best_elbo,
            "gap": found.log_evidence - found.elbo,
            "approximation_gap": found.approximation,
            "amortisation_gap": found.amortisation,
        }
        rows = [row(name, _mean(values), len(x), note=_NATS) for name, values in numbers.items()]
        share = float(found.amortisation.sum() / (found.log_evidence - found.elbo).sum())
        rows.append(row("share_amortised", Interval.alone(share), len(x)))
        for name, values in (
            ("quadrature_error", torch.maximum(found.error, evidence.error)),
            ("unconverged", found.unconverged),
        ):
            rows.append(row(name, Interval.exact(float(values.max())), len(x), note=_NATS))
        return rows + shortfalls

    def _shortfalls(self, model: LatentModel, x: Tensor, log_prob: Tensor) -> list[Row]:
        stream = generator(0, "posterior gaps")
        eps = torch.randn(max(self.ks), len(x), model.n_noise, generator=stream)
        log_weights = model.terms(x, eps).log_weights.double()
        left = {k: _mean(log_prob - iwae(log_weights[:k])) for k in self.ks}
        return [
            row("shortfall", each, len(x), element=f"k{k}", note=_NATS) for k, each in left.items()
        ]


def _mean(values: Tensor) -> Interval:
    return mean(np.asarray(values.detach().double()))
