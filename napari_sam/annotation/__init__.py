"""The document: the objects of one image, their prompts and their masks."""

from __future__ import annotations

from napari_sam.annotation.document import Annotation, SamObject
from napari_sam.annotation.plane import Plane

__all__ = ["Annotation", "Plane", "SamObject"]
