"""How much of a gradient is signal, for the estimators of the importance-weighted bound."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from udl_lab.latent.gradients import ESTIMATORS
from udl_lab.latent.model import HierarchicalModel, LatentModel
from udl_lab.probes.latent_bounds import latent_model
from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


class GradientNoise:
    """The signal-to-noise ratio of the gradient by the encoder's and by the decoder's parameters.

    Over repeated draws of the noise, on the same few images: √(Σ mean² / Σ variance), the sums over
    all parameters of a part, with the noise that is left in the means taken off Σ mean². With more
    samples k the bound is better, and the plain estimator's ratio for the encoder falls like 1/√k
    (Rainforth et al. 2018, theorem 1) where the doubly reparameterised one's rises (Tucker et al.
    2019, figure 1).

    Rows `snr/<part>@<estimator>_k<k>`, without intervals. The parts are q(z|x) and p(x|z): of a
    model with two layers the networks between h1 and h2 are not counted, nor is a learned prior.
    """

    of_latents = True

    def __init__(
        self,
        ks: Sequence[Positive] = (1, 10, 100),
        estimators: Sequence[str] = ("iwae", "dreg"),
        n: Positive = 20,
        repeats: Positive = 100,
    ) -> None:
        """Say what is measured.

        Args:
            ks: numbers of samples.
            estimators: of `udl_lab.latent.gradients`.
            n: so many test images in the batch.
            repeats: draws of each gradient, at least 2.

        Raises:
            ValueError: for an estimator that there is not, or one repeat.
        """
        for name in estimators:
            if name not in ESTIMATORS:
                raise ValueError(f"there is no estimator {name!r}; take {', '.join(ESTIMATORS)}")
        if repeats < 2:
            raise ValueError(f"repeats={repeats} have no spread; take 2 or more")
        self.ks = list(ks)
        self.estimators = list(estimators)
        self.n = n
        self.repeats = repeats

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure.

        Raises:
            ValueError: when the network is no latent model.
        """
        net = latent_model(subject.net)
        x = subject.sample(self.n).x
        rows = []
        for name, k in product(self.estimators, self.ks):
            for part, ratio in self._ratios(net, x, name, k).items():
                rows.append(
                    row(
                        "snr",
                        Interval.alone(ratio),
                        self.repeats,
                        site=part,
                        element=f"{name}_k{k}",
                        note=f"{self.n} images",
                    )
                )
        return rows

    def _ratios(
        self, net: LatentModel | HierarchicalModel, x: Tensor, name: str, k: int
    ) -> dict[str, float]:
        parts = {
            part: list(module.parameters())
            for part, module in net.named_children()
            if part in ("encoder", "decoder")
        }
        stream = generator(0, "gradient noise", name, k)
        sums = {part: [torch.zeros_like(p) for p in each] for part, each in parts.items()}
        squares = {part: [torch.zeros_like(p) for p in each] for part, each in parts.items()}
        for _ in range(self.repeats):
            eps = torch.randn(k, len(x), net.n_noise, generator=stream).to(x)
            bound = ESTIMATORS[name](net, x, eps).value.mean()
            wanted = [p for each in parts.values() for p in each]
            gradients = iter(torch.autograd.grad(bound, wanted))
            for part, each in parts.items():
                for i, _ in enumerate(each):
                    gradient = next(gradients)
                    sums[part][i] += gradient
                    squares[part][i] += gradient.square()
        return {part: _ratio(sums[part], squares[part], self.repeats) for part in parts}


def _ratio(sums: list[Tensor], squares: list[Tensor], n: int) -> float:
    """√(Σ mean² / Σ variance) from the sums of n gradients; 0 where no signal is left."""
    means = torch.cat([s.flatten() for s in sums]).double() / n
    variances = torch.cat([s.flatten() for s in squares]).double() / n - means.square()
    noise = float(variances.clamp(min=0).sum()) * n / (n - 1)
    signal = float(means.square().sum()) - noise / n
    return (max(signal, 0.0) / noise) ** 0.5 if noise else float("inf")
