"""Annotation files as napari's reader and writer, and how a layer finds its document again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np

from napari_sam.annotation import Document
from napari_sam.annotation.archive import SUFFIX, load_annotation, save_annotation
from napari_sam.errors import AnnotationError
from napari_sam.formats import Segmentation
from napari_sam.formats.label_planes import label_planes
from napari_sam.ui.painting import take_over_all
from napari_sam.ui.telling import opening, saving
from napari_sam.ui.writing_layers import KEY, segmentation_of_layer

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.types import LayerData

__all__ = ["document_of", "document_shown", "get_reader", "mark", "write_labels"]

_documents: WeakValueDictionary[str, Document] = WeakValueDictionary()


def mark(labels: Labels, document: Document) -> None:
    """Let a layer say whose objects it shows, in words that any file format can keep."""
    token = uuid4().hex
    _documents[token] = document
    labels.metadata[KEY] = {"document": token}


def document_of(labels: Labels) -> Document | None:
    """The document of a layer that was read from a file by this plugin; None for all others.

    Raises
    ------
    AnnotationError
        If it was an annotation and is not there any more, or cannot be read.
    """
    told = labels.metadata.get(KEY)
    if not isinstance(told, dict):
        return None
    if "file" in told:
        snapshot, _, _ = load_annotation(told["file"])
        return Document.of(snapshot) if snapshot.shape == tuple(labels.data.shape) else None
    if "classes" in told:
        data, meta, _ = labels.as_layer_data_tuple()
        document = segmentation_of_layer(data, meta).to_document()
        # What was there before is where the history begins.
        document.history.clear()
        return document
    return None


def document_shown(data: Any, meta: Mapping[str, Any]) -> Document | None:
    """The document that a layer shows, in a widget or in an annotation file; None if it shows another thing.

    Parameters
    ----------
    data : array_like of int, shape (..., H, W)
    meta : mapping
        As in the layer's data tuple.
    """
    document = _document_told(meta)
    # Anybody may have painted while no widget looked.
    return document if document is not None and _shows(data, document) else None


def _document_told(meta: Mapping[str, Any]) -> Document | None:
    """The document that a layer showed when it was marked or read, if that is still there."""
    told = (meta.get("metadata") or {}).get(KEY)
    if isinstance(told, dict) and "file" in told:
        with contextlib.suppress(AnnotationError):  # it may be gone
            return Document.of(load_annotation(told["file"])[0])
    elif isinstance(told, dict):
        return _documents.get(told.get("document", ""))
    return None


def _shows(data: Any, document: Document) -> bool:
    """Whether an array is the label image of a document, but for ids that its type cannot hold."""
    if tuple(data.shape) != document.shape:
        return False
    found = Segmentation.of_snapshot(document.snapshot)
    dtype = np.dtype(data.dtype)
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    items = [item for item in found.items if limits.min <= item.id <= limits.max]
    planes = label_planes(Segmentation(found.shape, items), dtype)
    return all(
        np.array_equal(np.asarray(data[index]), plane)
        for index, plane in zip(np.ndindex(*found.shape[:-2]), planes, strict=True)
    )


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Napari's reader of annotation files."""
    paths = [path] if isinstance(path, str) else path
    return _read if paths and all(str(one).lower().endswith(SUFFIX) for one in paths) else None


def _read(path: str | list[str]) -> list[LayerData]:
    """The objects of annotation files as Labels layers."""
    layers: list[LayerData] = []
    for one in [path] if isinstance(path, str) else path:
        with opening(one):
            snapshot, _, _ = load_annotation(one)
        greatest = max((item.id for item in snapshot.objects), default=0)
        dtype = np.int32 if greatest <= np.iinfo(np.int32).max else np.int64
        name = Path(one).name[: -len(SUFFIX)]
        metadata = {KEY: {"file": os.fspath(Path(one).absolute())}}
        labels = Document.of(snapshot).to_labels(dtype)
        layers.append((labels, {"name": name, "metadata": metadata}, "labels"))
    return layers


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Napari's writer of a Labels layer as an annotation: with prompts and classes where there are some.

    The pixels are those of the layer.

    Raises
    ------
    OSError
        If the file cannot be written, or the layer is multiscale.
    """
    with saving():
        if meta.get("multiscale") or not hasattr(data, "dtype"):
            raise AnnotationError("Multiscale labels cannot be saved as an annotation: choose one level.")
        document = _document_told(meta)
        if document is None or document.shape != tuple(data.shape):
            document = segmentation_of_layer(data, meta).to_document()
        else:
            # What is seen is saved: anybody may have painted while no widget looked, or in a copy of it.
            document = Document.of(document.snapshot)
            take_over_all(document, data)
        # napari has asked already whether a file is to be replaced.
        return [os.fspath(save_annotation(path, document.snapshot, overwrite=True))]
