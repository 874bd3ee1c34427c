"""COCO instances out of a file; :mod:`napari_sam.formats.coco` says what its members mean."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_sam.annotation.fields import Field
from napari_sam.annotation.records import GREATEST_ID, ObjectClass
from napari_sam.errors import FormatError
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.class_lists import classes_of
from napari_sam.formats.coco_boxes import Box, BoxedImage, box_of
from napari_sam.formats.coco_masks import MaskReader, plane_of
from napari_sam.formats.drafts import SOURCES
from napari_sam.formats.json_files import read_json
from napari_sam.formats.segmentation import Index, Item, Segmentation
from napari_sam.formats.telling import naming, tell_left_out
from napari_sam.formats.whole_image import read_calibration
from napari_sam.inference.mask import Mask

__all__ = ["FLAT", "OWN", "members_of_sam", "read_coco", "read_coco_and_boxes"]

OWN = "napari_sam"
"""The member of an image's entry that says which plane of which image it is."""

FLAT = ("stability_score", "point_coords", "crop_box")
"""Attributes that are members of their own, as Segment Anything names them."""


# Stacks are larger than memory now and then, but not by this much.
_LARGEST_STACK = 2**44


@dataclass
class _Draft:
    """One object, while its planes are gathered; its id is None if it has to get one."""

    id: int | None
    class_name: str
    score: float | None
    source: str
    attributes: dict[str, Any]
    masks: dict[Index, Mask] = field(default_factory=dict)


@dataclass
class _Image:
    """One image, while its objects are gathered."""

    shape: tuple[int, ...]
    calibration: Calibration
    name: str
    planes: set[Index] = field(default_factory=set)
    drafts: list[_Draft] = field(default_factory=list)
    by_id: dict[int, _Draft] = field(default_factory=dict)

    def draft(self, draft: _Draft, at: Field) -> _Draft:
        """The object that an annotation is about: on one more plane, or new."""
        if draft.id is not None:
            known = self.by_id.setdefault(draft.id, draft)
            if known is not draft:
                if len(self.shape) == 2:
                    at.fail(f"the id {draft.id} for the second time")
                return known
        self.drafts.append(draft)
        return draft

    def segmentation(self, classes: list[ObjectClass]) -> Segmentation:
        """What was gathered."""
        free = max(self.by_id, default=0)
        items = []
        for draft in self.drafts:
            if draft.id is None:
                free = max(free, 0) + 1
            number = free if draft.id is None else draft.id
            items.append(
                Item(number, draft.masks, draft.class_name, draft.score, draft.source, draft.attributes)
            )
        return Segmentation(self.shape, items, classes, self.calibration, self.name)


@dataclass(frozen=True)
class _Place:
    """Where an entry of an image belongs."""

    image: _Image
    index: Index
    size: tuple[int, int]
    is_ours: bool


def read_coco(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    """The objects of every image of a file.

    Raises
    ------
    FormatError
        If it is no COCO file, or not one of an image of this shape.
    """
    root = Field(read_json(path), document=str(path))
    with naming(path):
        found, _ = _content(root, path, shape, with_boxes=False)
    if shape is not None and len(found) == 1 and found[0].shape != shape:
        raise FormatError(f"{path} is of an image of the shape {found[0].shape}, not {shape}.")
    return found


def read_coco_and_boxes(path: Path) -> tuple[list[Segmentation], list[BoxedImage]]:
    """As :func:`read_coco`, and what has a box but no pixels, of each image that has such.

    Raises
    ------
    FormatError
        If it is no COCO file.
    """
    root = Field(read_json(path), document=str(path))
    with naming(path):
        return _content(root, path, None, with_boxes=True)


def _content(
    root: Field, path: Path, shape: tuple[int, ...] | None, *, with_boxes: bool
) -> tuple[list[Segmentation], list[BoxedImage]]:
    images, places = _images(root["images"], shape)
    classes, names = _classes(root)
    masks, left_out = MaskReader(), 0
    boxes: dict[int, list[Box]] = {}
    for entry in root["annotations"]:
        place = places.get(_key(entry["image_id"]))
        if place is None:
            entry["image_id"].fail("no image of this file")
        segmentation = entry.get("segmentation")
        mask = None if segmentation is None else masks.read(segmentation, place.size)
        if mask is None or mask.is_empty:
            corners = box_of(entry) if with_boxes else None
            if corners is None:
                left_out += 1
                continue
            about = _draft(entry, names, place)
            box = Box(corners, place.index, about.class_name, about.score)
            boxes.setdefault(id(place.image), []).append(box)
            continue
        draft = place.image.draft(_draft(entry, names, place), entry)
        if place.index in draft.masks:
            entry.fail("an object that is on this plane already")
        draft.masks[place.index] = mask
    tell_left_out(path, left_out, "they have no pixels")
    boxed = [
        BoxedImage(image.shape, image.calibration, image.name, classes, boxes[id(image)])
        for image in images
        if id(image) in boxes
    ]
    return [image.segmentation(classes) for image in images], boxed


def _images(entries: Field, shape: tuple[int, ...] | None) -> tuple[list[_Image], dict[Hashable, _Place]]:
    """All images, and which entry is which plane of which."""
    images: dict[Hashable, _Image] = {}
    places: dict[Hashable, _Place] = {}
    for entry in entries:
        key = _key(entry["id"])
        if key in places:
            entry["id"].fail("an id for the second time")
        size = plane_of(entry, shape)
        name = entry.get("file_name")
        text = "" if name is None else name.text()
        own = entry.get(OWN)
        index: Index
        if own is None:
            # Of a pair, so that it is none of our numbers.
            group: Hashable = (key, "alone")
            image, index = _Image(size, Calibration.plain(2), text), ()
        else:
            group = own["image"].whole()
            image, index = _plane(own, size, text)
        known = images.setdefault(group, image)
        if (known.shape, known.calibration) != (image.shape, image.calibration):
            entry.fail("planes of one image whose shapes or axes differ")
        if index in known.planes:
            entry.fail("a plane for the second time")
        known.planes.add(index)
        places[key] = _Place(known, index, size, own is not None)
    return list(images.values()), places


def _plane(own: Field, size: tuple[int, int], name: str) -> tuple[_Image, Index]:
    """What our own member of an entry says."""
    shape, index = own["shape"].wholes(), own["plane"].wholes()
    if shape[-2:] != size or len(index) != len(shape) - 2:
        own.fail("a plane that does not fit the image")
    if any(at >= side for at, side in zip(index, shape, strict=False)):
        own["plane"].fail("outside the image")
    pixels = 1
    for side in shape:
        pixels *= max(side, 1)
        if pixels > _LARGEST_STACK:
            own["shape"].fail("an image that is too large")
    return _Image(shape, read_calibration(own), name), index


def _classes(root: Field) -> tuple[list[ObjectClass], dict[int, str]]:
    """The classes, and what the categories are called; those without class, nothing."""
    names: dict[int, str] = {}
    described = []
    categories = root.get("categories")
    for entry in () if categories is None else categories:
        number = entry["id"].whole()
        if number in names:
            entry["id"].fail("an id for the second time")
        name = entry["name"].text()
        without = entry.get("no_class")
        if without is not None and without.flag():
            names[number] = ""
            continue
        names[number] = name if name.strip() else f"category {number}"
        described.append((number, names[number], _colour(entry.get("color"))))
    return classes_of(described), names


def _draft(entry: Field, names: dict[int, str], place: _Place) -> _Draft:
    """What an annotation says of its object, but for the pixels."""
    category = entry.get("category_id")
    if category is not None and category.whole() not in names:
        category.fail("no category of this file")
    number = entry.get("object_id") if place.is_ours else entry.get("id")
    source = entry.get("source")
    score, attributes = members_of_sam(entry)
    return _Draft(
        # 0 is background in label images.
        None if number is None else number.whole(-GREATEST_ID, GREATEST_ID) or None,
        "" if category is None else names[category.whole()],
        score,
        source.value if source is not None and source.value in SOURCES else "",
        attributes,
    )


def members_of_sam(entry: Field) -> tuple[float | None, dict[str, Any]]:
    """The score and the attributes of an annotation.

    Raises
    ------
    AnnotationError
        If a score is not a number.
    """
    scores = {name: entry.get(name) for name in ("score", "predicted_iou", "stability_score")}
    numbers = {name: one.number() for name, one in scores.items() if one is not None}
    score = numbers.get("score", numbers.get("predicted_iou"))
    attributes: dict[str, Any] = {}
    if numbers.get("predicted_iou", score) != score:
        attributes["predicted_iou"] = numbers["predicted_iou"]
    free = entry.get("attributes")
    # What other programs mean by it is theirs.
    if free is not None and isinstance(free.value, dict):
        attributes |= {name: value for name, value in free.value.items() if name not in FLAT}
    attributes |= {name: one.value for name in FLAT if (one := entry.get(name)) is not None}
    for name in ("point_coords", "crop_box"):
        if not isinstance(attributes.get(name, []), list):
            entry[name].fail("not a list")
    crowd = entry.get("iscrowd")
    if crowd is not None and crowd.value in (1, True):
        attributes["iscrowd"] = 1
    if attributes and not _finite(attributes):
        entry.fail("numbers that are not finite")
    return score, attributes


def _finite(value: Any) -> bool:
    """Whether JSON can hold something, as it holds neither NaN nor infinity."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def _colour(item: Field | None) -> str:
    """As ``#rrggbb``; empty if it is no colour."""
    value = None if item is None else item.value
    if isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c < 256 for c in value):
        return "#{:02x}{:02x}{:02x}".format(*value)
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        digits = value[1:].lower()
        return f"#{digits}" if set(digits) <= set("0123456789abcdef") else ""
    return ""


def _key(item: Field) -> int | str:
    """What images are known by: a number, in some files a name."""
    value = item.value
    if isinstance(value, str):
        return value
    return item.whole()
