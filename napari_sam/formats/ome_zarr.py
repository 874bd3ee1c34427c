"""Label images as OME-Zarr (NGFF 0.5 on Zarr 3, 0.4 on Zarr 2): a new store, or beside an image there is.

A label image is a group ``labels/NAME`` with the labels in halves of halves: each coarser pixel is the one
nearest to its middle. Axes, scale, offset and units are in its transformations, classes, scores and sources
in the properties of ``image-label``, with the colours of the classes, and grey for none.

Held is all but what is below another object, for images of at most five axes. Axes of unknown meaning, and
those in an order that OME-Zarr has not, go under other names; what they were is kept, as the classes are, in
attributes of our own. Coarser levels are not read. Files behind links, and arrays packed in ways that may run
programs, are not read either.

Needs the package ome-zarr, the extra ``zarr``.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.atomic import replacing
from napari_sam.errors import FormatError
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.format import Adding, Feature, Format
from napari_sam.formats.json_files import read_json
from napari_sam.formats.label_planes import label_planes, reading
from napari_sam.formats.label_tables import about_classes, as_json
from napari_sam.formats.ome_zarr_places import NAME, is_all_in, is_image, label_name
from napari_sam.formats.ome_zarr_reading import (
    KEY,
    attributes_of,
    calibration_of,
    label_groups,
    multiscale_of,
    read_labels,
)
from napari_sam.formats.segmentation import Segmentation
from napari_sam.formats.tiff_metadata import standard_axes
from napari_sam.formats.zarr_chunks import has_group, is_version_3

if TYPE_CHECKING:
    import zarr

__all__ = ["OME_ZARR", "OME_ZARR_04", "write_into"]

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_CHUNK, _COARSEST = 1024, 256
_GREY = "#808080"


def write_into(
    image: str | Path, found: Segmentation, name: str = NAME, version: str = "", *, overwrite: bool = False
) -> Path:
    """Add a label image to an image in OME-Zarr.

    The image is not touched. The label image is written aside and appears when it is complete; then it is
    added to the list of labels. Programs that read consolidated metadata of the image see it when those are
    made anew.

    Parameters
    ----------
    image : path
        The group of the image, which has ``multiscales``.
    found : Segmentation
        Of that image. If it is of plain pixels, it gets the sizes and offsets of the image's axes (without
        channels, if it has none).
    name : str
        Of the group in ``labels``: letters, digits, ``-``, ``_`` and ``.``.
    version : str, optional
        ``"0.4"`` or ``"0.5"``; it is that of the image.
    overwrite : bool, default False
        Replace labels of this name.

    Returns
    -------
    Path
        Of the new group.

    Raises
    ------
    FormatError
        If there is no image, it is of another version, the name is taken or none, or it cannot be written.
    """
    root = Path(image)
    if not has_group(root):
        raise FormatError(f"{root} is no Zarr: choose the folder of an image.")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise FormatError(f"{name!r} cannot be the name of labels: use letters, digits, -, _ and dots.")
    its = "0.5" if is_version_3(root) else "0.4"
    if version not in ("", its):
        raise FormatError(f"{root} is OME-Zarr {its}, into which labels of {version} do not fit.")
    found = _placed(root, found)
    labels = root / "labels"
    target = labels / name
    if labels.is_symlink() or (labels.exists() and not has_group(labels)) or target.is_symlink():
        raise FormatError(f"{labels} is a link or no group of Zarr: nothing was written.")
    if target.exists() and not overwrite:
        raise FormatError(f"{target} exists: choose another name, or say that it is to be replaced.")
    try:
        if not labels.exists():
            with replacing(labels) as new:
                _write_list(new, its, name)
                _write_label(new / name, its, name, found, beside=True)
        elif is_version_3(labels) != is_version_3(root):
            raise FormatError(f"{labels} is of another version of Zarr than its image: nothing was written.")
        else:
            file, about, names = _list_of(labels)
            with replacing(target) as new:
                _write_label(new, its, name, found, beside=True)
            if name not in names:
                names.append(name)
                with replacing(file) as new:
                    new.write_text(json.dumps(about, indent=2), encoding="utf-8")
    except OSError as error:
        raise FormatError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def _placed(root: Path, found: Segmentation) -> Segmentation:
    """Plain labels where the image is."""
    with reading(root):
        image, level = multiscale_of(root, attributes_of(root)[0])
        if not found.calibration.is_plain:
            return found
        axes = image.get("axes", "tczyx")
        pixels = calibration_of(root, image, level, len(axes))
    kept = [at for at, letter in enumerate(pixels.axes) if letter != "c"]
    for chosen in (range(len(pixels.axes)), kept):
        if len(chosen) == len(found.shape):
            placed = Calibration(
                "".join(pixels.axes[at] for at in chosen),
                tuple(pixels.scale[at] for at in chosen),
                tuple(pixels.translate[at] for at in chosen),
                tuple(pixels.units[at] for at in chosen),
            )
            return Segmentation(found.shape, found.items, found.classes, placed, found.name)
    return found


def _list_of(labels: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The file with the list of labels, its content, and the list in it."""
    if is_version_3(labels):
        file = labels / "zarr.json"
        about = read_json(file)
        ome = about.setdefault("attributes", {}).setdefault("ome", {"version": "0.5"})
    else:
        file = labels / ".zattrs"
        about = ome = read_json(file) if file.exists() else {}
    names = ome.setdefault("labels", []) if isinstance(ome, dict) else None
    if not isinstance(names, list):
        raise FormatError(f"{file} does not list labels rightly: nothing was written.")
    return file, about, names


def _write_list(folder: Path, version: str, name: str) -> None:
    """A group that lists one label image."""
    group = _libraries().open_group(str(folder), mode="w", zarr_format=_zarr_format(version))
    if version == "0.4":
        group.attrs["labels"] = [name]
    else:
        group.attrs["ome"] = {"version": version, "labels": [name]}


def _write_label(folder: Path, version: str, name: str, one: Segmentation, beside: bool) -> None:
    """A label image with all its levels."""
    zarr = _libraries()
    from ome_zarr import writer
    from ome_zarr.format import format_from_version

    if 0 in one.shape:
        raise FormatError(f"OME-Zarr holds no image without pixels, and this one has the shape {one.shape}.")
    axes = standard_axes(one.calibration.axes, "OME-Zarr")
    if list(axes) != sorted(axes, key="tczyx".index):
        axes = {3: "zyx", 4: "tzyx", 5: "tczyx"}[len(axes)]
    planes = label_planes(one, one.label_type)  # refuses what is too large before anything is made for it
    group = zarr.open_group(str(folder), mode="w", zarr_format=_zarr_format(version))
    arrays = _levels(group, one, axes, version)
    height, width = one.shape[-2:]
    for index, plane in zip(np.ndindex(*one.shape[:-2]), planes, strict=True):
        if index in one.planes:
            for number, array in enumerate(arrays):
                rows, columns = _nearest(height, number), _nearest(width, number)
                array[index] = plane[np.ix_(rows, columns)] if number else plane
    format_ = format_from_version(version)
    units = one.calibration.units
    named = [
        {"name": letter, "type": _TYPES[letter]} | ({"unit": unit} if unit else {})
        for letter, unit in zip(axes, units, strict=True)
    ]
    datasets = [
        {"path": str(number), "coordinateTransformations": _transformations(one.calibration, number)}
        for number in range(len(arrays))
    ]
    writer.write_multiscales_metadata(group, datasets, fmt=format_, axes=named, name=name)
    label = {"version": version} | _about_objects(one) | ({"source": {"image": "../../"}} if beside else {})
    writer.add_metadata(group, {"image-label": label}, fmt=format_)
    group.attrs[KEY] = {"axes": one.calibration.axes, "classes": about_classes(one.classes)}


def _levels(group: zarr.Group, one: Segmentation, axes: str, version: str) -> list[zarr.Array[Any]]:
    """Empty arrays, each half as large as the one before, down to 256 pixels."""
    arrays: list[zarr.Array[Any]] = []
    sides = one.shape[-2:]
    more: dict[str, Any] = {"dimension_names": list(axes)} if version != "0.4" else {}
    while True:
        array = group.create_array(
            str(len(arrays)),
            shape=(*one.shape[:-2], *sides),
            chunks=(1,) * (len(axes) - 2) + tuple(min(side, _CHUNK) for side in sides),
            dtype=one.label_type,
            fill_value=0,
            chunk_key_encoding={"name": "v2" if version == "0.4" else "default", "separator": "/"},
            **more,
        )
        arrays.append(array)
        if max(sides) <= _COARSEST:
            return arrays
        sides = tuple(-(-side // 2) for side in sides)


def _nearest(side: int, level: int) -> NDArray[np.intp]:
    """The pixels nearest to the middles of blocks of 2 ** level pixels."""
    step = 2**level
    middles = np.arange(step // 2, side + step // 2, step, dtype=np.intp)
    return np.minimum(middles, side - 1, dtype=np.intp)


def _transformations(pixels: Calibration, level: int) -> list[dict[str, Any]]:
    """Where the pixels of a level are: the middle of a block is between its pixels."""
    steps = [1] * (len(pixels.axes) - 2) + [2**level] * 2
    scale = [size * step for size, step in zip(pixels.scale, steps, strict=True)]
    middle = [
        at + size * (step - 1) / 2
        for at, size, step in zip(pixels.translate, pixels.scale, steps, strict=True)
    ]
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": middle}]


def _about_objects(one: Segmentation) -> dict[str, Any]:
    """Properties of every object, and colours of those that have a class."""
    colours = {kind.name: kind.colour for kind in one.classes}
    properties, coloured = [], []
    for item in one.items:
        about: dict[str, Any] = {"label-value": item.id}
        if item.class_name:
            about["class"] = item.class_name
        rgb = bytes.fromhex(colours.get(item.class_name, _GREY).lstrip("#"))
        coloured.append({"label-value": item.id, "rgba": [*rgb, 255]})
        if item.score is not None:
            about["score"] = item.score
        if item.source:
            about["source"] = item.source
        if item.attributes:
            about["attributes"] = dict(item.attributes)
        properties.append(about)
    as_json(properties)  # refuses what is none
    found: dict[str, Any] = {"properties": properties} if properties else {}
    # Colours are for all that have properties, or for none.
    return found | ({"colors": coloured} if any(item.class_name for item in one.items) else {})


def _zarr_format(version: str) -> Any:
    return 2 if version == "0.4" else 3


def _libraries() -> Any:
    """The package zarr, if ome-zarr is there, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ome-zarr uses what it says is out of date
            import ome_zarr.writer  # noqa: F401
            import zarr
    except ImportError:
        raise FormatError(
            "OME-Zarr needs a package that is missing: install it with: pip install 'napari-sam[zarr]'"
        ) from None
    return zarr


def _write(path: Path, found: Sequence[Segmentation], version: str) -> None:
    (one,) = found
    zarr = _libraries()
    zarr.open_group(str(path), mode="w", zarr_format=_zarr_format(version))
    _write_list(path / "labels", version, NAME)
    _write_label(path / "labels" / NAME, version, NAME, one, beside=False)


def _add(path: Path, found: Sequence[Segmentation], overwrite: bool) -> Path:
    (one,) = found
    return write_into(path, one, label_name(one.name), overwrite=overwrite)


def _write_04(path: Path, found: Sequence[Segmentation]) -> None:
    _write(path, found, "0.4")


def _write_05(path: Path, found: Sequence[Segmentation]) -> None:
    _write(path, found, "0.5")


def _read(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    _libraries()
    return read_labels(path, shape)


def _has_labels(path: Path) -> bool:
    try:
        return has_group(path) and bool(label_groups(path))
    except (FormatError, OSError):
        return False


def _recognises_04(path: Path) -> bool:
    return not is_version_3(path) and _has_labels(path)


def _recognises_05(path: Path) -> bool:
    return is_version_3(path) and _has_labels(path)


_HOLDS = frozenset(Feature) - {Feature.OVERLAP, Feature.SEVERAL}
_BESIDE = Adding(is_image, _add)

OME_ZARR = Format(
    name="ome-zarr",
    title="Labels (OME-Zarr 0.5)",
    suffixes=(".ome.zarr", ".zarr"),
    holds=_HOLDS,
    write=_write_05,
    read=_read,
    recognises=_recognises_05,
    is_folder=True,
    is_all_in=is_all_in,
    adding=_BESIDE,
)

OME_ZARR_04 = Format(
    name="ome-zarr-0.4",
    title="Labels (OME-Zarr 0.4)",
    suffixes=(".ome.zarr", ".zarr"),
    holds=_HOLDS,
    write=_write_04,
    read=_read,
    recognises=_recognises_04,
    is_folder=True,
    is_all_in=is_all_in,
    adding=_BESIDE,
)
