"""A part of an image that is drawn as shapes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon
from skimage.measure import points_in_poly

from napari_sam.annotation import Plane
from napari_sam.inference.mask import Mask
from napari_sam.ui import coordinates
from napari_sam.ui.many import in_image

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_sam.ui.session import Session

__all__ = ["Region"]

_AROUND = np.linspace(0, 2 * np.pi, 64, endpoint=False)
_NOWHERE: list[NDArray[np.float64]] = []


class Region:
    """What lies inside the shapes of a layer, as they were at one moment; any thread may ask.

    Shapes hold for their plane, and for the planes without any of their own to which it is the nearest. Those
    of a layer that has fewer axes than the image hold for all planes. Lines have no inside; a path counts as
    closed.

    Parameters
    ----------
    layer : napari.layers.Shapes
    session : Session
        On the image.
    axes : tuple of int
        That span the planes.
    """

    def __init__(self, layer: Shapes, session: Session, axes: tuple[int, int]) -> None:
        drawn: defaultdict[Plane, list[NDArray[np.float64]]] = defaultdict(list)
        everywhere = layer.ndim < session.image.ndim
        for vertices, kind in zip(layer.data, layer.shape_type, strict=True):
            if kind == "line":
                continue
            where = in_image(layer, np.asarray(vertices, dtype=float), session)
            on = coordinates.plane_at(where.mean(axis=0), axes)
            corners = coordinates.to_xy(where, on)
            if kind == "ellipse":
                # napari keeps the corners of the box around it.
                middle = corners.mean(axis=0)
                across, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
                corners = middle + np.outer(np.cos(_AROUND), across) + np.outer(np.sin(_AROUND), down)
            drawn[on].append(corners)
        self._drawn = dict(drawn)
        self._everywhere = [corners for one in drawn.values() for corners in one] if everywhere else None
        places = [_place(plane) for plane in drawn]
        self._places = np.array(places, dtype=np.int64).reshape(len(places), session.image.ndim - 2)

    @property
    def is_empty(self) -> bool:
        """Whether nothing with an inside is drawn."""
        return not self._drawn

    def inside(self, plane: Plane, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions on a plane, shape (N, 2), lie inside: shape (N,), bool."""
        result = np.zeros(len(xy), dtype=bool)
        for corners in self._on(plane):
            result |= points_in_poly(xy, corners)
        return result

    def mask(self, plane: Plane, size: tuple[int, int]) -> Mask:
        """The pixels of a plane of this height and width that lie inside."""
        result = np.zeros(size, dtype=bool)
        for corners in self._on(plane):
            result[polygon(corners[:, 1], corners[:, 0], size)] = True
        return Mask.from_array(result)

    def _on(self, plane: Plane) -> list[NDArray[np.float64]]:
        """The corners, x and y, of what holds for a plane."""
        if self._everywhere is not None:
            return self._everywhere
        if not self._drawn:
            return _NOWHERE
        away = np.abs(self._places - _place(plane)).sum(axis=1)
        return list(self._drawn.values())[int(np.argmin(away))]


def _place(plane: Plane) -> list[int]:
    return [i for i in plane.index if i is not None]
