"""What label images say of their axes, objects and classes, where they have room for JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from napari_sam.annotation.records import ObjectClass
from napari_sam.errors import FormatError
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.label_planes import reading
from napari_sam.formats.segmentation import Segmentation

__all__ = [
    "about_classes",
    "are_numbers",
    "as_json",
    "described",
    "read_calibration",
    "read_classes",
]


def read_calibration(path: Path, data: Any, ndim: int) -> Calibration:
    """What :func:`~napari_sam.formats.whole_image.calibration_members` made, checked.

    Raises
    ------
    FormatError
        If it is anything else, or of another number of axes.
    """
    found = data if isinstance(data, dict) else {}
    axes, scale, translate, units = (found.get(key) for key in ("axes", "scale", "translate", "units"))
    named = isinstance(axes, str) and len(axes) == ndim
    if named and are_texts(units) and are_numbers(scale) and are_numbers(translate):
        with reading(path):
            steps, offsets = tuple(map(float, scale)), tuple(map(float, translate))
            return Calibration(str(axes), steps, offsets, tuple(units))
    raise FormatError(f"{path} does not say rightly what its {ndim} axes are: write it again.")


def are_numbers(values: Any) -> TypeGuard[list[float]]:
    """Whether it is a list of numbers."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def are_texts(values: Any) -> TypeGuard[list[str]]:
    """Whether it is a list of texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def described(
    path: Path,
    found: Segmentation,
    table: Mapping[int, Mapping[str, Any]],
    classes: Sequence[ObjectClass],
) -> Segmentation:
    """A label image with what a table says of its objects: class_name, score, source, attributes.

    Raises
    ------
    FormatError
        If a value is of the wrong kind.
    """
    for about in table.values():
        score = about.get("score")
        fine = score is None or (isinstance(score, int | float) and not isinstance(score, bool))
        if not fine or not isinstance(about.get("class_name", ""), str):
            raise FormatError(f"{path} has an object whose class is no text or whose score is no number.")
        if score is not None and not math.isfinite(score):
            raise FormatError(f"{path} has an object with the score {score}, which is no number.")
        if not isinstance(about.get("source", ""), str) or not isinstance(about.get("attributes", {}), dict):
            raise FormatError(f"{path} has an object whose source or attributes cannot be read.")
    with reading(path):
        items = [replace(item, **table.get(item.id, {})) for item in found.items]
        return Segmentation(found.shape, items, classes, found.calibration, found.name)


def about_classes(classes: Sequence[ObjectClass]) -> list[dict[str, Any]]:
    """Classes as JSON."""
    return [{"id": one.id, "name": one.name, "colour": one.colour} for one in classes]


def read_classes(path: Path, data: Any) -> list[ObjectClass]:
    """What :func:`about_classes` made, checked."""
    if not isinstance(data, list) or not all(
        isinstance(one, dict)
        and type(one.get("id")) is int
        and 0 < one["id"] < 2**31
        and isinstance(one.get("name"), str)
        and one["name"].strip()
        and isinstance(one.get("colour"), str)
        and re.fullmatch("#[0-9a-fA-F]{6}", one["colour"])
        for one in data
    ):
        raise FormatError(f"{path} does not say rightly what its classes are: write it again.")
    found = [ObjectClass(one["id"], one["name"], one["colour"]) for one in data]
    if len({one.id for one in found}) < len(found) or len({one.name for one in found}) < len(found):
        raise FormatError(f"{path} has a class twice: give each its own number and name.")
    return found


def as_json(value: Any) -> str:
    """JSON of attributes, which other programs can read: without what is not a number."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FormatError(f"The attributes of an object cannot be written: {error}.") from error
