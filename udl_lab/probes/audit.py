"""Which layers of a network commute exactly with a symmetry, read off its architecture, and why.

A layer f is exact for an element g if f(g x) = R_g f(x) for every input x, with R_g the spatial
action alone: it moves the places of the map as g moves pixels, in the layer's stride, and leaves
the channels alone. For a layer without places (features, a map pooled as a whole) R_g is the
identity, so exact means invariant. A prediction is for generic weights: what it calls broken may
still hold for weights that are all zero, say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from udl_lab.errors import nearest
from udl_lab.probes.geometry import Layer, trace
from udl_lab.probes.motion import REPAIRABLE, Cause, Motion, Reason, Shift, motion_of, passed
from udl_lab.probes.windows import Geometry
from udl_lab.symmetry.action import Action


@dataclass(frozen=True)
class Finding:
    """What is predicted of one layer, for every element by its label."""

    site: str
    exact_for: tuple[str, ...] = ()
    interior_only: tuple[str, ...] = ()  # those of `exact_for` that hold on `Geometry.interior`
    cannot: Mapping[str, Reason] = field(default_factory=dict)
    unknown: Mapping[str, Reason] = field(default_factory=dict)

    @property
    def status(self) -> Literal["exact", "exact for", "cannot", "unknown"]:
        """Exact for all elements, for some, for none, or nothing is known."""
        if self.exact_for:
            return "exact for" if self.cannot or self.unknown else "exact"
        return "cannot" if self.cannot else "unknown"

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why not all elements are exact, each reason once."""
        return tuple(dict.fromkeys([*self.cannot.values(), *self.unknown.values()]))

    def __str__(self) -> str:
        some = f" {', '.join(self.exact_for)}" if self.status == "exact for" else ""
        inside = " (in the interior)" if self.interior_only else ""
        why = "; ".join(map(str, self.reasons))
        return f"{self.site}: {self.status}{some}{inside}" + (f"; {why}" if why else "")


def audit(
    net: nn.Module,
    in_shape: Sequence[int],
    action: Action[Any],
    elements: Sequence[Any] | None = None,
) -> list[Finding]:
    """Predict for every leaf module whether it is exact, in order of execution.

    Once broken, a layer's followers are broken too, but for a few causes (`REPAIRABLE`) that later
    windows may make good: after those nothing is known. A convolution commutes with shifts; with a
    turn or mirror image only if its kernel has that symmetry, which is read off the weights. Layers
    are judged in the mode, train or eval, that they are in.

    Args:
        net: the network.
        in_shape: (channels, *sides) of one example.
        action: the transformations. What an element does is read off an image of numbered pixels.
        elements: some of the action's elements; all of them if `None`.

    Raises:
        ValueError: when the action refuses images of this size, unless for not being square.
    """
    layers = trace(net, in_shape)
    labels: dict[str, list[_State]] = {}
    for element in action.elements() if elements is None else elements:
        labels[action.label(element)] = _states(layers, _start(action, element, tuple(in_shape)))
    findings = []
    for i, layer in enumerate(layers):
        found = {label: states[i] for label, states in labels.items()}
        exact = tuple(label for label, state in found.items() if state.status == "exact")
        findings.append(
            Finding(
                layer.site,
                exact,
                tuple(label for label in exact if found[label].interior_only(layer.geometry)),
                {k: s.reason_at(layer.site) for k, s in found.items() if s.status == "cannot"},
                {k: s.reason_at(layer.site) for k, s in found.items() if s.status == "unknown"},
            )
        )
    return findings


def disagreements(
    findings: Sequence[Finding],
    measured: Mapping[tuple[str, str], float],
    rounding: float = 1e-9,
) -> list[str]:
    """Where measurement contradicts prediction, in words; empty where they agree.

    Args:
        findings: of `audit`.
        measured: for (site, label of the element), the relative error |f(g x) - R_g f(x)| over
            |f(x)|, computed in float64; on the interior where the finding says `interior_only`.
            Sites without a finding are passed over.
        rounding: the largest error that an exact symmetry may show.

    Raises:
        ValueError: for an element that the findings do not know.
    """
    of = {finding.site: finding for finding in findings}
    contradictions = []
    for (site, label), error in measured.items():
        if (finding := of.get(site)) is None:
            continue
        known = {*finding.exact_for, *finding.cannot, *finding.unknown}
        if label not in known:
            raise ValueError(f"no element {label!r} was audited; {nearest(label, known)}")
        small = error <= rounding  # nan is not
        if label in finding.exact_for and not small:
            contradictions.append(f"{site} at {label}: predicted exact, measured {error:.3g}")
        if label in finding.cannot and small:
            reason = finding.cannot[label]
            contradictions.append(f"{site} at {label}: measured {error:.3g}, predicted {reason}")
    return contradictions


@dataclass(frozen=True)
class _State:
    """What is known after some layer: exact so far, by this motion of its map; or why not."""

    motion: Motion | None = None
    status: Literal["exact", "cannot", "unknown"] = "exact"
    reason: Reason | None = None
    site: str = ""  # where it broke; empty for the input

    def reason_at(self, site: str) -> Reason:
        assert self.reason is not None
        if self.site in ("", site):
            return self.reason
        if self.status == "cannot":
            return Reason(Cause.UPSTREAM, f"at {self.site} ({self.reason.cause})")
        return Reason(self.reason.cause, f"upstream at {self.site}")

    def interior_only(self, geometry: Geometry) -> bool:
        return geometry.spatial and isinstance(self.motion, Shift) and not self.motion.wraps


def _start(action: Action[Any], element: Any, in_shape: tuple[int, ...]) -> _State:
    if not action.exact(element):
        detail = f"{action.label(element)} resamples the pixels"
        return _State(status="cannot", reason=Reason(Cause.INTERPOLATION, detail))
    sides = in_shape[1:]
    try:
        motion = motion_of(action, element, sides)
    except ValueError as error:
        if len(sides) != 2 or sides[0] == sides[1]:
            raise
        return _State(status="cannot", reason=Reason(Cause.NOT_SQUARE, str(error)))
    if motion is None:
        detail = f"{action.label(element)} is no shift, quarter turn or mirror image"
        return _State(status="unknown", reason=Reason(Cause.UNKNOWN, detail))
    return _State(motion)


def _states(layers: Sequence[Layer], start: _State) -> list[_State]:
    states: list[_State] = []
    for layer in layers:
        states.append(_after(layer, states[layer.source] if layer.source >= 0 else start, start))
    return states


def _after(layer: Layer, state: _State, start: _State) -> _State:
    """What is known after a layer, given what is known of the layer before it."""
    if not layer.geometry.known:
        reason = Reason(Cause.UNKNOWN, layer.geometry.reason)
        return _State(status="unknown", reason=reason, site=layer.site)
    if state.status == "cannot":
        mixes = any(step.kind != "pointwise" for step, _ in layer.steps)
        if mixes and state.site and state.reason and state.reason.cause in REPAIRABLE:
            return _State(status="unknown", reason=state.reason, site=state.site)
        return state
    if layer.module.training and isinstance(layer.module, _DROPOUTS) and layer.module.p > 0:
        reason = Reason(Cause.DROPOUT, "each forward drops other units")
        return _State(status="cannot", reason=reason, site=layer.site)
    if state.status == "unknown":
        return state
    if isinstance(layer.module, _BATCH_NORMS) and (
        layer.module.training or layer.module.running_mean is None
    ):
        reason = Reason(Cause.BATCH_STATISTICS, "the output depends on the rest of the batch")
        return _State(status="unknown", reason=reason, site=layer.site)
    before, motion = layer.before, state.motion
    assert motion is not None and start.motion is not None  # it is exact so far
    for step, after in layer.steps:
        if not before.spatial:
            break  # equal features stay equal
        moved = passed(step, before, after, motion, start.motion)
        if isinstance(moved, Reason):
            status = "unknown" if moved.cause is Cause.WEIGHTS else "cannot"
            return _State(status=status, reason=moved, site=layer.site)
        before, motion = after, moved
    return _State(motion)


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
