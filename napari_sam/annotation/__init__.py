"""The document: the objects of one image, their prompts and their masks."""

from napari_sam.annotation.document import Annotation, SamObject
from napari_sam.annotation.plane import Plane

__all__ = ["Annotation", "Plane", "SamObject"]
