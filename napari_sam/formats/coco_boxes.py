"""Annotations of COCO files that are boxes and have no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from napari_sam.annotation.fields import Field
from napari_sam.annotation.records import ObjectClass
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.segmentation import Index

__all__ = ["Box", "BoxedImage", "box_of"]

_FARTHEST = 2**26


@dataclass(frozen=True, slots=True)
class Box:
    """One box.

    Attributes
    ----------
    corners : tuple of float
        x0, y0, x1, y1 in pixels; (0, 0) is the upper left corner of the first pixel.
    index : Index
        The plane that it is on.
    class_name : str
        Empty for none.
    score : float or None
    """

    corners: tuple[float, float, float, float]
    index: Index
    class_name: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """The boxes of one image.

    Attributes
    ----------
    shape : tuple of int
    calibration : Calibration
    name : str
        File name of the image, if known.
    classes : sequence of ObjectClass
    boxes : list of Box
    """

    shape: tuple[int, ...]
    calibration: Calibration
    name: str
    classes: Sequence[ObjectClass]
    boxes: list[Box] = field(default_factory=list)


def box_of(entry: Field) -> tuple[float, float, float, float] | None:
    """The corners of an annotation's ``bbox`` (x, y, width, height); None if there is none with an area.

    Raises
    ------
    AnnotationError
        If it is anything else.
    """
    item = entry.get("bbox")
    if item is None or item.value == []:
        return None
    left, top, width, height = (float(value) for value in item.array(4))
    if max(abs(left), abs(top), abs(width), abs(height)) > _FARTHEST:
        item.fail("a box far outside of every image")
    right, bottom = left + width, top + height
    return (left, top, right, bottom) if left < right and top < bottom else None
