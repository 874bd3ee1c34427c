"""All formats by their names, and the two calls behind the command line, napari and Python: read, write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam.annotation.annotation import Annotation
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats import (
    annotation_file,
    coco,
    ctc,
    geojson,
    imagej_roi,
    label_arrays,
    label_tiff,
    ome_zarr,
    sa1b,
    tables,
    yolo,
)
from napari_sam.formats.format import Feature, Format, losses
from napari_sam.formats.places import check_place, put
from napari_sam.formats.segmentation import Segmentation

__all__ = ["FORMATS", "check_place", "find_format", "read", "write", "written_format"]

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        annotation_file.FORMAT,
        coco.FORMAT,
        sa1b.FORMAT,
        coco.POLYGONS,
        yolo.FORMAT,
        yolo.FOLDER,
        geojson.FORMAT,
        imagej_roi.FORMAT,
        label_tiff.TIFF,
        label_tiff.OME_TIFF,
        label_arrays.PNG,
        label_arrays.NPY,
        label_arrays.NPZ,
        ome_zarr.OME_ZARR,
        ome_zarr.OME_ZARR_04,
        ctc.FORMAT,
        tables.CSV,
        tables.PARQUET,
    )
}
"""By name. Where several have the same suffix, the first that recognises a file reads it."""


def find_format(path: str | os.PathLike[str], name: str = "") -> Format:
    """The format of a file: by name, or by the suffix of the path and, if there is a file, what is in it.

    A file that none recognises is of the one that its suffix leaves, if it does: reading tells what is wrong.

    Raises
    ------
    FormatError
        If there is none.
    """
    if name:
        if name not in FORMATS:
            raise FormatError(f"There is no format {name!r}: use one of {', '.join(FORMATS)}.")
        return FORMATS[name]
    target = Path(path)
    if not target.exists():
        return _first(_with_suffix(target), target)
    # What has names that are only read is known by more than a word that anything may hold.
    read_only = (one for one in FORMATS.values() if target.name.lower().endswith(one.also_read))
    fitting = [*read_only, *_with_suffix(target)]
    known = [one for one in fitting if one.recognises is None or one.recognises(target)]
    return _first(known or _only(fitting, target), target)


def read(
    path: str | os.PathLike[str],
    kind: str = "",
    *,
    shape: Sequence[int] | None = None,
) -> list[Segmentation]:
    """Read the objects of a file.

    Parameters
    ----------
    path : path
    kind : str, optional
        Name of its format; found by the suffix and the content, if not given.
    shape : sequence of int, optional
        Of the image, in pixels: formats that do not hold it guess otherwise, or ask for it.

    Returns
    -------
    list of Segmentation
        One for each image of the file.

    Raises
    ------
    FormatError
        If the file is missing, of another format, damaged, or would take too much memory.
    """
    source = Path(path)
    try:
        if not source.exists():
            raise FormatError(f"There is no file {source}: check the path.")
        chosen = find_format(source, kind)
        if chosen.read is None:
            raise FormatError(f"{chosen.title} can be written only: read another format.")
        return chosen.read(source, None if shape is None else tuple(int(side) for side in shape))
    except OSError as error:
        raise FormatError(f"{source} cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise FormatError(f"{source} needs more memory than there is.") from None


def write(
    path: str | os.PathLike[str],
    found: Any,
    kind: str | Format = "",
    *,
    overwrite: bool = False,
) -> Path:
    """Write objects to a file, which appears complete or not at all.

    Parameters
    ----------
    path : path
    found : Segmentation, sequence of them, Annotation, Snapshot, or array_like of int
        Several are those of several images. An array is a label image.
    kind : str or Format, optional
        Its format, or the name of that; by the suffix, if not given.
    overwrite : bool, default False
        Replace what is there; a folder only if there is nothing in it but what the format writes.

    Returns
    -------
    Path
        Of what was written. Labels in OME-Zarr are added to an image that is there, under the name of the
        segmentation: then it is that of the labels.

    Warns
    -----
    FormatWarning
        Of what the format cannot hold, before anything is written.

    Raises
    ------
    FormatError
        If the path is taken and not `overwrite`, or by a folder with other files; if it cannot be written, or
        the format cannot hold the objects.
    """
    target = Path(path)
    chosen = written_format(target, kind)
    check_place(target, chosen, overwrite=overwrite)
    segmentations = _segmentations(found)
    if len(segmentations) != 1 and Feature.SEVERAL not in chosen.holds:
        raise FormatError(f"{chosen.title} holds one image, not {len(segmentations)}: write them one by one.")
    for sentence in losses(segmentations, chosen):
        warnings.warn(sentence, FormatWarning, stacklevel=2)
    return put(target, chosen, segmentations, overwrite=overwrite)


def written_format(target: Path, kind: str | Format = "") -> Format:
    """The format of a file that is to be written: what is there does not matter.

    Raises
    ------
    FormatError
        If there is none.
    """
    if isinstance(kind, Format):
        return kind
    return find_format(target, kind) if kind else _first(_with_suffix(target), target)


def _with_suffix(target: Path) -> list[Format]:
    """The formats whose files may have such a name, longest suffix first: .ome.tif before .tif."""
    fitting = [one for one in FORMATS.values() if one.fits(target)]
    return sorted(fitting, key=lambda one: -len(one.suffix_of(target)))


def _only(fitting: Sequence[Format], target: Path) -> Sequence[Format]:
    """Those with the longest suffix, if one reader is of them all, so that they would say the same."""
    longest = max((len(one.suffix_of(target)) for one in fitting), default=0)
    left = [one for one in fitting if len(one.suffix_of(target)) == longest]
    return left if len({one.read for one in left}) == 1 else ()


def _first(fitting: Sequence[Format], target: Path) -> Format:
    if not fitting:
        raise FormatError(
            f"{target.name} is of no format that is known here: choose one of {', '.join(FORMATS)} by name."
        )
    return fitting[0]


def _segmentations(found: Any) -> list[Segmentation]:
    """Whatever can be written, as segmentations."""
    if isinstance(found, Segmentation):
        return [found]
    if isinstance(found, Annotation):
        return [Segmentation.of_snapshot(found.document.snapshot)]
    if isinstance(found, Snapshot):
        return [Segmentation.of_snapshot(found)]
    if isinstance(found, list | tuple) and any(isinstance(one, Segmentation) for one in found):
        return list(found)
    return [Segmentation.of_labels(found)]
