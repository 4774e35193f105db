"""How an action on the inputs acts on a layer: on its map, in its stride, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from udl_lab.activations.distances import Carry
from udl_lab.probes.windows import Geometry
from udl_lab.symmetry.action import Action

Interior = tuple[slice, ...] | None


@final
@dataclass(frozen=True)
class LayerAction:
    """The known action of every element on one layer.

    On a layer without a map (features) it is the identity, so that the error against it is what the
    layer lacks of invariance. On a map, element g acts as the element that the layer's stride makes
    of it; a shift that the stride does not divide has none.
    """

    site: str
    action: Action[Any]
    place: Geometry | None  # None, or not known: nothing is known of the layer's action
    fill: float  # what enters the frame
    undivided: Literal["refuse", "skip"]

    @property
    def carry(self) -> Carry | None:
        """`R_g` for the reducers; None if unknown.

        Raises:
            ValueError: for a shift that the layer's stride does not divide, if such are refused.
        """
        if not self._understood:
            return None
        if not self._spatial:
            return lambda layer, e: layer
        there = [self._restricted(g) for g in self.action.elements()]
        return lambda layer, e: (
            None if there[e] is None else self.action.apply(layer, there[e], self.fill)
        )

    @property
    def interior(self) -> Interior:
        """The part of a map that no border reaches, for an action that loses content there."""
        if self.action.invertible or self.place is None or not self._spatial:
            return None
        stride = self._stride
        # (right, down) to the order of the axes.
        moves = [g[::-1] for g in self.action.elements() if not any(p % stride for p in g)]
        crops = [self.place.interior(move) for move in moves]
        if not crops:
            return None
        return tuple(
            slice(max(s.start for s in axis), min(s.stop for s in axis))
            for axis in zip(*crops, strict=True)
        )

    @property
    def _spatial(self) -> bool:
        return self.place is not None and self.place.spatial

    @property
    def _understood(self) -> bool:
        if self.place is None:
            return False
        if not self.place.known:
            return len(self.place.shape) < 2  # features, whatever made them
        return len(set(self.place.stride)) < 2

    @property
    def _stride(self) -> int:
        """Input pixels per pixel of the map, the same along each axis."""
        return self.place.stride[0] if self.place is not None and self.place.stride else 1

    def _restricted(self, element: Any) -> Any | None:
        try:
            return self.action.restrict(element, self._stride)
        except ValueError as error:
            if self.undivided == "refuse" and self.action.exact(element):
                raise ValueError(
                    f"{self.site}: {error}; or leave the site out, or set undivided=skip"
                ) from error
            return None  # resampled, or to be skipped


def input_geometry(shape: Sequence[int]) -> Geometry:
    """The geometry of the input itself, from the shape of one example."""
    shape = tuple(shape)
    axes = len(shape) - 1
    return Geometry(
        shape, shape[1:], True, (1,) * axes, (1,) * axes, (0.0,) * axes, (False,) * axes
    )
