"""How large a pixel of an image is in the world."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["pixel_area"]


def pixel_area(image: Image, axes: tuple[int, int] = (-2, -1)) -> tuple[float, str] | None:
    """The area of a pixel on a plane, and the unit of length; None if the image has no units.

    Parameters
    ----------
    image : napari.layers.Image
    axes : tuple of int
        That span the plane.
    """
    row, column = axes
    unit, other = image.units[row], image.units[column]
    if unit != other or f"{unit}" == "pixel":
        return None
    return float(abs(image.scale[row] * image.scale[column])), f"{unit:~P}"
