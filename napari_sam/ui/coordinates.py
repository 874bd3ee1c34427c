"""From napari's coordinates to those of a plane and back; the only place that does it.

A layer's *data* coordinates are (..., row, column), a plane's are (x, y); in both, integers are pixel
centres. Prompt layers have the image's number of axes and its transform, so that their data
coordinates are the image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.errors import ImageError

__all__ = ["box_to_corners", "corners_to_box", "displayed_plane", "plane_at", "to_data", "to_xy"]


class Dims(Protocol):
    """What is read of napari's ``viewer.dims``."""

    ndim: int
    ndisplay: int
    displayed: tuple[int, ...]
    point: tuple[float, ...]


class Transformed(Protocol):
    """What is read of a napari layer."""

    ndim: int

    def world_to_data(self, position: Sequence[float]) -> Sequence[float]: ...


def displayed_plane(dims: Dims, layer: Transformed, shape: Sequence[int]) -> Plane:
    """The plane of an image that a viewer shows.

    Layers with fewer axes than the viewer are aligned to its last ones, as napari does. Which of the two
    axes is drawn vertically does not matter: a plane's row axis is always the first of the two.

    Parameters
    ----------
    dims : napari.components.Dims
    layer : napari.layers.Layer
    shape : sequence of int
        Length of the image along each of its axes, in pixels, without colours.

    Raises
    ------
    ImageError
        If the viewer shows no plane of the image; the sentence says what to do.
    """
    if layer.ndim < 2:
        raise ImageError("The image has one axis only: choose one with at least two.")
    if dims.ndisplay != 2:
        raise ImageError("Prompts need a plane: switch to 2D display (the cube button below the layer list).")
    first = dims.ndim - layer.ndim
    axes = [axis - first for axis in dims.displayed]
    if min(axes) < 0:
        raise ImageError(
            "The viewer shows an axis that this image does not have: "
            "roll the axes until its rows and columns show."
        )
    position = layer.world_to_data(dims.point)
    index: list[int | None] = []
    for axis, length in enumerate(shape):
        if axis in axes:
            index.append(None)
            continue
        at = position[axis - layer.ndim]
        # Positions just beyond the ends, at which napari still shows the image, are pardoned.
        if not -0.5 - 1e-6 <= at <= length - 0.5 + 1e-6:
            raise ImageError("The displayed plane lies outside the image: move the sliders to it.")
        index.append(int(np.clip(np.round(at), 0, length - 1)))
    return Plane(tuple(index))


def plane_at(coordinates: ArrayLike, axes: tuple[int, int]) -> Plane:
    """The plane through a position (data coordinates), spanned by the two given axes."""
    at = np.round(np.asarray(coordinates, dtype=float)).astype(int)
    return Plane(tuple(None if axis in axes else int(i) for axis, i in enumerate(at)))


def to_xy(coordinates: ArrayLike, plane: Plane) -> NDArray[np.float64]:
    """From data coordinates, shape (N, ndim), to x and y on the plane, shape (N, 2).

    Examples
    --------
    >>> to_xy([[5, 20, 30]], Plane((5, None, None))).tolist()
    [[30.0, 20.0]]
    """
    row, column = plane.axes
    points = np.asarray(coordinates, dtype=np.float64).reshape(-1, plane.ndim)
    return points[:, [column, row]]


def to_data(xy: ArrayLike, plane: Plane) -> NDArray[np.float64]:
    """From x and y on the plane, shape (N, 2), to data coordinates, shape (N, ndim).

    Examples
    --------
    >>> to_data([[30, 20]], Plane((5, None, None))).tolist()
    [[5.0, 20.0, 30.0]]
    """
    points = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    row, column = plane.axes
    data = np.tile([0.0 if i is None else float(i) for i in plane.index], (len(points), 1))
    data[:, row], data[:, column] = points[:, 1], points[:, 0]
    return data


def corners_to_box(corners: ArrayLike, plane: Plane) -> NDArray[np.float64]:
    """From a shape's corners (data coordinates, shape (K, ndim)) to the x0, y0, x1, y1 around them."""
    xy = to_xy(corners, plane)
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def box_to_corners(box: ArrayLike, plane: Plane) -> NDArray[np.float64]:
    """From x0, y0, x1, y1 to the four corners of a rectangle in data coordinates, shape (4, ndim)."""
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    return to_data([[x0, y0], [x0, y1], [x1, y1], [x1, y0]], plane)
