"""Annotation files as napari's reader and writer, and how a layer finds its document again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np

from napari_sam.annotation import Document
from napari_sam.annotation.archive import SUFFIX, load_annotation, save_annotation
from napari_sam.annotation.importing import drafts_of_labels
from napari_sam.errors import AnnotationError

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.types import LayerData

__all__ = ["document_of", "get_reader", "mark", "write_labels"]

_KEY = "napari-sam"
_documents: WeakValueDictionary[str, Document] = WeakValueDictionary()


def mark(labels: Labels, document: Document) -> None:
    """Let a layer say whose objects it shows, in words that any file format can keep."""
    token = uuid4().hex
    _documents[token] = document
    labels.metadata[_KEY] = {"document": token}


def document_of(labels: Labels) -> Document | None:
    """The document of a layer that was read from an annotation file; None for all others.

    Raises
    ------
    AnnotationError
        If the file is not there any more, or cannot be read.
    """
    told = labels.metadata.get(_KEY)
    if not isinstance(told, dict) or "file" not in told:
        return None
    snapshot, _, _ = load_annotation(told["file"])
    return Document.of(snapshot) if snapshot.shape == tuple(labels.data.shape) else None


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Napari's reader of annotation files."""
    paths = [path] if isinstance(path, str) else path
    return _read if paths and all(str(one).lower().endswith(SUFFIX) for one in paths) else None


def _read(path: str | list[str]) -> list[LayerData]:
    """The objects of annotation files as Labels layers."""
    layers: list[LayerData] = []
    for one in [path] if isinstance(path, str) else path:
        snapshot, _, _ = load_annotation(one)
        greatest = max((item.id for item in snapshot.objects), default=0)
        dtype = np.int32 if greatest <= np.iinfo(np.int32).max else np.int64
        name = Path(one).name[: -len(SUFFIX)]
        metadata = {_KEY: {"file": os.fspath(Path(one).absolute())}}
        labels = Document.of(snapshot).to_labels(dtype)
        layers.append((labels, {"name": name, "metadata": metadata}, "labels"))
    return layers


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Napari's writer of a Labels layer as an annotation: with prompts and classes where there are some.

    Raises
    ------
    AnnotationError
        If the file cannot be written, or the layer is multiscale.
    """
    told = (meta.get("metadata") or {}).get(_KEY)
    document = _documents.get(told.get("document", "")) if isinstance(told, dict) else None
    if document is None:
        if not hasattr(data, "dtype"):
            raise AnnotationError("Multiscale labels cannot be saved as an annotation: choose one level.")
        document = Document(data.shape)
        document.add_objects(drafts_of_labels(data), "Import labels", keep_ids=True)
    # napari has asked already whether a file is to be replaced.
    return [os.fspath(save_annotation(path, document.snapshot, overwrite=True))]
