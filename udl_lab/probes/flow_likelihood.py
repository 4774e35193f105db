"""How probable a diffusion model finds test examples, beside the best normal law."""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from udl_lab.diffusion.flow_likelihood import flow_log_prob
from udl_lab.diffusion.process import diffuse
from udl_lab.probes.statistics import mean
from udl_lab.probes.subject import Subject, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive, PositiveFloat


class FlowLikelihood:
    """Mean log-density of test examples at level 1, in nats per example, with t intervals.

    At level 1, the first with noise, because the network was never asked about level 0:

    - `log_prob`: of the model's probability flow;
    - `gaussian_log_prob`: of the normal law with the training split's mean and covariance, noised
      alike: what a linear model could reach;
    - `gain`: their difference, paired by example.
    """

    of_denoisers = True

    def __init__(
        self,
        n: Positive = 50,
        trace: Literal["exact"] | Positive = "exact",
        tolerance: PositiveFloat = 1e-4,
    ) -> None:
        """Say what is measured.

        Args:
            n: so many test examples.
            trace: exact, or a number of random probes.
            tolerance: of the integration, absolute and relative.
        """
        self.n = n
        self.trace: Literal["exact"] | int = trace
        self.tolerance = tolerance

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure each set of weights.

        Raises:
            ValueError: when the network is no denoiser.
        """
        rows = []
        assert subject.train is not None
        x0 = subject.sample(self.n).x.double()
        for site, denoiser in subject.denoisers().items():
            eps = torch.randn(x0.shape, generator=generator(0, "level 1"), dtype=torch.float64)
            x = diffuse(denoiser.schedule, x0, 1, eps)
            alpha_bar = float(denoiser.schedule.at(1))
            exact = replace(denoiser, net=deepcopy(denoiser.net).double())
            with evaluating(exact.net):
                probes = generator(0, "trace probes")
                flow = flow_log_prob(exact, x, 1, self.trace, probes, self.tolerance).log_prob
            gaussian = _gaussian(subject.train.x, alpha_bar).log_prob(x.flatten(1))
            found = {
                "log_prob": flow,
                "gaussian_log_prob": gaussian,
                "gain": flow - gaussian,
            }
            rows += [
                row(name, mean(values.numpy()), len(x), site=site, note="nats per example")
                for name, values in found.items()
            ]
        return rows


def _gaussian(train: Tensor, alpha_bar: float) -> MultivariateNormal:
    """The normal law with the first two moments of noised training examples."""
    flat = train.flatten(1).double()
    noise = (1 - alpha_bar) * torch.eye(flat.shape[1], dtype=torch.float64)
    return MultivariateNormal(alpha_bar**0.5 * flat.mean(0), alpha_bar * flat.T.cov() + noise)
