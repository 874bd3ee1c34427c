"""The colours of the layer that shows classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari.utils.colormaps import DirectLabelColormap

if TYPE_CHECKING:
    from napari_sam.annotation import ObjectClass

__all__ = ["class_colormap"]


def class_colormap(classes: Iterable[ObjectClass]) -> DirectLabelColormap:
    """The colours of a layer of class ids."""
    colours: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    colours.update((one.id, one.colour) for one in classes)
    return DirectLabelColormap(color_dict=colours)
