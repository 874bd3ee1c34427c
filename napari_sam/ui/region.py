"""Whether positions on a plane lie inside the shapes of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from skimage.measure import points_in_poly

from napari_sam.ui import coordinates
from napari_sam.ui.many import in_image

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_sam.annotation import Plane
    from napari_sam.ui.session import Session

__all__ = ["inside"]

_AROUND = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def inside(layer: Shapes, session: Session, plane: Plane, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether positions lie inside one of the shapes that are on a plane of the image.

    Lines have no inside. A path counts as closed.

    Parameters
    ----------
    layer : napari.layers.Shapes
        Axes of the image that it lacks are as displayed.
    session : Session
    plane : Plane
        That lies as the displayed one.
    xy : ndarray, shape (N, 2)

    Returns
    -------
    ndarray, shape (N,), bool
    """
    result = np.zeros(len(xy), dtype=bool)
    for vertices, kind in zip(layer.data, layer.shape_type, strict=True):
        where = in_image(layer, np.asarray(vertices, dtype=float), session)
        row, column = plane.axes
        if kind == "line" or coordinates.plane_at(where.mean(axis=0), (row, column)) != plane:
            continue
        corners = coordinates.to_xy(where, plane)
        if kind == "ellipse":
            # napari keeps the corners of the box around it.
            middle = corners.mean(axis=0)
            across, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
            corners = middle + np.outer(np.cos(_AROUND), across) + np.outer(np.sin(_AROUND), down)
        result |= points_in_poly(xy, corners)
    return result
