"""Where automatic masks are looked for: crops of a plane, and a grid of points on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Crop", "crops", "layer_grids", "point_grid", "points_on"]


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a plane that is encoded by itself.

    Attributes
    ----------
    x0, y0, x1, y1 : int
        Pixels, the latter two exclusive.
    layer : int
        0 for the whole plane, 1 for quarters, 2 for sixteenths, ...
    """

    x0: int
    y0: int
    x1: int
    y1: int
    layer: int

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        """First column and row, width and height."""
        return self.x0, self.y0, self.x1 - self.x0, self.y1 - self.y0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def crops(shape: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole plane, then for each layer a grid of overlapping crops, twice as many a side as before.

    As in Segment Anything (Kirillov et al. 2023, appendix B). Planes of a few pixels have fewer crops, since
    none is empty.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane, in pixels.
    layers : int
        Besides the whole plane.
    overlap_ratio : float
        How far crops of the first layer overlap, as a share of the shorter side; half as far in the next.

    Examples
    --------
    >>> [crop.xywh for crop in crops((100, 200), 1, 0.2)][:3]
    [(0, 0, 200, 100), (0, 0, 110, 60), (0, 40, 110, 60)]
    """
    height, width = shape
    found = [Crop(0, 0, width, height, 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(shape) * (2 / count))
        columns, rows = (_spans(side, count, overlap) for side in (width, height))
        found += [Crop(x0, y0, x1, y1, layer) for x0, x1 in columns for y0, y1 in rows]
    return found


def _spans(side: int, count: int, overlap: int) -> list[tuple[int, int]]:
    """Intervals of one length that cover a side, the last one perhaps shorter."""
    length = math.ceil((side + overlap * (count - 1)) / count)
    spans = [(start, min(start + length, side)) for start in range(0, count * side, max(1, length - overlap))]
    return [(start, stop) for start, stop in spans[:count] if start < stop]


def point_grid(side: int) -> NDArray[np.float64]:
    """A grid of points in the unit square, row by row: shape (side * side, 2), (x, y)."""
    at = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(at, at)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def layer_grids(side: int, layers: int, downscale: int) -> list[NDArray[np.float64]]:
    """A grid for the whole plane and each layer of crops, each with `downscale` times fewer points a side."""
    return [point_grid(max(1, int(side / downscale**layer))) for layer in range(layers + 1)]


def points_on(crop: Crop, grids: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The points of a crop, in pixels of the crop: shape (N, 2), float64.

    On crops with fewer pixels than points, points that would lie beyond the centre of the last pixel are on
    it, and those that coincide are one.
    """
    height, width = crop.size
    points = np.minimum(grids[crop.layer] * (width, height), (width - 1, height - 1))
    _, first = np.unique(points, axis=0, return_index=True)
    return np.asarray(points[np.sort(first)])
