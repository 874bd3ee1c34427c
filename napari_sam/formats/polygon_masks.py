"""Masks of the polygons of a file, together within bounds of memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.json_files import LARGEST
from napari_sam.formats.polygons import fill_all, measured
from napari_sam.inference.mask import Mask

__all__ = ["filled", "reach"]

_BYTES_PER_PIXEL = 2
# Edges of all objects with rows of pixels: some ten seconds.
_MOST_CROSSINGS = 2**28


def filled(drawn: Sequence[Sequence[NDArray[np.floating]]], shape: tuple[int, int]) -> list[Mask]:
    """The mask of each object; empty where it holds no centre of a pixel.

    Parameters
    ----------
    drawn : sequence of sequence of ndarray
        The rings of each object, shapes (N, 2).
    shape : tuple of int
        Height and width of the image, in pixels.

    Raises
    ------
    FormatError
        If they would take more than 1 GiB or far too long together, or an object lies outside of the image.
    """
    boxes, crossings = measured(drawn, shape)
    pixels = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1, dtype=np.float64).sum()
    if pixels * _BYTES_PER_PIXEL > LARGEST:
        raise FormatError(f"its objects would take more than {LARGEST >> 30} GiB of memory: split it.")
    if crossings.sum(dtype=np.float64) > _MOST_CROSSINGS:
        raise FormatError("its outlines go up and down too often: simplify them.")
    for rings in drawn:
        low, high = _extent(rings)
        if (high <= 0).any() or (low >= (shape[1], shape[0])).any():
            raise FormatError(
                f"an object lies outside of an image of {shape[0]} x {shape[1]} pixels: give its own shape."
            )
    return list(fill_all(drawn, shape))


def reach(drawn: Sequence[Sequence[NDArray[np.floating]]]) -> tuple[float, float]:
    """How far down and to the right objects reach, in pixels."""
    high = np.array([_extent(rings)[1] for rings in drawn]).reshape(-1, 2)
    x, y = high.max(axis=0, initial=0).tolist()
    return y, x


def _extent(rings: Sequence[NDArray[np.floating]]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The least and greatest x and y."""
    vertices = rings[0] if len(rings) == 1 else np.concatenate(rings)
    return vertices.min(axis=0), vertices.max(axis=0)
