"""The document: the objects of one image, their prompts and their masks, and how they came about."""

from __future__ import annotations

from napari_sam.annotation.document import Document
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import Answer, HandEdit, Look, ObjectClass, SamObject, Source
from napari_sam.annotation.state import Changes, Key, Snapshot

__all__ = [
    "Answer",
    "Changes",
    "Document",
    "HandEdit",
    "Key",
    "Look",
    "ObjectClass",
    "Plane",
    "SamObject",
    "Snapshot",
    "Source",
]
