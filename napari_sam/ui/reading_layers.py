"""What files are read to: Labels layers of their objects, Shapes layers of what are boxes only."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.notifications import show_info, show_warning

from napari_sam.annotation.plane import Plane
from napari_sam.errors import FormatError
from napari_sam.formats import Calibration, Segmentation
from napari_sam.formats.calibration import UNKNOWN
from napari_sam.formats.coco_boxes import BoxedImage
from napari_sam.formats.label_tables import about_classes
from napari_sam.ui.coordinates import box_to_corners
from napari_sam.ui.writing_layers import CLASS_COLUMNS, KEY, held

if TYPE_CHECKING:
    from napari.types import LayerData

__all__ = ["box_layers", "label_layers"]

_MOST_LAYERS = 50
_MOST_COLUMNS = 50
_MOST_BOXES = 10_000
# Of a layer that is coloured by class, where napari has a table of all labels.
_MOST_COLOURED = 2000
_NO_CLASS = "#808080"


def label_layers(found: Sequence[Segmentation], stem: str) -> list[LayerData]:
    """Labels layers of what a file holds, one for each image.

    Parameters
    ----------
    found : sequence of Segmentation
    stem : str
        What the file is called.

    Raises
    ------
    FormatError
        If they are too many, or take more memory than there is.
    """
    _check_count(len(found), stem)
    types = [_label_type(one) for one in found]
    needed = sum(math.prod(one.shape) * kind.itemsize for one, kind in zip(found, types, strict=True))
    if needed > psutil.virtual_memory().available // 2:
        shapes = ", ".join(" x ".join(map(str, one.shape)) for one in found[:3])
        raise FormatError(
            f"{stem} is of {shapes} pixels, as labels {needed / 2**30:.3g} GiB, which are not free in "
            "memory: crop the image."
        )
    names = [stem] if len(found) == 1 else [f"{stem}: {one.name or n}" for n, one in enumerate(found, 1)]
    return [_layer(one, name, kind) for one, name, kind in zip(found, names, types, strict=True)]


def _check_count(images: int, stem: str) -> None:
    """Refuse more images than napari shows well, each of which would be a layer.

    Raises
    ------
    FormatError
        If they are too many.
    """
    if images > _MOST_LAYERS:
        raise FormatError(
            f"{stem} is of {images} images, and more than {_MOST_LAYERS} layers are too many for napari: "
            "take it apart with napari-sam convert."
        )


def _label_type(one: Segmentation) -> np.dtype[Any]:
    """A type that napari can paint in."""
    limits = np.iinfo(np.int32)
    fits = all(limits.min <= item.id <= limits.max for item in one.items)
    return np.dtype(np.int32 if fits else np.int64)


def _layer(one: Segmentation, name: str, kind: np.dtype[Any]) -> LayerData:
    if not math.prod(one.shape):
        raise FormatError(f"{name} is of an image of the shape {one.shape}, which has no pixels.")
    labels = one.to_labels(kind)
    hidden = {
        item.id
        for item, index, mask in one.masks()
        if (labels[index][mask.slices][mask.bits] != item.id).any()
    }
    if hidden:
        many = "1 object lies" if len(hidden) == 1 else f"{len(hidden)} objects lie"
        show_warning(f"{many} partly below others in {name}: a pixel shows the one with the highest score.")
    options: dict[str, Any] = {
        "name": name,
        "metadata": {KEY: {"classes": about_classes(one.classes)}},
        **_world_of(one.calibration),
    }
    if one.items:
        options["features"] = _features(one)
    coloured = any(item.class_name for item in one.items)
    if coloured and len(one.items) <= _MOST_COLOURED:
        options["colormap"] = _colormap(one)
    return labels, options, "labels"


def _world_of(pixels: Calibration) -> dict[str, Any]:
    """Scale, translate, units and axis labels of a layer; nothing where a file says nothing of them."""
    options: dict[str, Any] = {}
    if not pixels.is_plain:
        units = [_unit(name) for name in pixels.units]
        if unknown := sorted({name for name, unit in zip(pixels.units, units, strict=True) if unit is None}):
            show_warning(
                f"Units that are not known are taken for pixels: {', '.join(map(repr, unknown))[:200]}."
            )
        options = {
            "scale": pixels.scale,
            "translate": pixels.translate,
            "units": tuple(unit or "pixel" for unit in units),
        }
    if pixels.axes != Calibration.plain(len(pixels.axes)).axes or not pixels.is_plain:
        ndim = len(pixels.axes)
        # What napari itself calls an axis without a name.
        options["axis_labels"] = tuple(
            str(at - ndim) if letter == UNKNOWN else letter for at, letter in enumerate(pixels.axes)
        )
    return options


def _unit(name: str) -> str | None:
    """The unit of a name out of a file, as napari takes it; None if it is not known."""
    import pint

    if not name:
        return "pixel"
    # A single word: pint would compute what is an expression, however long that takes.
    if not re.fullmatch(r"[^\W\d_]{1,40}", name):
        return None
    try:
        return str(pint.get_application_registry().Unit(name))
    except (pint.PintError, AttributeError, ValueError, TypeError):
        return None


def _features(one: Segmentation) -> pd.DataFrame:
    """A row for each object: index, what is known of it, and attributes that are numbers or texts."""
    items = one.items
    table: dict[str, Any] = {"index": [item.id for item in items]}
    if any(item.class_name for item in items):
        table["class"] = [item.class_name for item in items]
    if any(item.score is not None for item in items):
        table["score"] = [math.nan if item.score is None else item.score for item in items]
    if any(item.source for item in items):
        table["source"] = [item.source for item in items]
    rows = [{name: held(value) for name, value in item.attributes.items()} for item in items]
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    taken = {"index", "class", "score", "source", *CLASS_COLUMNS}
    for name in [name for name in names if name.lower() not in taken][:_MOST_COLUMNS]:
        table[name] = [row.get(name) for row in rows]
    return pd.DataFrame(table)


def _colormap(one: Segmentation) -> DirectLabelColormap:
    """Every object in the colour of its class; what is painted later, and has none, is grey."""
    colours = {kind.name: kind.colour for kind in one.classes}
    table: dict[int | None, str] = {None: _NO_CLASS, 0: "transparent"}
    table.update((item.id, colours.get(item.class_name, _NO_CLASS)) for item in one.items)
    return DirectLabelColormap(color_dict=table)


def box_layers(images: Sequence[BoxedImage], stem: str) -> list[LayerData]:
    """A Shapes layer of rectangles in the colours of their classes for each image.

    Parameters
    ----------
    images : sequence of BoxedImage
    stem : str
        What the file is called.

    Raises
    ------
    FormatError
        If they are too many.
    """
    _check_count(len(images), stem)
    if count := sum(len(image.boxes) for image in images):
        show_info(
            f"{stem} has {count} objects that are boxes without pixels: they are in a layer of their own."
        )
    names = (
        [f"{stem}: boxes"]
        if len(images) == 1
        else [f"{stem}: boxes of {i.name or n}" for n, i in enumerate(images, 1)]
    )
    return [_box_layer(image, name) for image, name in zip(images, names, strict=True)]


def _box_layer(image: BoxedImage, name: str) -> LayerData:
    boxes = image.boxes[:_MOST_BOXES]
    if len(boxes) < len(image.boxes):
        show_warning(
            f"The first {_MOST_BOXES} boxes of {name} are shown: napari draws more of them too slowly."
        )
    colours = {one.name: one.colour for one in image.classes}
    # A corner of a pixel is half a pixel from its centre, where napari's data coordinates are whole.
    corners = [
        box_to_corners(np.subtract(box.corners, 0.5), Plane((*box.index, None, None))) for box in boxes
    ]
    scores = [math.nan if box.score is None else box.score for box in boxes]
    options = {
        "name": name,
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_color": [colours.get(box.class_name, _NO_CLASS) for box in boxes],
        "edge_width": max(1.0, min(image.shape[-2:]) / 300),
        "features": pd.DataFrame({"class": [box.class_name for box in boxes], "score": scores}),
        **_world_of(image.calibration),
    }
    return corners, options, "shapes"
