"""Label images of OME-Zarr as objects: of version 0.1 to 0.5, and of whatever program."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import FormatError
from napari_sam.formats.calibration import UNKNOWN, Calibration
from napari_sam.formats.json_files import read_json
from napari_sam.formats.label_planes import of_planes, reading, same_shape
from napari_sam.formats.label_tables import are_numbers, are_texts, described, read_classes
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.zarr_chunks import check_array, has_group, inside, is_version_3

__all__ = ["KEY", "attributes_of", "calibration_of", "label_groups", "multiscale_of", "read_labels"]

KEY = "napari-sam"
"""Of what OME-Zarr has no place for, in the attributes of a label image."""

_VERSIONS = {None, "0.1", "0.2", "0.3", "0.4", "0.5"}
_TYPES = {"time": "t", "channel": "c"}
_SLAB = 2**28


def attributes_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes of a group: those of OME, and all of them."""
    if is_version_3(folder):
        about = read_json(folder / "zarr.json")
        found = about.get("attributes", {}) if isinstance(about, dict) else {}
        ome = found.get("ome", {}) if isinstance(found, dict) else {}
    else:
        file = folder / ".zattrs"
        found = ome = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict) or not isinstance(ome, dict):
        raise FormatError(f"{folder} has attributes that are not as OME-Zarr has them.")
    return ome, found


def label_groups(path: Path) -> dict[str, Path]:
    """The label images of a Zarr: its own, those of its group ``labels``, or those that it is a list of."""
    ome, _ = attributes_of(path)
    if "image-label" in ome:
        return {path.name: path}
    listed = path
    if "labels" not in ome:
        listed = inside(path, path, "labels")
        ome = attributes_of(listed)[0] if has_group(listed) else {}
    names = ome.get("labels", [])
    if not are_texts(names):
        raise FormatError(f"{path} does not list its labels rightly.")
    return {name: inside(path, listed, name) for name in names}


def read_labels(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    """Every label image of a Zarr, named as it is there."""
    with reading(path):
        groups = label_groups(path)
    if not groups:
        raise FormatError(f"{path} has no labels: choose another Zarr.")
    with reading(path):
        found = [_read(path, folder, name) for name, folder in groups.items()]
    for one in found:
        same_shape(path, one.shape, shape)
    return found


def multiscale_of(path: Path, ome: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first image of a group, and its finest array.

    Raises
    ------
    FormatError
        If there is none, or it is of a version that is not known.
    """
    images = ome.get("multiscales")
    image = images[0] if isinstance(images, list) and images else None
    levels = image.get("datasets") if isinstance(image, dict) else None
    level = levels[0] if isinstance(levels, list) and levels else None
    if not isinstance(image, dict) or not isinstance(level, dict):
        raise FormatError(f"{path} has no image as OME-Zarr has them.")
    version = ome.get("version", image.get("version"))
    if not isinstance(version, str | None) or version not in _VERSIONS:
        raise FormatError(f"{path} is OME-Zarr of version {version}, which is not read: 0.4 and 0.5 are.")
    return image, level


def calibration_of(path: Path, image: dict[str, Any], level: dict[str, Any], ndim: int) -> Calibration:
    """The axes of an image at its finest level."""
    axes = image.get("axes", list("tczyx"[-ndim:]))
    if not isinstance(axes, list) or len(axes) != ndim:
        raise FormatError(f"{path} does not name its {ndim} axes.")
    letters, units = "", []
    for axis in axes:
        about = axis if isinstance(axis, dict) else {"name": axis}
        name, unit = about.get("name"), about.get("unit")
        known = isinstance(name, str) and name.lower() in ("t", "c", "z", "y", "x")
        letters += str(name).lower() if known else _TYPES.get(str(about.get("type")), UNKNOWN)
        units.append(unit if isinstance(unit, str) else "")
    scale, translate = np.ones(ndim), np.zeros(ndim)
    for step in (*_steps(path, level), *_steps(path, image)):
        if step.get("type") == "identity":
            continue
        values = step.get(str(step.get("type")))
        if step.get("type") not in ("scale", "translation") or not are_numbers(values) or len(values) != ndim:
            raise FormatError(f"{path} is placed by {str(step)[:80]}, which is not read.")
        if step["type"] == "scale":
            scale, translate = scale * values, translate * values
        else:
            translate = translate + values
    return Calibration(letters, tuple(scale.tolist()), tuple(translate.tolist()), tuple(units))


def _steps(path: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    steps = about.get("coordinateTransformations", [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise FormatError(f"{path} has coordinate transformations that are not as OME-Zarr has them.")
    return steps


def _read(path: Path, folder: Path, name: str) -> Segmentation:
    import zarr
    from zarr.storage import LocalStore

    ome, attributes = attributes_of(folder)
    image, level = multiscale_of(path, ome)
    place = inside(path, folder, level.get("path"))
    nbytes = check_array(path, place)
    version: Any = 3 if is_version_3(place) else 2
    array = zarr.open_array(store=LocalStore(place, read_only=True), mode="r", zarr_format=version)
    shape = array.shape
    calibration = calibration_of(path, image, level, len(shape))
    ours = attributes.get(KEY, {})
    if not isinstance(ours, dict) or not isinstance(ours.get("axes", ""), str):
        raise FormatError(f"{path} has attributes of napari-sam that cannot be read.")
    if len(axes := ours.get("axes", "")) == len(shape):
        calibration = Calibration(axes, calibration.scale, calibration.translate, calibration.units)
    plane = _Slabs(array).plane
    one = of_planes(path, shape, np.dtype(array.dtype), plane, calibration, nbytes=nbytes, name=name)
    return described(path, one, _table(path, ome), read_classes(path, ours.get("classes", [])))


class _Slabs:
    """An array plane by plane, where each chunk is unpacked once even if it is several planes deep."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._key: tuple[int, ...] | None = None
        self._slab: NDArray[Any] = np.empty(0)
        plane = math.prod(array.shape[-2:]) * array.dtype.itemsize
        depth = int(array.chunks[-3]) if array.ndim > 2 else 1
        self._depth = depth if depth * plane <= _SLAB else 1

    def plane(self, number: int) -> NDArray[Any]:
        array = self._array
        if array.ndim == 2:
            return np.asarray(array[...])
        *outer, at = (int(i) for i in np.unravel_index(number, array.shape[:-2]))
        start = at // self._depth * self._depth
        if self._key != (key := (*outer, start)):
            self._slab = np.asarray(array[(*outer, slice(start, start + self._depth))])
            self._key = key
        plane: NDArray[Any] = self._slab[at - start]
        return plane


def _table(path: Path, ome: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What the properties say of each label; what others say is kept as attributes."""
    label = ome.get("image-label", {})
    rows = label.get("properties", []) if isinstance(label, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError(f"{path} has properties of labels that are not as OME-Zarr has them.")
    table: dict[int, dict[str, Any]] = {}
    for row in rows:
        rest = dict(row)
        value = rest.pop("label-value", None)
        if type(value) is not int:
            raise FormatError(f"{path} has properties of the label {str(value)[:80]!r}, which is no number.")
        about: dict[str, Any] = {}
        if isinstance(rest.get("class"), str):
            about["class_name"] = rest.pop("class")
        if isinstance(rest.get("source"), str):
            about["source"] = rest.pop("source")
        if isinstance(score := rest.get("score"), int | float) and not isinstance(score, bool):
            about["score"] = rest.pop("score")
        more = rest.pop("attributes") if isinstance(rest.get("attributes"), dict) else {}
        table[value] = about | {"attributes": rest | more}
    return table
