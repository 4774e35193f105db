"""How far each layer is from moving with its input, at the first instant of a motion.

With ρ_t the input moved by t (pixels, or radians) and ρ'_t the same motion of the layer's map, the
Lie derivative of a layer f is (Gruver et al. 2023, their definition of the Lie derivative and LEE)

    L f(x) = d/dt ρ'_{-t} f(ρ_t x) at t = 0 = J_f(x) v(x) - v'(f(x)),

where v = d/dt ρ_t x is the velocity of the pixels: for a shift to the right, minus the derivative
to the right. It is 0 for every x if and only if f is equivariant. The derivatives of images and
maps are exact for the band-limited periodic interpolation (`symmetry.fourier`), so no resampling
enters, and J_f v comes from forward-mode differentiation.
"""

import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from udl_lab.activations.recorder import Site, record
from udl_lab.errors import nearest
from udl_lab.probes.bootstrap import ratio_of_sums
from udl_lab.probes.flow import Direction, Flow, Maps, flow_of, stride_by_sizes, velocity, without
from udl_lab.probes.geometry import geometry
from udl_lab.probes.orbits import in_float64
from udl_lab.probes.pairing import disjoint_pairs
from udl_lab.probes.statistics import Interval
from udl_lab.probes.subject import Subject, device_of, evaluating
from udl_lab.probes.table import Row, row
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


def lie_derivative(
    net: nn.Module,
    x: Maps,
    sites: str | Sequence[str],
    direction: Direction,
    strides: Mapping[str, int] | None = None,
) -> dict[str, Flow]:
    """The flow of every layer under a motion of the input, by one forward in evaluation mode.

    A layer with as many axes as the input is spatial: it should move along, by 1/stride of its own
    pixels for each pixel of the input (a rotation by the same angle). A layer with one axis of
    features should not change. Any other has no Lie derivative, nor has one whose stride is unknown
    or that forward-mode differentiation does not reach: its numbers are nan.

    Args:
        net: computes in the dtype of x; float64 for exactness.
        x: signals or images.
        sites: layers, as patterns for the recorder.
        direction: see `velocity`.
        strides: input pixels between neighbouring places of a layer, the same along all sides, by
            site. For the others, the sides of the input over the sides of the map, if these divide
            to one number here and in all layers recorded before. Where unpadded convolutions crop
            maps, name the strides.

    Raises:
        ValueError: when x has no sides, for a direction that x has not, a stride of an unknown site
            or a layer without a row per image.
    """
    if x.ndim < 3:
        raise ValueError(
            f"examples of shape {tuple(x.shape[1:])} have no sides to move along; give signals "
            "(channel, length) or images (channel, height, width)"
        )
    strides, frame = strides or {}, x.shape[2:]
    found: dict[str, Flow] = {}

    def keep(site: Site, layer: Tensor) -> None:
        if layer.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{site} gave {tuple(layer.shape)} for {len(x)} inputs, which is no row per input; "
                "leave it out of sites"
            )
        value, changed = forward_ad.unpack_dual(layer)
        value = value.clone()  # the recording is live: a later operation in place would change it
        if changed is None:
            reason = "it carries no derivative (detached, or no float)"
            found[str(site)] = without(value, reason)
            return
        maps = [flow.value.shape[2:] for flow in found.values() if flow.value.ndim == x.ndim]
        by_sizes = stride_by_sizes([*maps, value.shape[2:]], frame)
        stride = strides.get(str(site))
        found[str(site)] = flow_of(value, changed.clone(), frame, direction, stride, by_sizes)

    motion = velocity(x, direction)
    try:
        with (
            evaluating(net),
            forward_ad.dual_level(),
            record(net, sites, copy="live", reduce=keep) as recording,
        ):
            recording.run(_dual(x.clone(), motion))  # a copy: a first layer may work in place
    except NotImplementedError as error:  # an operation without forward-mode differentiation
        _add_unreached(found, net, x, sites, str(error).splitlines()[0])
    for site in strides:
        if site not in found:
            raise ValueError(f"strides has {site!r}, which is no site; {nearest(site, found)}")
    return found


def _dual(x: Tensor, motion: Tensor) -> Tensor:
    with warnings.catch_warnings():
        # torch 2.13 makes its rules with the first dual tensor, by a function that it deprecates.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        return forward_ad.make_dual(x, motion)


def _add_unreached(
    found: dict[str, Flow], net: nn.Module, x: Tensor, sites: str | Sequence[str], error: str
) -> None:
    """The layers from the failed operation on, so that they are reported and not just absent."""

    def add(site: Site, layer: Tensor) -> None:
        if str(site) not in found:
            found[str(site)] = without(layer, error)

    with evaluating(net), record(net, sites, copy="guard", reduce=add) as recording:
        recording.run(x.clone())


class LieDerivative:
    """The local equivariance error of every layer under one motion, and before training.

    - `lie`: Σ |L f(x)|² over the layer's variance between images, Σ |f(x) - f(x')|² / 2 of disjoint
      pairs. Per pixel² (per radian²), so its root is the error per pixel in standard deviations of
      the layer. Not over |f|², which a constant bias can make as large as it likes.
    - `lie_share`, for layers with places only: Σ |L f|² over Σ |J_f v|² + |v'(f)|². It has no unit
      and lies in [0, 2]: 0 if the layer moves along, 1 if what it does is unrelated to that.
    - `lie_untrained`, `lie_share_untrained`: the same network before training.

    Gruver et al. divide by the number of units instead, which leaves the scale of the layer. A
    layer without a Lie derivative, or that tells no two images apart, gives nan and says why.
    """

    def __init__(
        self,
        sites: Sequence[str] = ("*",),
        direction: Direction = "right",
        n_images: Positive | None = 500,
        batch_size: Positive = 100,
        n_boot: Positive = 1000,
        strides: Mapping[str, Positive] | None = None,
    ) -> None:
        """Say what is measured.

        Args:
            sites: layers, as patterns for the recorder.
            direction: "right" or "down", in pixels, or "rotation", in radians.
            n_images: how many of the examples; all of them if `None`.
            batch_size: images whose activations are held at once; results differ by rounding only.
            n_boot: resamples behind each interval.
            strides: of layers, see `lie_derivative`; the others are read off the architecture.
        """
        self.sites = list(sites)
        self.direction: Direction = direction
        self.n_images = n_images
        self.batch_size = batch_size
        self.n_boot = n_boot
        self.strides = dict(strides or {})

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on a sample of the examples, in float64.

        Raises:
            ValueError: as `lie_derivative`, for fewer than two images, and for activations that are
                not finite.
        """
        x = subject.sample(self.n_images).x
        x = x[disjoint_pairs(len(x), generator(0, "probe pairs")).flatten()]
        return self._rows(subject.net, x, "") + self._rows(subject.untrained, x, "_untrained")

    def _rows(self, net: nn.Module, x: Tensor, suffix: str) -> list[Row]:
        net = in_float64(net)
        places = geometry(net, tuple(x.shape[1:]))
        strides = {
            site: place.stride[0]
            for site, place in places.items()
            if len(set(place.stride)) == 1
            and any(fnmatchcase(site, pattern) for pattern in self.sites)
        } | self.strides
        flows: dict[str, Flow] = {}
        sums: dict[str, list[np.ndarray]] = {}
        for images in x.split(2 * max(1, self.batch_size // 2)):  # partners stay together
            images = images.to(device_of(net), torch.float64)
            flows = lie_derivative(net, images, self.sites, self.direction, strides)
            for site, flow in flows.items():
                sums.setdefault(site, []).append(_of_pairs(flow))
        rows = []
        for site, flow in flows.items():
            error, spread, motion = np.concatenate(sums[site]).T
            rows.append(self._row("lie" + suffix, site, flow, error, spread))
            if flow.spatial:
                rows.append(self._row("lie_share" + suffix, site, flow, error, motion))
        return rows

    def _row(
        self,
        metric: str,
        site: str,
        flow: Flow,
        error: Float[np.ndarray, " pair"],
        scale: Float[np.ndarray, " pair"],
    ) -> Row:
        interval, note = Interval(np.nan, np.nan, np.nan), flow.reason
        if not note and not scale.any():
            note = "no ratio: the layer is the same for all of these images, or does not move"
        if not note:
            [interval] = ratio_of_sums(error[:, None], scale, n_boot=self.n_boot)
            note = flow.note
        return row(metric, interval, len(error), site=site, element=self.direction, note=note)


def _of_pairs(flow: Flow) -> Float[np.ndarray, "pair 3"]:
    """Squared error, spread between the partners, and squared motion; each of both images."""
    error = _squares(flow.error)
    motion = _squares(flow.changed) + _squares(flow.carried)
    # Half the squared distance for each of the two.
    spread = _squares(flow.value[0::2] - flow.value[1::2])
    columns = [error.reshape(-1, 2).sum(1), spread, motion.reshape(-1, 2).sum(1)]
    return torch.stack(columns, 1).cpu().numpy()


def _squares(units: Float[Tensor, " batch *units"]) -> Float[Tensor, " batch"]:
    return units.double().reshape(len(units), -1).square().sum(1)
