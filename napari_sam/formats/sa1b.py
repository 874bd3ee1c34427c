"""Records of the data set SA-1B, one for each image: https://ai.meta.com/datasets/segment-anything/.

``image`` has ``image_id``, ``width``, ``height`` and ``file_name``; each of the ``annotations`` has ``id``,
``segmentation`` (run lengths), ``bbox`` (x, y, width, height), ``area``, ``predicted_iou``, which is the
object's score, ``stability_score``, ``crop_box`` and ``point_coords``. The last three are the attributes of
these names; what is not known of an object is left out of its annotation.

Held are ids, overlap, holes and parts; not held are classes, sources, other attributes and the sizes of
pixels. A record is of one plane: writing a stack is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam.annotation.fields import Field
from napari_sam.annotation.records import GREATEST_ID
from napari_sam.errors import FormatError
from napari_sam.formats.coco import check_size, described, write_json
from napari_sam.formats.coco_masks import MaskReader, plane_of
from napari_sam.formats.coco_reading import FLAT, members_of_sam
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import begins_with, read_json
from napari_sam.formats.segmentation import Item, Segmentation
from napari_sam.formats.telling import naming, tell_left_out
from napari_sam.inference.mask import Mask
from napari_sam.inference.rle import coco_rle

__all__ = ["FORMAT"]


def write_sa1b(path: Path, found: Sequence[Segmentation]) -> None:
    """Write the record of one image.

    Raises
    ------
    FormatError
        If it has more than one plane.
    """
    (one,) = found
    if len(one.shape) != 2:
        raise FormatError(
            f"SA-1B holds one plane, not an image of the shape {one.shape}: write its planes, or COCO."
        )
    check_size(one)
    height, width = one.shape
    image = {"image_id": 1, "width": width, "height": height, "file_name": one.name}
    annotations: list[dict[str, Any]] = [
        {"id": item.id, "segmentation": coco_rle(mask), **described(item, mask)}
        for item, _, mask in one.masks()
    ]
    write_json(path, {"image": image, "annotations": annotations})


def read_sa1b(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    """The objects of a record.

    Raises
    ------
    FormatError
        If it is none, or not one of an image of this shape.
    """
    root = Field(read_json(path), document=str(path))
    with naming(path):
        found = _segmentation(root, path)
    if shape is not None and found.shape != shape:
        raise FormatError(f"{path} is of an image of the shape {found.shape}, not {shape}.")
    return [found]


def _segmentation(root: Field, path: Path) -> Segmentation:
    size = plane_of(root["image"], None)
    name = root["image"].get("file_name")
    masks = MaskReader()
    known: dict[int, tuple[Mask, float | None, dict[str, Any]]] = {}
    left_out = 0
    for entry in root["annotations"]:
        mask = masks.read(entry["segmentation"], size)
        number = entry["id"].whole(-GREATEST_ID, GREATEST_ID)
        if number in known:
            entry["id"].fail("an id for the second time")
        if mask.is_empty:
            left_out += 1
            continue
        score, attributes = members_of_sam(entry)
        known[number] = mask, score, {name: attributes[name] for name in FLAT if name in attributes}
    tell_left_out(path, left_out, "they have no pixels")
    free = max(known, default=0) + 1  # instead of 0, which is background in label images
    items = [
        Item(number or free, {(): mask}, score=score, attributes=attributes)
        for number, (mask, score, attributes) in known.items()
    ]
    return Segmentation(size, items, name="" if name is None else name.text())


def _recognises(path: Path) -> bool:
    return begins_with(path, "annotations") and begins_with(path, "image") and not begins_with(path, "images")


FORMAT = Format(
    name="sa1b",
    title="SA-1B",
    suffixes=(".json", ".sa1b.json"),
    holds=frozenset({Feature.IDS, Feature.SCORES, Feature.OVERLAP, Feature.HOLES, Feature.PARTS}),
    write=write_sa1b,
    read=read_sa1b,
    recognises=_recognises,
)
