"""Shapes between two shapes, and shapes moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.mask import Mask, box_around

__all__ = ["between", "centroid", "moved", "signed_distance"]


def between(one: Mask, other: Mask, share: float) -> Mask:
    """The shape on the way from one mask to another.

    Shape-based interpolation (Raya and Udupa 1990, Shape-based interpolation of multidimensional objects,
    IEEE Transactions on Medical Imaging 9, 32, section II): the signed distance to the outline, positive
    inside, is interpolated, and the shape is where it is positive. Both masks are moved to a common centre
    first, so that shapes that do not overlap have something between them, too.

    Parameters
    ----------
    one, other : Mask
        Of one plane, not empty.
    share : float
        Between 0 (`one`) and 1 (`other`).

    Returns
    -------
    Mask
        Empty where thin shapes have nothing in common.

    Examples
    --------
    >>> small, large = np.zeros((2, 9, 9), dtype=bool)
    >>> small[4, 4], large[2:7, 2:7] = True, True
    >>> between(Mask.from_array(small), Mask.from_array(large), 0.5).bbox_xywh
    (3, 3, 3, 3)
    """
    start, end = centroid(one), centroid(other)
    centre = (1 - share) * start + share * end
    masks = moved(one, centre - start), moved(other, centre - end)
    rows, columns = box_around(*masks)
    distances = [signed_distance(mask.bits_in(rows, columns)) for mask in masks]
    bits = (1 - share) * distances[0] + share * distances[1] > 0
    return Mask((rows.start, columns.start), bits, one.shape)


def centroid(mask: Mask) -> NDArray[np.float64]:
    """The mean row and column of a mask that is not empty: shape (2,)."""
    rows, columns = mask.bits.sum(axis=1), mask.bits.sum(axis=0)
    inside = np.array([rows @ np.arange(len(rows)), columns @ np.arange(len(columns))]) / rows.sum()
    return np.asarray(inside + mask.origin, dtype=np.float64)


def moved(mask: Mask, way: NDArray[np.float64]) -> Mask:
    """A mask moved by whole rows and columns, as near to `way` as that comes; cut off at the plane's edge.

    Parameters
    ----------
    mask : Mask
    way : ndarray, shape (2,), float64
        Rows and columns.
    """
    down, right = np.rint(way).astype(int).tolist()
    if not (down or right) or mask.is_empty:
        return mask
    (rows, columns), (height, width) = mask.slices, mask.shape
    top, left = max(0, rows.start + down), max(0, columns.start + right)
    bottom, end = min(height, rows.stop + down), min(width, columns.stop + right)
    if top >= bottom or left >= end:
        return Mask.empty(mask.shape)
    row, column = top - down - rows.start, left - right - columns.start
    bits = mask.bits[row : row + bottom - top, column : column + end - left]
    return Mask((top, left), bits, mask.shape)


def signed_distance(bits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The distance of each pixel's centre to the outline, in pixels; negative outside.

    Parameters
    ----------
    bits : ndarray, shape (h, w), bool
        What is beyond its edges is outside.

    Examples
    --------
    >>> signed_distance(np.array([[False, True, True, True]])).tolist()
    [[-0.5, 0.5, 0.5, 0.5]]
    """
    from scipy import ndimage

    inside = ndimage.distance_transform_edt(np.pad(bits, 1))[1:-1, 1:-1]
    if bits.all():
        return np.asarray(inside - 0.5)
    return np.asarray(np.where(bits, inside - 0.5, 0.5 - ndimage.distance_transform_edt(~bits)))
