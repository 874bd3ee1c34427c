"""Polygons as masks: the pixels whose centres are inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import FormatError
from napari_sam.inference.mask import Mask

__all__ = ["box_of", "crossings_of", "fill"]

_CROSSINGS = 2**20
"""Of edges with rows of pixels, that are held at once."""

_MOST_CROSSINGS = 2**28
"""Of one call: some ten seconds."""

_FAR = 1e150
"""What is further away counts as being there: products of such coordinates are still numbers."""


def fill(rings: Sequence[ArrayLike], shape: tuple[int, int]) -> Mask:
    """The pixels whose centres are inside of an odd number of rings: holes are rings like the others.

    The exact inverse of :func:`~napari_sam.formats.outlines.outlines`. A centre on an edge belongs to what is
    on the right of it or below, so that polygons with a common edge share no pixel and leave none out.

    Parameters
    ----------
    rings : sequence of array_like, each of shape (N, 2)
        Vertices (x, y), between pixels: pixel (0, 0) reaches from 0 to 1. The last is joined to the first.
        Rings may cross themselves and reach beyond the image.
    shape : tuple of int
        Height and width of the image, in pixels.

    Returns
    -------
    Mask

    Raises
    ------
    FormatError
        If a ring is not of that shape, a coordinate is not a finite number, or edges cross more than 2^28
        rows of pixels altogether.

    Notes
    -----
    Memory: two bytes for each pixel in the part of the image that the rings reach into (:func:`box_of`), and
    less than 100 MiB for edges, of which a million crossings with rows are found at a time.

    Examples
    --------
    >>> outer, hole = [(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 1), (2, 1), (2, 2), (1, 2)]
    >>> fill([outer, hole], (3, 4)).to_array().astype(int)
    array([[1, 1, 1, 0],
           [1, 0, 1, 0],
           [1, 1, 1, 0]])
    """
    begin, end = _edges(rings)
    top, left, bottom, right = _box(begin, shape)
    if top >= bottom or left >= right:
        return Mask.empty(shape)
    # One column more takes what is on the right of the box.
    toggles = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    for rows, columns in _crossings(begin, end, top, bottom):
        across = (columns - left).clip(0, right - left).astype(np.intp)
        np.add.at(toggles.reshape(-1), (rows - top) * toggles.shape[1] + across, 1)
    # What is odd stays odd modulo 256.
    np.add.accumulate(toggles, axis=1, out=toggles)
    toggles &= 1
    return Mask((top, left), toggles[:, :-1].astype(bool), shape)


def box_of(rings: Sequence[ArrayLike], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image that rings reach into, which is what :func:`fill` takes memory for.

    Parameters
    ----------
    rings, shape
        As for :func:`fill`.

    Returns
    -------
    tuple of int
        First row and column, and those after the last.

    Raises
    ------
    FormatError
        As :func:`fill`.

    Examples
    --------
    >>> box_of([[(-5, 0.6), (2.2, 0.6), (2.2, 3)]], (10, 10))
    (1, 0, 3, 2)
    """
    begin, _ = _edges(rings)
    return _box(begin, shape)


def crossings_of(rings: Sequence[ArrayLike], shape: tuple[int, int]) -> int:
    """How many rows of pixels the edges of rings cross: what :func:`fill` takes time for.

    Parameters
    ----------
    rings, shape
        As for :func:`fill`.

    Raises
    ------
    FormatError
        As :func:`fill`.

    Examples
    --------
    >>> crossings_of([[(0, 0), (8, 0), (8, 3), (0, 3)]], (10, 10))
    6
    """
    begin, end = _edges(rings)
    first, last = (np.ceil(one[:, 1] - 0.5).clip(0, shape[0]) for one in (begin, end))
    return int(np.abs(last - first).sum())


def _edges(rings: Sequence[ArrayLike]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the edges of all rings begin and end."""
    found = [np.asarray(ring) for ring in rings]
    for ring in found:
        if ring.ndim != 2 or ring.shape[1] != 2 or ring.dtype.kind not in "iuf":
            raise FormatError(
                f"A polygon is a list of points (x, y), not {ring.dtype} of the shape {ring.shape}."
            )
    begin = np.concatenate([np.empty((0, 2)), *found], dtype=np.float64)
    if not np.isfinite(begin).all():
        raise FormatError("The corners of a polygon are finite numbers.")
    begin = begin.clip(-_FAR, _FAR)
    stops = np.cumsum([len(ring) for ring in found if len(ring)], dtype=np.intp)
    following = np.arange(1, len(begin) + 1)
    following[stops - 1] = np.append(0, stops[:-1])[: len(stops)]
    return begin, begin[following]


def _box(vertices: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels whose centres are between the least and the greatest coordinates."""
    if not len(vertices):
        return 0, 0, 0, 0
    sides = shape[1], shape[0]
    left, top = np.ceil(vertices.min(axis=0) - 0.5).clip(0, sides).astype(np.intp).tolist()
    right, bottom = np.ceil(vertices.max(axis=0) - 0.5).clip(0, sides).astype(np.intp).tolist()
    return top, left, bottom, right


def _crossings(
    begin: NDArray[np.float64], end: NDArray[np.float64], top: int, bottom: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Where edges cross the middles of rows from top to bottom: rows, and the first columns on the right."""
    # Always from the upper end: then an edge crosses at the same places whichever way it is drawn.
    downward = (begin[:, 1] <= end[:, 1])[:, None]
    begin, end = np.where(downward, begin, end), np.where(downward, end, begin)
    first = np.ceil(begin[:, 1] - 0.5).clip(top, bottom).astype(np.intp)
    counts = np.ceil(end[:, 1] - 0.5).clip(top, bottom).astype(np.intp) - first
    crossing = np.flatnonzero(counts)
    begin, end, first, counts = begin[crossing], end[crossing], first[crossing], counts[crossing]
    slopes = (end[:, 0] - begin[:, 0]) / (end[:, 1] - begin[:, 1])
    total = np.cumsum(counts)
    if len(total) and total[-1] > _MOST_CROSSINGS:
        raise FormatError("A polygon goes up and down too often: simplify it.")
    start = 0
    while start < len(counts):
        done = total[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(total, done + _CROSSINGS, side="right")))
        edge = np.repeat(np.arange(start, stop), counts[start:stop])
        rows = first[edge] + np.arange(len(edge)) - (total[edge] - counts[edge] - done)
        x = begin[edge, 0] + (rows + 0.5 - begin[edge, 1]) * slopes[edge]
        yield rows, np.ceil(x - 0.5)
        start = stop
