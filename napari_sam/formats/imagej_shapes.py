"""The shapes of ImageJ's regions as rings of vertices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError

if TYPE_CHECKING:
    from roifile import ImagejRoi

__all__ = ["path_of", "rings_of"]

# What java.awt.geom.PathIterator calls them, and how many numbers follow.
_MOVE, _LINE, _QUADRATIC, _CUBIC, _CLOSE = range(5)
_CONTROLS = {_QUADRATIC: 4, _CUBIC: 6}
_ALONG_CURVE = np.linspace(0, 1, 17)[1:, None]
_MOST_ROWS = 2**17
"""Of an oval."""


def rings_of(region: ImagejRoi) -> list[NDArray[np.floating]]:
    """The rings of a region, shapes (N, 2), for :func:`~napari_sam.formats.polygons.fill`.

    Parameters
    ----------
    region : ImagejRoi

    Returns
    -------
    list of ndarray
        None of what has no area, or whose area is not that of the region: points, lines, texts, images.

    Raises
    ------
    FormatError
        If it is damaged.
    """
    from roifile import ROI_SUBTYPE, ROI_TYPE

    if region.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE):
        return []
    if region.composite:
        if region.multi_coordinates is None:
            raise FormatError(f"the region {region.name!r} is damaged: save it anew.")
        return _rings_of_path(region.multi_coordinates.astype(np.float64))
    if region.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        box: tuple[float, ...] = region.left, region.top, region.right, region.bottom
        if region.subpixelrect:
            box = region.xd, region.yd, region.xd + region.widthd, region.yd + region.heightd
        left, top, right, bottom = box
        if not (left < right and top < bottom):
            return []
        if region.roitype == ROI_TYPE.OVAL:
            return _oval(left, top, right, bottom)
        return [np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)]
    if region.roitype in (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED):
        ring: NDArray[np.floating | np.integer] | None = region.subpixel_coordinates
        if ring is None and region.integer_coordinates is not None:
            ring = region.integer_coordinates + np.array([region.left, region.top], dtype=np.float64)
        return [] if ring is None or not len(ring) else [ring.astype(np.float64)]
    return []


def path_of(rings: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
    """Rings as the path of a composite region."""
    pieces = []
    for ring in rings:
        lines = np.full((len(ring), 3), _LINE, dtype=np.float32)
        lines[0, 0] = _MOVE
        lines[:, 1:] = ring
        pieces += [lines.ravel(), np.array([_CLOSE], dtype=np.float32)]
    return np.concatenate(pieces)


def _rings_of_path(path: NDArray[np.float64]) -> list[NDArray[np.floating]]:
    """The rings of a composite region: straight lines at once, curves in pieces."""
    rings: list[list[NDArray[np.float64]]] = []
    at, is_closed = 0, True
    while at < len(path):
        kind = path[at]
        if kind == _MOVE or (kind == _LINE and rings):
            count = _lines(path, at)
            points = path[at : at + 3 * count].reshape(-1, 3)[:, 1:]
            if kind == _MOVE:
                rings.append([])
            at += 3 * count
        elif kind in _CONTROLS and rings:
            stop = at + 1 + _CONTROLS[int(kind)]
            if stop > len(path):
                raise FormatError("the path of a composite region ends early: save it anew.")
            controls = np.concatenate([rings[-1][-1][-1:], path[at + 1 : stop].reshape(-1, 2)])
            points = _curve(controls)
            at = stop
        elif kind == _CLOSE and not is_closed:
            at, is_closed = at + 1, True
            continue
        else:
            raise FormatError("the path of a composite region makes no sense: save it anew.")
        rings[-1].append(points)
        is_closed = False
    return [np.concatenate(ring) for ring in rings]


def _lines(path: NDArray[np.float64], at: int) -> int:
    """How many points follow each other, from `at` on, the first moved to and the others joined by lines."""
    count, ahead = 1, 64
    while True:
        kinds = path[at + 3 * count : at + 3 * (count + ahead) : 3]
        others = np.flatnonzero(kinds != _LINE)
        count += int(others[0]) if len(others) else len(kinds)
        if len(others) or len(kinds) < ahead:
            break
        ahead *= 2
    if at + 3 * count > len(path):
        raise FormatError("the path of a composite region ends early: save it anew.")
    return count


def _curve(controls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points along a Bézier curve of the second or third degree, but for the first (de Casteljau 1959)."""
    points = [np.broadcast_to(one, (len(_ALONG_CURVE), 2)) for one in controls]
    while len(points) > 1:
        points = [a + (b - a) * _ALONG_CURVE for a, b in pairwise(points)]
    return np.array(points[0])


def _oval(left: float, top: float, right: float, bottom: float) -> list[NDArray[np.floating]]:
    """A ring around the pixels whose centres are in an ellipse or on it, which is ImageJ's own rule."""
    if not all(map(np.isfinite, (left, top, right, bottom))) or bottom - top > _MOST_ROWS:
        raise FormatError("an oval is larger than any image of ImageJ.")
    rows = np.arange(np.ceil(top - 0.5), np.ceil(bottom - 0.5))
    x, y, a, b = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
    half = a * np.sqrt((1 - ((rows + 0.5 - y) / b) ** 2).clip(0))
    first, last = np.ceil(x - half - 0.5), np.floor(x + half - 0.5) + 1
    rows, first, last = (one[first < last] for one in (rows, first, last))
    if not len(rows):
        return []
    down = np.stack([np.repeat(first, 2), np.stack([rows, rows + 1], axis=1).ravel()], axis=1)
    up = np.stack([np.repeat(last, 2), np.stack([rows, rows + 1], axis=1).ravel()], axis=1)[::-1]
    return [np.concatenate([down, up])]
