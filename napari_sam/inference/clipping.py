"""What of a drawn line lies on the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["covers_some", "parts_on"]

Array = NDArray[np.float64]


def parts_on(size: tuple[int, int], path: Array) -> Array:
    """The parts of a line's segments that lie on the image, edges included.

    After Liang and Barsky (1984): each edge of the image says from where to where a segment is on its side.

    Parameters
    ----------
    size : tuple of int
        Height and width of the image, in pixels.
    path : ndarray, shape (N, 2), float64
        (x, y) of its vertices.

    Returns
    -------
    ndarray, shape (M, 2, 2), float64
        Start and end of each part, in the order of the line.

    Examples
    --------
    >>> parts_on((10, 20), np.array([[-10.0, 5.0], [30.0, 5.0]])).tolist()
    [[[-0.5, 5.0], [19.5, 5.0]]]
    """
    low, high = _edges(size)
    # Lines may reach as far as numbers do, and run along an axis.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        start, end = path[:-1], path[1:]
        way = end - start
        to_low, to_high = (low - start) / way, (high - start) / way
        # A segment along the other axis is on the right side everywhere or nowhere.
        still = np.where((start >= low) & (start <= high), -np.inf, np.inf)
        enters = np.where(way == 0, still, np.minimum(to_low, to_high)).max(axis=1, initial=0)
        leaves = np.where(way == 0, -still, np.maximum(to_low, to_high)).min(axis=1, initial=1)
        on = enters <= leaves
        first = np.where((enters == 0)[:, np.newaxis], start, start + enters[:, np.newaxis] * way)
        last = np.where((leaves == 1)[:, np.newaxis], end, start + leaves[:, np.newaxis] * way)
    parts: Array = np.clip(np.stack([first, last], axis=1)[on], low, high)
    return parts


def covers_some(size: tuple[int, int], polygon: Array) -> bool:
    """Whether a polygon has an area on the image.

    It has if its outline runs through the image, or if the image lies inside it as a whole.

    Parameters
    ----------
    size : tuple of int
        Height and width of the image, in pixels.
    polygon : ndarray, shape (K, 2), float64
        (x, y) of its vertices; the first follows the last.
    """
    low, high = _edges(size)
    outline = np.concatenate([polygon, polygon[:1]])
    parts = parts_on(size, outline)
    middles = parts.mean(axis=1)
    through = (parts[:, 0] != parts[:, 1]).any(axis=1) & ((middles > low) & (middles < high)).all(axis=1)
    return bool(through.any()) or _turns_around((low + high) / 2, outline)


def _turns_around(point: Array, outline: Array) -> bool:
    """Whether a closed line goes around a point that is not on it: its winding number is not 0."""
    above = outline[:, 1] > point[1]
    crossing = np.flatnonzero(above[:-1] != above[1:])
    start, end = outline[crossing], outline[crossing + 1]
    with np.errstate(over="ignore", invalid="ignore"):
        share = (point[1] - start[:, 1]) / (end[:, 1] - start[:, 1])
        right = start[:, 0] + share * (end[:, 0] - start[:, 0]) > point[0]
    return int(np.where(above[crossing + 1], 1, -1)[right].sum()) != 0


def _edges(size: tuple[int, int]) -> tuple[Array, Array]:
    """The corners of an image: pixels reach half a pixel around their centres."""
    return np.array([-0.5, -0.5]), np.array([size[1] - 0.5, size[0] - 0.5])
