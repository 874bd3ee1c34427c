"""Colours of classes, and of the layer that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari.utils.colormaps import DirectLabelColormap

if TYPE_CHECKING:
    from napari_sam.annotation import ObjectClass

__all__ = ["class_colormap", "colour_of_class"]

# Paul Tol's "bright" scheme: told apart with any kind of colour blindness.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def colour_of_class(number: int) -> str:
    """The colour that a new class with this id gets."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


def class_colormap(classes: Iterable[ObjectClass]) -> DirectLabelColormap:
    """The colours of a layer of class ids."""
    colours: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    colours.update((one.id, one.colour) for one in classes)
    return DirectLabelColormap(color_dict=colours)
