"""An annotation in one file, of use without this program: JSON, a label image, arrays, words, zipped."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.candidate_table import arrays_of, read_candidates, write_array
from napari_sam.annotation.fields import Field
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.schema import Info, from_json, to_json
from napari_sam.annotation.state import Snapshot
from napari_sam.annotation.territory import canonical_planes
from napari_sam.atomic import open_atomic
from napari_sam.errors import AnnotationError, reason_of
from napari_sam.inference.mask import Mask

__all__ = ["SUFFIX", "load_annotation", "save_annotation"]

SUFFIX = ".napari-sam.zip"
_JSON, _LABELS, _README = "annotation.json", "labels.tif", "README.txt"
# Text of numbers shrinks ten- to fiftyfold, and takes about eight times its size once it is parsed.
_RATIO, _HARMLESS, _PARSED = 400, 2**26, 8

_WORDS = """\
An annotation made with napari-sam: objects in an image, and how they were segmented.

annotation.json  everything: objects, classes, prompts, scores, which model answered, masks as run lengths of
                 COCO. The format is described in docs/annotation-file.md of napari-sam.
labels.tif       the same objects as an image of the shape {shape}: each pixel holds the id of its object,
                 0 is background.
candidates       if automatic runs are kept with it: what they found on each plane, as arrays of NumPy.

Open the whole file in napari with the plugin napari-sam, or from Python:

    from napari_sam.annotation.archive import load_annotation
    snapshot, image, info = load_annotation("FILE.napari-sam.zip")
"""


def save_annotation(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    identity: ImageIdentity | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write an annotation into one file.

    The file appears complete or not at all; whatever happens meanwhile, one that is replaced stays whole.
    This can be done in any thread.

    Parameters
    ----------
    path : path
        Its name ends in ``.napari-sam.zip``.
    snapshot : Snapshot
        See :attr:`~napari_sam.annotation.timeline.Timeline.snapshot`.
    identity : ImageIdentity, optional
        Of the image.
    overwrite : bool, default False
        Replace a file that is there.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    AnnotationError
        If the file exists and not `overwrite`, or cannot be written.
    """
    target = Path(path)
    if not target.name.lower().endswith(SUFFIX):
        raise AnnotationError(f"The name of an annotation ends in {SUFFIX}: {target.name} does not.")
    if not target.parent.is_dir():
        raise AnnotationError(f"The folder {target.parent} does not exist: make it first.")
    if target.is_dir():
        raise AnnotationError(f"{target} is a folder: choose another name.")
    if target.exists() and not overwrite:
        raise AnnotationError(f"{target} exists: choose another name, or replace it by overwrite=True.")
    data = to_json(snapshot, identity)
    try:
        with open_atomic(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(_JSON, "w", force_zip64=True) as entry:
                for line in _lines(data):
                    entry.write(line.encode())
            for item, found in zip(data.get("candidates", ()), snapshot.candidates.values(), strict=True):
                for key, array in zip(("table", "bits"), arrays_of(found), strict=True):
                    with archive.open(item[key], "w", force_zip64=True) as entry:
                        write_array(entry, array)
            # TIFF is written back and forth, a zip file straight on.
            with tempfile.TemporaryFile(dir=target.parent) as labels:
                _write_labels(labels, snapshot)
                _store(archive, labels)
            archive.writestr(_README, _WORDS.format(shape=" x ".join(map(str, snapshot.shape))))
    except OSError as error:
        reason = error.strerror or str(error)
        raise AnnotationError(
            f"{target} cannot be written ({reason}): nothing there was changed; choose another place "
            "or make room."
        ) from error
    return target


def _lines(data: dict[str, Any]) -> Iterator[str]:
    """JSON with a line for each value, object and mask."""
    yield "{"
    for number, (key, value) in enumerate(data.items()):
        yield f"{',' if number else ''}\n{json.dumps(key)}: "
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for place, item in enumerate(value):
                yield f"{',' if place else '['}\n{json.dumps(item, allow_nan=False)}"
            yield "\n]"
        else:
            yield json.dumps(value, allow_nan=False)
    yield "\n}\n"


def _write_labels(file: IO[bytes], snapshot: Snapshot) -> None:
    """The ids in the smallest type that holds them, one plane in memory at a time."""
    import tifffile

    on: defaultdict[Plane, list[tuple[int, Mask]]] = defaultdict(list)
    for item in snapshot.objects:
        for plane, mask in item.masks.items():
            on[plane].append((item.id, mask))
    ids = [item.id for item in snapshot.objects]
    dtype = np.result_type(np.min_scalar_type(min([0, *ids])), np.min_scalar_type(max([0, *ids])))
    if dtype.kind not in "iu":  # one id below 0 and one beyond 64 bits' half
        dtype = np.dtype(np.int64)

    def planes() -> Iterator[NDArray[Any]]:
        for plane in canonical_planes(snapshot.shape):
            labels = np.zeros(snapshot.shape[-2:], dtype=dtype)
            for number, mask in on.get(plane, ()):
                labels[mask.slices][mask.bits] = number
            yield labels

    nbytes = dtype.itemsize * np.prod(snapshot.shape, dtype=np.float64)
    tifffile.imwrite(
        # A temporary file has a number for a name, which tifffile takes for a path.
        tifffile.FileHandle(file, name=_LABELS, size=0),
        # Planes one by one, but for images one pixel wide, whose last axis tifffile takes for colour.
        planes() if snapshot.shape[-1] > 1 else np.stack(list(planes())).reshape(snapshot.shape),
        shape=snapshot.shape,
        dtype=dtype,
        bigtiff=bool(nbytes > 2**32 - 2**25),
        compression="zlib",
        compressionargs={"level": 1},
        photometric="minisblack",
    )


def _store(archive: zipfile.ZipFile, file: IO[bytes]) -> None:
    """Add a file that is compressed already."""
    import shutil

    file.seek(0)
    info = zipfile.ZipInfo(_LABELS)
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=True) as entry:
        shutil.copyfileobj(file, entry, 2**20)


def load_annotation(path: str | os.PathLike[str]) -> tuple[Snapshot, ImageIdentity | None, Info]:
    """Read a file that :func:`save_annotation` wrote, or the ``annotation.json`` of one by itself.

    Nothing in it is run, and nothing is believed before it is checked.

    Parameters
    ----------
    path : path
        Without its zip file, JSON lacks what automatic runs found. Its name ends in ``.json``.

    Returns
    -------
    snapshot : Snapshot
        Make a document of it with ``Document.of``.
    identity : ImageIdentity or None
        Of the image that it was made on.
    info : Info
        How it was written.

    Raises
    ------
    AnnotationError
        If the file is missing, damaged, no annotation, or written by a newer version of napari-sam.
    """
    source = Path(path)
    if not source.is_file():
        raise AnnotationError(f"There is no annotation {source}: check the path.")
    try:
        if source.suffix.lower() == ".json":
            size = source.stat().st_size
            _check_size(source, size, size)
            return from_json(json.loads(source.read_bytes(), parse_constant=_refuse), name=str(source))
        with zipfile.ZipFile(source) as archive:
            if _JSON not in archive.namelist():
                raise AnnotationError(f"{source} is no annotation of napari-sam: choose another file.")
            data = json.loads(_read(archive, source), parse_constant=_refuse)
            snapshot, identity, info = from_json(data, name=str(source))
            items = Field(data, document=str(source)).get("candidates")
            if items is not None:
                found = read_candidates(items, snapshot.shape, _Arrays(archive, source))
                snapshot = replace(snapshot, candidates=found)
            return snapshot, identity, info
    except AnnotationError:
        raise
    # Decoders raise anything on damaged files: BadZipFile, zlib.error, RecursionError, ...
    except Exception as error:
        raise AnnotationError(
            f"{source} cannot be read as an annotation ({reason_of(error)}): use an earlier copy of it."
        ) from error


def _read(archive: zipfile.ZipFile, source: Path) -> bytes:
    info = archive.getinfo(_JSON)
    _check_size(source, info.file_size, info.compress_size)
    with archive.open(info) as file:
        return file.read(info.file_size)


def _check_size(source: Path, size: int, compressed: int) -> None:
    """Make sure that text makes sense and fits into memory before it is read."""
    import psutil

    bomb = size > _HARMLESS and size > _RATIO * compressed
    if bomb or size * _PARSED > psutil.virtual_memory().available:
        raise AnnotationError(
            f"{source} says that it holds {size / 2**30:.1f} GiB of text, which is more than makes sense "
            "or fits into memory: it was not opened."
        )


class _Arrays:
    """Reads arrays out of a file as long as there is memory for them, however often one is asked for.

    Masks that are all foreground shrink a thousandfold: how small they are in the file says nothing.
    """

    def __init__(self, archive: zipfile.ZipFile, source: Path) -> None:
        import psutil

        self._archive, self._source = archive, source
        # Checking them takes as much again.
        self._free = psutil.virtual_memory().available // 2

    def __call__(self, name: str) -> bytes:
        info = self._archive.getinfo(name)
        if info.file_size > self._free:
            raise AnnotationError(
                f"{self._source} holds more automatic masks than fit into memory: open it on a larger "
                "computer."
            )
        self._free -= info.file_size
        with self._archive.open(info) as file:
            return file.read(info.file_size)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
