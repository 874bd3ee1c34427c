"""What the model is to see: a plane of an image layer, with its contrast limits and gamma."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Look
from napari_sam.inference.image import as_rgb

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["View", "finest", "image_shape", "view_of"]


def image_shape(layer: Image) -> tuple[int, ...]:
    """Length along each axis in pixels, of the finest level and without colours."""
    shape = tuple(int(n) for n in finest(layer).shape)
    return shape[:-1] if layer.rgb else shape


@dataclass(frozen=True, eq=False)
class View:
    """A plane as it was displayed at one moment; reading its pixels can wait for another thread.

    Attributes
    ----------
    data : array-like
        All of the image: numpy, dask, zarr, ...
    plane : Plane
    contrast_limits : tuple of float
    gamma : float
    revision : int
        Of the data, across all images: another one means other pixels.
    """

    data: Any
    plane: Plane
    contrast_limits: tuple[float, float]
    gamma: float
    revision: int

    @property
    def key(self) -> Hashable:
        """Equal for views that show the same pixels."""
        return self.plane, self.contrast_limits, self.gamma, self.revision

    @property
    def look(self) -> Look:
        """How it was displayed, for the annotation."""
        return Look(self.contrast_limits, self.gamma)

    def raw(self) -> NDArray[Any]:
        """The plane as it is in the image: shape (H, W) or (H, W, channels)."""
        return np.asarray(self.data[self.plane.slices])

    def pixels(self) -> NDArray[Any]:
        """The plane as the model sees it: shape (H, W, 3), uint8 or float32.

        Raises
        ------
        ImageError
            If it cannot be made into an image.
        """
        return as_rgb(self.raw(), contrast_limits=self.contrast_limits, gamma=self.gamma)


def view_of(layer: Image, plane: Plane, revision: int) -> View:
    """The plane of an image layer as it is displayed now."""
    low, high = layer.contrast_limits
    return View(finest(layer), plane, (float(low), float(high)), float(layer.gamma), revision)


def finest(layer: Image) -> Any:
    """The array of an image, of its finest level."""
    return layer.data[0] if layer.multiscale else layer.data
