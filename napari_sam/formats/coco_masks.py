"""The member "segmentation" of COCO and SA-1B files: run lengths or polygons, believed only when checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.fields import Field
from napari_sam.formats.json_files import LARGEST
from napari_sam.inference.mask import Mask
from napari_sam.inference.rle import box_of_runs, mask_of_runs, runs_of_text

__all__ = ["LARGEST_PLANE", "MaskReader", "plane_of"]

LARGEST_PLANE = 2**32 - 1
"""Pixels of a plane: pycocotools counts with 32 bits."""

# What becomes of one letter of run lengths while they are read.
_BYTES_PER_RUN = 64
# In the boxes of all masks; while one is read, it is there twice.
_MOST_PIXELS = LARGEST // 2
# pycocotools walks along outlines in steps of a fifth of a pixel: in all 10 seconds, and 350 MB at once.
_MOST_STEPS = 2**29
_MOST_STEPS_AT_ONCE = 2**25
_FARTHEST = 2**26


class MaskReader:
    """Masks of one file, as long as their boxes have no more than 2^29 pixels together."""

    def __init__(self) -> None:
        self._room = _MOST_PIXELS
        self._steps = _MOST_STEPS

    def read(self, item: Field, shape: tuple[int, int]) -> Mask:
        """One mask.

        Parameters
        ----------
        item : Field
            ``{"size": [height, width], "counts": ...}`` with a text or a list of run lengths, or a list of
            polygons ``[x, y, x, y, ...]`` in pixels, (0, 0) being the upper left corner of the first pixel. A
            pixel belongs to the mask if it is in any of the polygons, by the rule of pycocotools. Those of
            fewer than three points, and those outside the image, have no pixels.
        shape : tuple of int
            Height and width of the plane, in pixels.

        Raises
        ------
        AnnotationError
            If it is none of these, does not fit the plane, or takes too much memory.
        """
        if isinstance(item.value, list):
            return self._mask(item, self._runs_of_polygons(item, shape), shape)
        if item["size"].wholes(count=2) != shape:
            item["size"].fail(f"not the size of the image, {shape[0]} x {shape[1]}")
        return self._mask(item["counts"], _runs(item["counts"]), shape)

    def _mask(self, item: Field, runs: NDArray[np.int64], shape: tuple[int, int]) -> Mask:
        size = shape[0] * shape[1]
        if runs.max(initial=0) > size or runs.sum() != size:
            item.fail(f"not run lengths of {shape[0]} x {shape[1]} pixels")
        top, left, bottom, right = box_of_runs(runs, shape[0])
        self._room -= (bottom - top) * (right - left)
        if self._room < 0:
            item.fail("masks that take too much memory up to here")
        return mask_of_runs(runs, shape)

    def _runs_of_polygons(self, item: Field, shape: tuple[int, int]) -> NDArray[np.int64]:
        from pycocotools import mask as coco

        rings = [corners for ring in item if (corners := _ring(ring, shape)) is not None]
        if not rings:
            return np.array([shape[0] * shape[1]], dtype=np.int64)
        steps = 5 * sum(_length(ring) for ring in rings)
        self._steps -= int(steps)
        if steps > _MOST_STEPS_AT_ONCE or self._steps < 0:
            item.fail("outlines that are too long")
        encoded = coco.merge(coco.frPyObjects([ring.ravel() for ring in rings], *shape))
        return runs_of_text(encoded["counts"].decode("ascii"))


def plane_of(image: Field, shape: tuple[int, ...] | None) -> tuple[int, int]:
    """Height and width of an entry with these members; those of a shape that is known, if it has none.

    Raises
    ------
    AnnotationError
        If they are no sizes of an image.
    """
    if shape is not None and image.get("height") is None and image.get("width") is None:
        return shape[-2], shape[-1]
    height, width = (image[name].whole(0, LARGEST_PLANE) for name in ("height", "width"))
    if height * width > LARGEST_PLANE:
        image.fail(f"an image of {height} x {width} pixels")
    return height, width


def _runs(counts: Field) -> NDArray[np.int64]:
    """Run lengths, packed into a text or not."""
    value: Any = counts.value
    if not isinstance(value, list):
        text = counts.text()
        if len(text) * _BYTES_PER_RUN > LARGEST:
            counts.fail("too many runs")
        try:
            return runs_of_text(text)
        except ValueError as error:
            counts.fail(str(error))
    if len(value) * _BYTES_PER_RUN > LARGEST:
        counts.fail("too many runs")
    if not set(map(type, value)) <= {int}:
        counts.fail("not whole numbers")
    try:
        runs = np.array(value, dtype=np.int64)
    except OverflowError:
        counts.fail("a number that is too large")
    if runs.min(initial=0) < 0:
        counts.fail("a negative run length")
    return runs


def _ring(item: Field, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """The corners of one polygon: shape (N, 2); None if it has no pixels of the image."""
    value: Any = item.value
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
        item.fail("not a list of numbers")
    if len(value) % 2:
        item.fail("not the x and y of points")
    try:
        ring = np.array(value, dtype=np.float64).reshape(-1, 2)
    except OverflowError:
        item.fail("a number that is too large")
    if not np.isfinite(ring).all():
        item.fail("not finite numbers")
    size = shape[::-1]
    if np.abs(ring).max(initial=0) > _FARTHEST:
        item.fail(f"a polygon far outside the image, which has {size[0]} x {size[1]} pixels")
    # Tools that trace masks, or cut images into tiles, leave such things behind.
    if len(ring) < 3 or 0 in size or (ring.max(axis=0) < 0).any() or (ring.min(axis=0) > size).any():
        return None
    return ring


def _length(ring: NDArray[np.float64]) -> float:
    """Steps along a closed line: rows or columns, whichever are more, and one at each corner."""
    edges = np.abs(ring - np.roll(ring, 1, axis=0))
    return float(edges.max(axis=1).sum()) + len(ring)
