"""The annotation files of this program, which hold everything but the sizes of pixels.

Of one that was unpacked, ``annotation.json`` is read, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_sam.annotation import schema
from napari_sam.annotation.archive import SUFFIX, load_annotation, save_annotation
from napari_sam.errors import AnnotationError, FormatError
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import has_early
from napari_sam.formats.segmentation import Segmentation

__all__ = ["FORMAT"]


def _write(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    try:
        save_annotation(path, one.to_document().snapshot)
    except AnnotationError as error:
        # It names a path that will not be there: whoever called tells the right one.
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise


def _read(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    snapshot, _, _ = load_annotation(path)
    if shape is not None and shape != snapshot.shape:
        raise FormatError(f"{path} is of an image of the shape {snapshot.shape}, not {shape}.")
    return [Segmentation.of_snapshot(snapshot)]


def _recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIX) or has_early(path, "format", schema.FORMAT)


FORMAT = Format(
    name="annotation",
    title="Annotation (napari-sam)",
    suffixes=(SUFFIX,),
    holds=frozenset(Feature) - {Feature.CALIBRATION, Feature.SEVERAL, Feature.OVERLAP},
    write=_write,
    read=_read,
    recognises=_recognises,
    also_read=(".json",),
    needs_suffix=True,
)
