"""Polygons as masks: the pixels whose centres are inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import FormatError
from napari_sam.inference.mask import Mask

__all__ = ["box_of", "crossings_of", "fill", "fill_all", "measured"]

_CROSSINGS = 2**20
"""Of edges with rows of pixels, that are held at once."""

_MOST_CROSSINGS = 2**28
"""Of objects that are filled at once: some ten seconds."""

_PIXELS = 2**22
"""In the boxes of objects that are filled at once, unless one has more."""

_VERTICES = 2**17
"""Of objects that are filled at once, unless one has more."""

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
    (mask,) = fill_all([rings], shape)
    return mask


def fill_all(drawn: Sequence[Sequence[ArrayLike]], shape: tuple[int, int]) -> Iterator[Mask]:
    """:func:`fill` for many objects, which is faster than one by one.

    Parameters
    ----------
    drawn : sequence of sequence of array_like
        The rings of each object.
    shape : tuple of int
        Height and width of the image, in pixels.

    Yields
    ------
    Mask

    Raises
    ------
    FormatError
        As :func:`fill`.
    """
    for group in _groups(drawn):
        yield from _filled(group, shape)


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
    boxes, _ = measured([rings], shape)
    top, left, bottom, right = boxes[0].tolist()
    return top, left, bottom, right


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
    _, crossings = measured([rings], shape)
    return int(crossings[0])


def measured(
    drawn: Sequence[Sequence[ArrayLike]], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """:func:`box_of` and :func:`crossings_of` for many objects.

    Parameters
    ----------
    drawn, shape
        As for :func:`fill_all`.

    Returns
    -------
    boxes : ndarray, shape (N, 4), int
    crossings : ndarray, shape (N,), int64

    Raises
    ------
    FormatError
        As :func:`fill`.
    """
    boxes, crossings = [np.zeros((0, 4), dtype=np.intp)], [np.zeros(0, dtype=np.int64)]
    for group in _groups(drawn):
        begin, end, counts = _edges(group)
        boxes.append(_boxes(begin, counts, shape))
        first, last = (np.ceil(one[:, 1] - 0.5).clip(0, shape[0]) for one in (begin, end))
        owner = np.repeat(np.arange(len(group)), counts)
        crossings.append(np.bincount(owner, np.abs(last - first), len(group)).astype(np.int64))
    return np.concatenate(boxes), np.concatenate(crossings)


def _groups(drawn: Sequence[Sequence[ArrayLike]]) -> Iterator[list[list[NDArray[Any]]]]:
    """The rings of objects, checked, as many objects at once as memory is meant for."""
    group: list[list[NDArray[Any]]] = []
    vertices = 0
    for one in drawn:
        rings = [np.asarray(ring) for ring in one]
        for ring in rings:
            if ring.ndim != 2 or ring.shape[1] != 2 or ring.dtype.kind not in "iuf":
                raise FormatError(
                    f"A polygon is a list of points (x, y), not {ring.dtype} of the shape {ring.shape}."
                )
        more = sum(map(len, rings))
        if group and vertices + more > _VERTICES:
            yield group
            group, vertices = [], 0
        group.append(rings)
        vertices += more
    if group:
        yield group


def _filled(group: Sequence[Sequence[NDArray[Any]]], shape: tuple[int, int]) -> Iterator[Mask]:
    """The masks of objects whose edges are few enough."""
    begin, end, counts = _edges(group)
    boxes = _boxes(begin, counts, shape)
    top, left, bottom, right = boxes.T
    # One column more takes what is on the right of the box. Every row has an even number of toggles.
    widths = right - left + 1
    stops = np.cumsum((bottom - top) * widths)
    if len(group) > 1 and stops[-1] > _PIXELS:
        half = len(group) // 2
        yield from _filled(group[:half], shape)
        yield from _filled(group[half:], shape)
        return
    owner = np.repeat(np.arange(len(group)), counts)
    starts = np.append(0, stops[:-1])
    toggles = np.zeros(stops[-1], dtype=np.uint8)
    for edges, rows, columns in _crossings(begin, end, top[owner], bottom[owner]):
        each = owner[edges]
        across = (columns - left[each]).clip(0, widths[each] - 1).astype(np.intp)
        np.add.at(toggles, starts[each] + (rows - top[each]) * widths[each] + across, 1)
    # What is odd stays odd modulo 256.
    np.add.accumulate(toggles, out=toggles, dtype=np.uint8)
    toggles &= 1
    for start, stop, (y, x, _, _), width in zip(
        starts.tolist(), stops.tolist(), boxes.tolist(), widths.tolist(), strict=True
    ):
        bits = toggles[start:stop].reshape(-1, width)[:, :-1]
        yield Mask((y, x), bits.astype(bool), shape) if bits.size else Mask.empty(shape)


def _edges(
    group: Sequence[Sequence[NDArray[Any]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Where the edges of all rings begin and end, and how many each object has."""
    rings = [ring for one in group for ring in one]
    begin = np.concatenate([np.empty((0, 2)), *rings], dtype=np.float64)
    if not np.isfinite(begin).all():
        raise FormatError("The corners of a polygon are finite numbers.")
    begin = begin.clip(-_FAR, _FAR)
    stops = np.cumsum([len(ring) for ring in rings if len(ring)], dtype=np.intp)
    following = np.arange(1, len(begin) + 1)
    following[stops - 1] = np.append(0, stops[:-1])[: len(stops)]
    counts = np.array([sum(map(len, one)) for one in group], dtype=np.intp)
    return begin, begin[following], counts


def _boxes(
    vertices: NDArray[np.float64], counts: NDArray[np.intp], shape: tuple[int, int]
) -> NDArray[np.intp]:
    """The pixels whose centres are between the least and the greatest coordinates of each object."""
    boxes = np.zeros((len(counts), 4), dtype=np.intp)
    drawn = np.flatnonzero(counts)
    if len(drawn):
        starts = (np.cumsum(counts) - counts)[drawn]
        sides = shape[1], shape[0]
        ends = [np.ceil(one.reduceat(vertices, starts) - 0.5) for one in (np.minimum, np.maximum)]
        first, last = (one.clip(0, sides).astype(np.intp)[:, ::-1] for one in ends)
        boxes[drawn] = np.concatenate([first, np.maximum(first, last)], axis=1)
    return boxes


def _crossings(
    begin: NDArray[np.float64],
    end: NDArray[np.float64],
    top: NDArray[np.intp],
    bottom: NDArray[np.intp],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """Where edges cross the middles of rows, from top to bottom: edge, row, and first column on the right."""
    # Always from the upper end: then an edge crosses at the same places whichever way it is drawn.
    downward = (begin[:, 1] <= end[:, 1])[:, None]
    begin, end = np.where(downward, begin, end), np.where(downward, end, begin)
    first = np.ceil(begin[:, 1] - 0.5).clip(top, bottom).astype(np.intp)
    counts = np.ceil(end[:, 1] - 0.5).clip(top, bottom).astype(np.intp) - first
    edges = np.flatnonzero(counts)
    begin, end, first, counts = begin[edges], end[edges], first[edges], counts[edges]
    slopes = (end[:, 0] - begin[:, 0]) / (end[:, 1] - begin[:, 1])
    total = np.cumsum(counts)
    if len(total) and total[-1] > _MOST_CROSSINGS:
        raise FormatError("Polygons go up and down too often: simplify them.")
    start = 0
    while start < len(counts):
        done = total[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(total, done + _CROSSINGS, side="right")))
        edge = np.repeat(np.arange(start, stop), counts[start:stop])
        rows = first[edge] + np.arange(len(edge)) - (total[edge] - counts[edge] - done)
        x = begin[edge, 0] + (rows + 0.5 - begin[edge, 1]) * slopes[edge]
        yield edges[edge], rows, np.ceil(x - 0.5)
        start = stop
