"""Boxes of an image of any kind of array, for what is measured in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.region_strips import Reader
from napari_sam.formats.segmentation import Index

__all__ = ["ImageBoxes"]


class ImageBoxes:
    """An image, read in pieces, with channels last.

    Parameters
    ----------
    image : array_like of bool, int or float
    shape : tuple of int
        What the image must have, but for channels.
    channel_axis : int or None

    Attributes
    ----------
    channels : int
    is_whole : bool
        Whether its values are whole numbers.

    Raises
    ------
    FormatError
        If the image has another shape, no such axis, or no numbers.
    """

    def __init__(self, image: Any, shape: tuple[int, ...], channel_axis: int | None) -> None:
        self.image = image if hasattr(image, "shape") and hasattr(image, "dtype") else np.asarray(image)
        sides = tuple(int(side) for side in self.image.shape)
        self.channels = 1
        self._axis: int | None = None
        if channel_axis is not None:
            if not -len(sides) <= channel_axis < len(sides):
                raise FormatError(f"An image of the shape {sides} has no axis {channel_axis} for channels.")
            self._axis = channel_axis % len(sides)
            self.channels = sides[self._axis]
            sides = sides[: self._axis] + sides[self._axis + 1 :]
        if sides != shape or not self.channels:
            raise FormatError(
                f"An image of the shape {tuple(self.image.shape)} does not fit objects of one of the shape "
                f"{shape}: choose the image that they were found in, and say which axis is channels."
            )
        kind = np.dtype(self.image.dtype).kind
        if kind not in "buif":
            raise FormatError(f"Intensities of the type {self.image.dtype} cannot be measured: convert them.")
        self.is_whole = kind != "f"

    def reader(self, index: Index, third: int | None) -> Reader:
        """What gives boxes of a plane, which is read once, or of a stack.

        Parameters
        ----------
        index : tuple of int
            Where the plane or the stack is along the other axes.
        third : int or None
            Which axis is the third one of a stack.
        """
        if third is None:
            plane = self._read((*index, slice(None), slice(None)))
            return lambda box: plane[box]
        return lambda box: self._read((*index[:third], box[0], *index[third:], *box[1:]))

    def _read(self, place: tuple[int | slice, ...]) -> NDArray[Any]:
        if self._axis is None:
            return np.asarray(self.image[place])
        before = sum(isinstance(at, slice) for at in place[: self._axis])
        return np.moveaxis(
            np.asarray(self.image[(*place[: self._axis], slice(None), *place[self._axis :])]), before, -1
        )
