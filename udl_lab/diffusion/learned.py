"""A network as a denoiser."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from udl_lab.diffusion.process import Kind, Prediction, against, diffuse, predict
from udl_lab.diffusion.schedule import Level, Schedule
from udl_lab.ranges import Positive


@final
@dataclass(frozen=True)
class Learned:
    """A trained network's predictions, with the interface of an oracle.

    The network is called with examples, their levels as shares t/T, and labels if there are any.

    Raises:
        ValueError: for guidance without labels, and when called with another number of examples
            than there are labels.
    """

    net: nn.Module
    schedule: Schedule
    kind: Kind
    labels: Int[Tensor, " batch"] | None = None
    # Classifier-free guidance w: (1 + w) times the answer for the label, less w times that for none
    # (Ho & Salimans 2022, eq. 6). 0 is the plain conditional model.
    guidance: float = 0.0
    no_label: int | None = None  # what the network takes for "any class"
    batch_size: Positive = 500
    # Var[x_0 | x_t] by level, from `estimate_x0_variance`, for ancestral steps of optimal variance;
    # between whole levels on a straight line.
    x0_variance: Float64[Tensor, " levels"] | None = None

    def __post_init__(self) -> None:
        if self.guidance and (self.labels is None or self.no_label is None):
            raise ValueError(
                f"guidance={self.guidance} is towards a class; give labels, and train the network "
                "with some of them left out"
            )

    def __call__(self, x: Float[Tensor, " batch *shape"], t: Level) -> Prediction:
        """What the network says, batch by batch."""
        levels = self._levels(x, t)
        output, between = split_output(self._outputs(x, levels), x.ndim)
        prediction = predict(self.schedule, self.kind, output, x, t)
        if self.x0_variance is not None:
            table = self.x0_variance.to(x.device)
            below, above = levels.floor().long(), levels.ceil().long()
            variance = torch.lerp(table[below], table[above], (levels - below).to(table))
            prediction = prediction._replace(x0_variance=against(variance, x))
        return prediction._replace(between=between)

    def output(self, x: Float[Tensor, " batch *shape"], t: Level) -> Float[Tensor, " batch *shape"]:
        """The network's target alone, without what follows from it."""
        return split_output(self._outputs(x, self._levels(x, t)), x.ndim)[0]

    def _levels(self, x: Tensor, t: Level) -> Tensor:
        real = torch.float64 if isinstance(t, float) else None
        return torch.as_tensor(t, dtype=real, device=x.device).expand(len(x))

    def _outputs(self, x: Tensor, levels: Tensor) -> Tensor:
        labels = None if self.labels is None else self.labels.to(x.device)
        if labels is not None and len(labels) != len(x):
            raise ValueError(f"{len(labels)} labels for {len(x)} examples; give one for each")
        outputs = []
        for start in range(0, len(x), self.batch_size):
            rows = slice(start, start + self.batch_size)
            y = None if labels is None else labels[rows]
            outputs.append(self._output(x[rows], levels[rows], y))
        return torch.cat(outputs)

    def _output(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        share = (t.double() / self.schedule.n_steps).to(x.dtype)
        if y is None:
            return self.net(x, share)
        given = self.net(x, share, y)
        if not self.guidance or self.no_label is None:
            return given
        free = self.net(x, share, torch.full_like(y, self.no_label))
        guided = (1 + self.guidance) * given - self.guidance * free
        if given.ndim > x.ndim:  # a variance between two others cannot be led outside them
            guided[:, 1] = given[:, 1]
        return guided


def split_output(output: Tensor, ndim: int) -> tuple[Tensor, Tensor | None]:
    """A network's prediction, and where it says that the log-variance lies, if it has two outputs.

    Nichol & Dhariwal's networks say −1 for the small variance and 1 for the large one; it becomes 0
    and 1.
    """
    if output.ndim == ndim:
        return output, None
    return output[:, 0], (output[:, 1] + 1) / 2


def estimate_x0_variance(
    denoiser: Learned,
    x0: Float[Tensor, " batch *shape"],
    generator: torch.Generator,
) -> Float64[Tensor, " levels"]:
    """Var[x_0 | x_t] at every level, from the error of the network's x̂_0 on data of its kind.

    The mean squared error over examples and dimensions. It is the variance where the network is
    perfect, and errs upward otherwise (Bao et al. 2022, eq. 9, has the estimate from ε̂'s norm).

    Args:
        denoiser: the network.
        x0: clean examples, best ones that it was not trained on.
        generator: of the noise, a CPU generator.
    """
    found = [0.0]
    with torch.no_grad():
        for t in range(1, denoiser.schedule.n_steps + 1):
            eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
            error = denoiser(diffuse(denoiser.schedule, x0, t, eps), t).x0 - x0
            found.append(float(error.double().square().mean()))
    return torch.tensor(found, dtype=torch.float64)
