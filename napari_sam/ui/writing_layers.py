"""What files are written from: a Labels layer with its pixels, its place in the world and its features.

Features have a row for each label. A column ``index`` says which; without one, napari counts rows from 0 on.
Known are a column for classes, ``score`` and ``source``; all others are attributes. Colours of classes are in
the metadata of layers that this plugin read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.notifications import show_warning

from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError
from napari_sam.formats import Calibration, Segmentation
from napari_sam.formats.calibration import UNKNOWN
from napari_sam.formats.drafts import SOURCES
from napari_sam.formats.label_tables import read_classes

__all__ = ["CLASS_COLUMNS", "KEY", "calibration_of", "held", "is_turned", "segmentation_of_layer"]

KEY = "napari-sam"
"""Of what the plugin writes into the metadata of layers."""

CLASS_COLUMNS = ("class", "class_name", "classification", "category", "label")
"""What a column of classes may be called, the first of them counts."""

_LONG_NAMES = {"time": "t", "channel": "c"}


def segmentation_of_layer(data: Any, meta: Mapping[str, Any]) -> Segmentation:
    """The objects that a Labels layer shows, with what its features say of them.

    Parameters
    ----------
    data : array_like of int, shape (..., H, W)
    meta : mapping
        As in the layer's data tuple.

    Raises
    ------
    AnnotationError
        If the pixels are no labels.
    """
    found = Segmentation.of_labels(data, calibration_of(meta, len(data.shape)), str(meta.get("name", "")))
    table = _table(meta.get("features"))
    items = [replace(item, **table.get(item.id, {})) for item in found.items]
    return Segmentation(found.shape, items, _classes(meta), found.calibration, found.name)


def calibration_of(meta: Mapping[str, Any], ndim: int) -> Calibration:
    """Where the pixels of a layer are, as far as formats know places."""
    plain = Calibration.plain(ndim)
    scale = tuple(float(step) for step in meta.get("scale", plain.scale))
    if is_turned(meta, ndim):
        show_warning(
            "Formats hold no rotation, shear, affine transform or mirroring: that of the layer is left out."
        )
    if min(scale) <= 0:
        return plain
    translate = tuple(float(at) for at in meta.get("translate", plain.translate))
    units = tuple("" if str(unit) == "pixel" else str(unit) for unit in meta.get("units", plain.units))
    return Calibration(_letters(meta.get("axis_labels", ()), plain.axes), scale, translate, units)


def is_turned(place: Mapping[str, Any], ndim: int) -> bool:
    """Whether a layer is rotated, sheared or mirrored, or has an affine transform.

    Parameters
    ----------
    place : mapping
        Those attributes of the layer that are known, as in its data tuple.
    ndim : int
    """
    rest: dict[str, Any] = {"rotate": np.eye(ndim), "shear": 0, "affine": np.eye(ndim + 1)}
    return min(place.get("scale", (1,))) <= 0 or any(
        name in place and not np.allclose(place[name], usual) for name, usual in rest.items()
    )


def _letters(labels: Sequence[str], usual: str) -> str:
    """The letters of axes that layers name; those of a plain image for an order that files have not."""
    named = [_LONG_NAMES.get(one.lower(), one.lower()) for one in labels]
    letters = "".join(one if one in tuple("tczyx") else UNKNOWN for one in named[:-2]) + usual[-2:]
    known = [one for one in letters if one != UNKNOWN]
    # Last come y and x, or axes without a name.
    strange = any(one in tuple("tczyx") and one != at for one, at in zip(named[-2:], "yx", strict=False))
    return usual if strange or len(letters) != len(usual) or len(set(known)) < len(known) else letters


def _table(features: pd.DataFrame | None) -> dict[int, dict[str, Any]]:
    """What the features of a layer say, by label: arguments of an Item."""
    if features is None or not len(features.columns) or features.empty:
        return {}
    # Of several columns whose names differ in capitals only, the first one counts.
    columns = {str(name).lower(): name for name in reversed(features.columns)}
    numbers = _numbers_of_labels(features, columns)
    kind = next(
        (
            c
            for name in CLASS_COLUMNS
            if (c := columns.get(name)) is not None and _is_class(name, features[c])
        ),
        None,
    )
    own = {columns.get(name) for name in ("index", "score", "source")} | {kind}
    table: dict[int, dict[str, Any]] = {}
    for number, row in zip(numbers, features.to_dict("records"), strict=True):
        if number is None:
            continue
        about: dict[str, Any] = {"class_name": _text(row.get(kind))}
        if _is_number(score := row.get(columns.get("score"))):
            about["score"] = float(score)
        if _text(source := row.get(columns.get("source"))) in SOURCES:
            about["source"] = str(source)
        more = {str(name): held(value) for name, value in row.items() if name not in own}
        about["attributes"] = {name: value for name, value in more.items() if value is not None}
        if not _is_number(about["attributes"].get("stability_score", 0)):
            del about["attributes"]["stability_score"]
        table[number] = about
    return table


def _numbers_of_labels(features: pd.DataFrame, columns: Mapping[str, Any]) -> list[int | None]:
    """Which label each row is of: as napari has it, row by row if there is no index. None for none."""
    for name in ("index", "label"):
        if name in columns and pd.api.types.is_numeric_dtype(features[columns[name]]):
            values = features[columns[name]].tolist()
            return [int(value) if _is_number(value) else None for value in values]
    return list(range(len(features)))


def _is_class(name: str, column: pd.Series) -> bool:
    # A column of numbers that is called label, as scikit-image measures, is the index.
    return name != "label" or not pd.api.types.is_numeric_dtype(column)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def held(value: Any) -> Any:
    """A number or a text that every file can hold; None for all else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return value if isinstance(value, str) and value else None


def _classes(meta: Mapping[str, Any]) -> Sequence[ObjectClass]:
    told = (meta.get("metadata") or {}).get(KEY)
    if not isinstance(told, dict) or "classes" not in told:
        return ()
    try:
        return read_classes(Path(), told["classes"])
    except FormatError:  # anybody can write into metadata
        return ()
