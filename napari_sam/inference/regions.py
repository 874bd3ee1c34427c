"""Masks without specks and pinholes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.mask import Mask

__all__ = ["largest_region", "without_small_regions"]

Sides = tuple[int, int, int, int]


def without_small_regions(mask: Mask, min_area: int) -> Mask:
    """Fill holes and drop islands of fewer than `min_area` pixels, as the official package does.

    Holes first; regions hang together over corners; of a mask that is nothing but small islands, the largest
    stays. Background at the edge of the plane counts as a hole, too.

    Parameters
    ----------
    mask : Mask
    min_area : int
        Pixels.

    Returns
    -------
    Mask
        The very same where nothing changes.

    Examples
    --------
    >>> bits = np.ones((5, 5), dtype=bool)
    >>> bits[2, 2] = False
    >>> without_small_regions(Mask((3, 3), bits, (20, 20)), 2).area
    25
    """
    if mask.is_empty:
        return mask
    rows, columns = mask.slices
    height, width = mask.shape
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    bottom, right = min(rows.stop + 1, height), min(columns.stop + 1, width)
    outside: Sides = (
        top * width,
        (height - bottom) * width,
        left * (bottom - top),
        (width - right) * (bottom - top),
    )
    bits = mask.bits_in(slice(top, bottom), slice(left, right))
    small = _small_holes(bits, min_area, outside)
    if small is None:  # what surrounds the mask is itself small
        top = left = 0
        bits = mask.to_array()
        small = _small_holes(bits, min_area, (0, 0, 0, 0))
        assert small is not None
    filled = bits | small
    cleaned = _without_islands(filled, min_area)
    if cleaned is filled and not small.any():
        return mask
    found = Mask((top, left), cleaned, mask.shape)
    return Mask(found.origin, found.bits.copy(), found.shape)


def largest_region(mask: Mask) -> Mask:
    """The largest of the regions of a mask, which hang together over corners; the very same if it is one.

    Examples
    --------
    >>> bits = np.array([[1, 1, 0, 1], [1, 1, 0, 0]], dtype=bool)
    >>> largest_region(Mask((3, 3), bits, (20, 20))).area
    4
    """
    # No part has as many pixels as the whole: all of several are small islands.
    largest = _without_islands(mask.bits, mask.area)
    if largest is mask.bits:
        return mask
    found = Mask(mask.origin, largest, mask.shape)
    return Mask(found.origin, found.bits.copy(), found.shape)


def _small_holes(bits: NDArray[np.bool_], min_area: int, outside: Sides) -> NDArray[np.bool_] | None:
    """Pixels of small regions of background; None if one of them goes on outside.

    `outside` has the pixels of the plane beyond the first row, the last row, the first and the last column:
    where there are any, that row or column is background.
    """
    labels, sizes = _regions(~bits)
    edges = labels[0, 0], labels[-1, 0], labels[0, 0], labels[0, -1]
    for label, pixels in zip(edges, outside, strict=True):
        sizes[label] += pixels
    small = sizes < min_area
    small[0] = False
    if any(pixels and small[label] for label, pixels in zip(edges, outside, strict=True)):
        return None
    holes: NDArray[np.bool_] = small[labels]
    return holes


def _without_islands(bits: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    labels, sizes = _regions(bits)
    large = sizes >= min_area
    large[0] = False
    if large[1:].all():
        return bits
    if not large.any():
        large[1 + int(np.argmax(sizes[1:]))] = True
    islands: NDArray[np.bool_] = large[labels]
    return islands


def _regions(bits: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Connected regions, numbered from 1, and the pixels of each."""
    from scipy import ndimage

    labels, count = ndimage.label(bits, structure=np.ones((3, 3)))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)
