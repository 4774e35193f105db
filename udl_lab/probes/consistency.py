"""Whether a classifier names the same class for an image wherever it is moved.

Shift consistency (Zhang 2019): the probability that a network gives one answer for two random
shifts of the same image. It asks for agreement, not for the right answer: a constant predictor is
perfectly consistent, which is why every number stands beside its chance.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.pairing import disjoint_pairs
from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject, logits
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive
from udl_lab.symmetry.pixels import Images, translate

UNIT_MOVES = [(1, 0), (-1, 0), (0, 1), (0, -1)]  # (right, down), in pixels

Shifts = Int64[Tensor, "image right_and_down"]


class ShiftConsistency:
    """Agreement of the predictions for two shifts of an image, and what it is compared with.

    The shifts a and b of a pair are independent, each uniform over whole pixels from `-max_shift`
    to `max_shift` along both sides, so they may be equal. The image is the unit of every interval.

    - `consistency`: P(prediction at a = prediction at b); also by the distance between a and b, the
      larger of the two sides, in pixels (0 is left out, where it is 1);
    - `consistency_correct`: the same for images whose unshifted copy is classified correctly;
    - `consistency_chance`: the agreement of two different images, each at a random shift: that of
      independent predictions with the same class marginals. The pair of images is the unit;
    - `flip_rate`: P(prediction changes) when the unshifted image moves by one pixel right, left,
      down or up (after Azulay & Weiss 2019);
    - `consistency_untrained`, `consistency_chance_untrained`: the network before training.
    """

    def __init__(
        self,
        max_shift: Positive = 4,
        mode: Literal["circular", "zero"] = "zero",
        n_images: Positive | None = 2000,
        n_pairs_per_image: Positive = 8,
        n_boot: Positive = 1000,
    ) -> None:
        """Say what is measured.

        Args:
            max_shift: the farthest shift along each side, in pixels.
            mode: what enters the frame: "circular" is what left it on the other side, so that
                shifts are a group and nothing is lost; "zero" is background, as on a larger canvas.
            n_images: how many of the examples; all of them if `None`.
            n_pairs_per_image: how many pairs of shifts each image meets.
            n_boot: resamples behind each interval.

        Raises:
            ValueError: for an unknown mode.
        """
        if mode not in ("circular", "zero"):
            raise ValueError(f"mode {mode!r} is neither 'circular' nor 'zero'; choose one")
        self.max_shift = max_shift
        self.mode = mode
        self.n_images = n_images
        self.n_pairs_per_image = n_pairs_per_image
        self.n_boot = n_boot

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on a sample of the examples.

        Raises:
            ValueError: when the examples are no images, or a shift could empty them.
        """
        x, y = subject.sample(self.n_images)
        self._check(x)
        shifts = self._shifts(len(x))
        named = self._named(subject.net, x, subject.background, shifts)
        agree = (named[..., 0] == named[..., 1]).numpy()
        distance = self._distance(shifts, x.shape[-2:]).numpy()
        unshifted = logits(subject.net, x).argmax(1)
        correct = (unshifted == y).numpy()
        untrained = self._named(subject.untrained, x, subject.background, shifts)
        agree_untrained = (untrained[..., 0] == untrained[..., 1]).numpy()
        every = np.ones_like(agree)
        at = {str(d): distance == d for d in np.unique(distance[distance > 0])}
        return [
            self._share("consistency", agree, every),
            *(self._share("consistency", agree, of, element=d) for d, of in at.items()),
            self._share("consistency_correct", agree[correct], every[correct]),
            self._chance("consistency_chance", named),
            self._flips(subject, x, unshifted),
            self._share("consistency_untrained", agree_untrained, every),
            self._chance("consistency_chance_untrained", untrained),
        ]

    def _shifts(self, n: int) -> Int64[Tensor, "image pair 2 2"]:
        """For each image and pair, a and b; each as (right, down)."""
        size = (n, self.n_pairs_per_image, 2, 2)
        farthest = self.max_shift
        draws = generator(0, "shift consistency")
        return torch.randint(-farthest, farthest + 1, size, generator=draws)

    def _named(
        self, net: nn.Module, x: Tensor, background: float, shifts: Int64[Tensor, "image pair 2 2"]
    ) -> Int64[Tensor, "image pair 2"]:
        """The class that the network names for every shifted copy."""
        named = torch.empty(shifts.shape[:3], dtype=torch.int64)
        for pair in range(shifts.shape[1]):
            for side in (0, 1):
                copies = self._moved(x, shifts[:, pair, side], background)
                named[:, pair, side] = logits(net, copies).argmax(1)
        return named

    def _moved(self, x: Images, shifts: Shifts, background: float) -> Images:
        """Every image at its own shift."""
        if self.mode == "zero":
            return translate(x, *shifts.unbind(1), fill=background)
        moved = torch.empty_like(x)
        for shift in shifts.unique(dim=0):
            those = (shifts == shift).all(1)
            right, down = shift.tolist()
            moved[those] = torch.roll(x[those], (right, down), (-1, -2))
        return moved

    def _distance(
        self, shifts: Int64[Tensor, "image pair 2 2"], sides: torch.Size
    ) -> Int64[Tensor, "image pair"]:
        """Between a and b: along the side where it is larger, on a circle the short way round."""
        apart = (shifts[:, :, 0] - shifts[:, :, 1]).abs()
        if self.mode == "circular":
            around = torch.tensor([sides[1], sides[0]])  # (right, down), as the shifts
            apart = torch.minimum(apart % around, -apart % around)
        return apart.amax(-1)

    def _share(
        self,
        metric: str,
        hits: Bool[np.ndarray, "image trial"],
        trials: Bool[np.ndarray, "image trial"],
        element: str = "",
    ) -> Row:
        """The share of hits among the trials, over the images that have any."""
        of_image = trials.sum(1).astype(np.float64)
        having = of_image > 0
        n = int(having.sum())
        note = f"{self.mode} shifts of at most {self.max_shift} pixels"
        if not n:
            nothing = Interval(np.nan, np.nan, np.nan)
            note = "no share: no image was classified correctly"
            return row(metric, nothing, 0, element=element, note=note)
        successes = (hits & trials).sum(1).astype(np.float64)
        return self._mean_row(metric, successes[having], of_image[having], element, note)

    def _chance(self, metric: str, named: Int64[Tensor, "image pair 2"]) -> Row:
        """How often two different images agree, over disjoint pairs of images.

        All copies of one against all copies of the other. The expectation is the sum over classes
        of the squared marginal; the plug-in for that would be too large, by the share of an image
        with itself.
        """
        copies = named.flatten(1)
        shares = torch.nn.functional.one_hot(copies).double().mean(1)  # image × class
        pairs = disjoint_pairs(len(named), generator(0, "probe pairs"))
        agreement = (shares[pairs[:, 0]] * shares[pairs[:, 1]]).sum(1).numpy()
        note = "agreement of different images; the unit is a pair of them"
        return self._mean_row(metric, agreement, np.ones(len(pairs)), "", note)

    def _flips(self, subject: Subject, x: Tensor, unshifted: Tensor) -> Row:
        """How often a move by one pixel changes the prediction, over the four directions."""
        moves = [torch.tensor([move]).expand(len(x), 2) for move in UNIT_MOVES]
        copies = (self._moved(x, move, subject.background) for move in moves)
        flips = [logits(subject.net, copy).argmax(1) != unshifted for copy in copies]
        share = torch.stack(flips, 1).double().mean(1).numpy()
        note = f"{self.mode} shifts by one pixel along a side"
        return self._mean_row("flip_rate", share, np.ones(len(x)), "", note)

    def _mean_row(
        self,
        metric: str,
        sums: Float[np.ndarray, " unit"],
        counts: Float[np.ndarray, " unit"],
        element: str,
        note: str,
    ) -> Row:
        [interval] = ratio_of_sums(sums[:, None], counts, n_boot=self.n_boot)
        return row(metric, interval, len(sums), element=element, note=note)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"shifts are made of images, and an example here has shape {tuple(x.shape[1:])}; "
                "use data of shape (channel, height, width)"
            )
        smallest = min(x.shape[-2:])
        if self.max_shift >= smallest:
            raise ValueError(
                f"max_shift {self.max_shift} can empty images of {x.shape[-2]} x {x.shape[-1]} "
                f"pixels; use at most {smallest - 1}"
            )
