"""Formats of other programs as napari's readers and writers.

A Labels layer is written from the annotation that it shows, with classes, scores and sources; any other from
its pixels and features. Which format it is, says the name that the user gave, if it is the name of one, else
the choice in the dialog.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info

from napari_sam.errors import FormatError
from napari_sam.formats import FORMATS, Format, Segmentation, read, write
from napari_sam.formats.coco_boxes import BoxedImage
from napari_sam.formats.coco_reading import read_coco_and_boxes
from napari_sam.ui.annotation_files import document_shown
from napari_sam.ui.image_beside import shape_beside
from napari_sam.ui.reading_layers import box_layers, label_layers
from napari_sam.ui.telling import opening, saving
from napari_sam.ui.writing_layers import calibration_of, segmentation_of_layer

if TYPE_CHECKING:
    from napari.types import LayerData

__all__ = [
    "get_reader",
    "write_coco",
    "write_coco_polygons",
    "write_csv",
    "write_geojson",
    "write_imagej_roi",
    "write_npz",
    "write_ome_tiff",
    "write_ome_zarr",
    "write_ome_zarr_04",
    "write_parquet",
    "write_png",
    "write_sa1b",
    "write_yolo",
    "write_yolo_folder",
]

_OPENED = ("coco", "sa1b", "geojson", "imagej-roi", "yolo", "ome-zarr", "ome-zarr-0.4", "ctc", "yolo-folder")
"""Formats that are opened; files of label images are napari's own, which opens them as images."""


def _writer(name: str) -> Callable[[str, Any, dict[str, Any]], list[str]]:
    """A function as napari calls it to write one Labels layer."""

    def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
        with saving():
            return [os.fspath(_save(Path(path), data, meta, FORMATS[name]))]

    write_layer.__doc__ = f"""Napari's writer of a Labels layer in the format {name}.

    Raises
    ------
    OSError
        If it cannot be written, in one sentence; what was there before is whole.
    """
    return write_layer


write_coco = _writer("coco")
write_coco_polygons = _writer("coco-polygons")
write_sa1b = _writer("sa1b")
write_csv = _writer("csv")
write_parquet = _writer("parquet")
write_geojson = _writer("geojson")
write_imagej_roi = _writer("imagej-roi")
write_ome_tiff = _writer("ome-tiff")
write_png = _writer("png")
write_npz = _writer("npz")
write_ome_zarr = _writer("ome-zarr")
write_ome_zarr_04 = _writer("ome-zarr-0.4")
write_yolo = _writer("yolo")
write_yolo_folder = _writer("yolo-folder")


def _save(asked: Path, data: Any, meta: Mapping[str, Any], chosen: Format) -> Path:
    """Write a layer; gives where it is."""
    fitting = [one for one in (chosen, *FORMATS.values()) if one.fits(asked)]
    # Of several formats with that suffix, the one that was chosen comes first; .ome.tif goes before .tif.
    kind = max(fitting, key=lambda one: len(one.suffix_of(asked)), default=chosen)
    target = asked if fitting else asked.with_name(asked.name + kind.suffixes[0])
    found = _shown(data, meta)
    if target.is_dir():
        return _save_into(target, found, kind)
    # napari has asked whether a file is to be replaced, but not about a name that it has not seen.
    return write(target, found, kind.name, overwrite=target == asked)


def _save_into(folder: Path, found: Segmentation, kind: Format) -> Path:
    """Add labels to an image in OME-Zarr; nothing that is in another folder is replaced."""
    if kind.name in ("ome-zarr", "ome-zarr-0.4"):
        from napari_sam.formats.ome_zarr import write_into
        from napari_sam.formats.ome_zarr_reading import attributes_of

        if "multiscales" in attributes_of(folder)[0]:
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", found.name).strip("-") or "objects"
            return write_into(folder, found, name)
    raise FormatError(f"{folder} is a folder with something in it: choose another name, or delete it first.")


def _shown(data: Any, meta: Mapping[str, Any]) -> Segmentation:
    """The objects that a layer shows."""
    if meta.get("multiscale"):
        data = data[0]
        show_info("Of a multiscale layer, the finest level is saved.")
    document = document_shown(data, meta)
    if document is None:
        return segmentation_of_layer(data, meta)
    calibration = calibration_of(meta, len(document.shape))
    return Segmentation.of_snapshot(document.snapshot, calibration, str(meta.get("name", "")))


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Napari's reader of files with objects; None for files of the same names that hold anything else."""
    paths = [path] if isinstance(path, str) else list(path)
    return _read if paths and all(_kind(Path(one)) for one in paths) else None


def _kind(path: Path) -> Format | None:
    """The format of a file, by its name and what is in it."""
    is_folder = path.is_dir()
    for one in (FORMATS[name] for name in _OPENED):
        # Folders are known by what is in them, but for one of which every part may be something else.
        named = one.fits(path) or (is_folder and one.name != "yolo-folder")
        if one.is_folder == is_folder and named and one.recognises is not None and one.recognises(path):
            return one if one.name != "yolo" or shape_beside(path) is not None else None
    return None


def _read(path: str | list[str]) -> list[LayerData]:
    """The objects of files as layers."""
    return [layer for one in ([path] if isinstance(path, str) else path) for layer in _layers(one)]


def _layers(path: str) -> list[LayerData]:
    """The layers of one file."""
    source = Path(path)
    with opening(path):
        kind = _kind(source)
        if kind is None:
            raise FormatError(f"{path} is not what it was when it was chosen: open it again.")
        # The folders of the challenge are called by their ends.
        ending = "" if kind.name == "ctc" else kind.suffix_of(source)
        stem = source.name[: len(source.name) - len(ending)]
        boxes: list[BoxedImage] = []
        if kind.name == "coco":
            found, boxes = read_coco_and_boxes(source)
        else:
            found = read(source, kind.name, shape=shape_beside(source) if kind.name == "yolo" else None)
        if len(found) > 1 or boxes:
            # Images of a data set on which nothing is; if nothing is on any, that is shown.
            found = [one for one in found if one.items] or ([] if boxes else found)
        return label_layers(found, stem) + box_layers(boxes, stem)
