"""COCO instances: https://cocodataset.org/#format-data.

One annotation is one object on one plane, with its pixels as run lengths; in the format ``coco-polygons``, as
polygons, unless it has holes, which COCO's polygons cannot have. What COCO has no member for is in members of
our own, which others pass over:

- ``color`` of a category: red, green and blue from 0 to 255; other programs write ``"#rrggbb"``, too. Objects
  without a class are in a category "object" that says ``"no_class": true``.
- ``score`` and ``predicted_iou`` of an annotation are the object's score. ``stability_score``,
  ``point_coords`` and ``crop_box`` are what Segment Anything writes; all else that is known of an object is
  in ``attributes``, a member that other programs have, too. ``source`` says where it came from.
- ``object_id`` of an annotation: the id of the object. In a file of one plane, the annotation has it, too.
- ``napari_sam`` of an image: ``image``, which of the images of the file this is a plane of, counted from 1;
  ``plane``, its position along all axes but the last two; ``shape`` of the whole image; ``axes``, ``scale``,
  ``translate`` and ``units`` of :class:`~napari_sam.formats.Calibration`.

Objects may overlap, have holes and several parts. Images of one file share their classes: one name is one
class, with the id and the colour that the first image gives it. Colours are read in small letters. A
plane has less than 2^32 pixels.

Files of others: parts that are polygons are put together, crowds read as objects, annotations without
pixels left out with a warning, and ids that are 0 or missing replaced by new ones. Members that are not named
here are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import FormatError
from napari_sam.formats.coco_masks import LARGEST_PLANE
from napari_sam.formats.coco_reading import FLAT, OWN, read_coco
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import begins_with
from napari_sam.formats.outlines import outlines
from napari_sam.formats.segmentation import Item, Segmentation
from napari_sam.formats.whole_image import as_json, calibration_members, rgb_of
from napari_sam.inference.mask import Mask
from napari_sam.inference.rle import coco_rle

__all__ = ["FORMAT", "POLYGONS", "check_size", "described", "write_json"]


def write_coco(path: Path, found: Sequence[Segmentation]) -> None:
    """Write objects with their pixels as run lengths.

    Raises
    ------
    FormatError
        If a plane is too large or an attribute nothing that JSON holds.
    """
    _write(path, found, [[coco_rle(mask) for _, _, mask in one.masks()] for one in map(check_size, found)])


def write_coco_polygons(path: Path, found: Sequence[Segmentation]) -> None:
    """Write objects as polygons along the edges of their pixels; those with holes, as run lengths.

    Raises
    ------
    FormatError
        As :func:`write_coco`.
    """
    _write(path, found, [_polygons([mask for _, _, mask in one.masks()]) for one in map(check_size, found)])


def _polygons(masks: Sequence[Mask]) -> list[Any]:
    return [
        coco_rle(mask)
        if any(holes for _, holes in polygons)
        else [shell.ravel().tolist() for shell, _ in polygons]
        for mask, polygons in zip(masks, outlines(masks), strict=True)
    ]


def _write(path: Path, found: Sequence[Segmentation], segmentations: Sequence[Sequence[Any]]) -> None:
    categories, numbers = _categories(found)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    counts_up = len(found) != 1 or len(found[0].shape) != 2
    for number, (one, pixels) in enumerate(zip(found, segmentations, strict=True), 1):
        ids = {}
        for index in np.ndindex(one.shape[:-2]):
            ids[index] = len(images) + 1
            images.append(_image(one, number, index, ids[index]))
        for (item, index, mask), segmentation in zip(one.masks(), pixels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1 if counts_up else item.id,
                    "image_id": ids[index],
                    "category_id": numbers[item.class_name],
                    "segmentation": segmentation,
                    **described(item, mask),
                    "iscrowd": int(item.attributes.get("iscrowd") == 1),
                    **_more(item),
                }
            )
    write_json(path, {"images": images, "categories": categories, "annotations": annotations})


def described(item: Item, mask: Mask) -> dict[str, Any]:
    """What COCO and SA-1B say of an object alike."""
    scores = {} if item.score is None else {"predicted_iou": float(item.score)}
    return {
        "bbox": list(mask.bbox_xywh),
        "area": mask.area,
        **scores,
        **{name: item.attributes[name] for name in FLAT if name in item.attributes},
    }


def check_size(one: Segmentation) -> Segmentation:
    """The same, if run lengths of its planes can be written.

    Raises
    ------
    FormatError
        If they cannot.
    """
    height, width = one.shape[-2:]
    if height * width > LARGEST_PLANE or math.prod(one.shape[:-2]) == 0:
        raise FormatError(
            f"COCO holds planes of less than 2^32 pixels, and at least one: {one.shape} cannot be written."
        )
    return one


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON of one line.

    Raises
    ------
    FormatError
        If it holds what JSON cannot.
    """
    path.write_text(as_json(content), encoding="ascii")


def _image(one: Segmentation, number: int, index: tuple[int, ...], key: int) -> dict[str, Any]:
    height, width = one.shape[-2:]
    return {
        "id": key,
        "file_name": one.name,
        "width": width,
        "height": height,
        OWN: {
            "image": number,
            "plane": index,
            "shape": one.shape,
            **calibration_members(one.calibration),
        },
    }


def _more(item: Item) -> dict[str, Any]:
    """What only our COCO files say of an object."""
    flat = {*FLAT, *(["iscrowd"] if item.attributes.get("iscrowd") == 1 else [])}
    free = {name: value for name, value in item.attributes.items() if name not in flat}
    return {
        "object_id": item.id,
        **({} if item.score is None else {"score": float(item.score)}),
        **({"source": item.source} if item.source else {}),
        **({"attributes": free} if free else {}),
    }


def _categories(found: Iterable[Segmentation]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The categories of all images, and their ids by the names of the classes; that of no class is empty."""
    numbers: dict[str, int] = {}
    categories = []
    for one in (one for segmentation in found for one in segmentation.classes):
        if one.name not in numbers:
            taken = set(numbers.values())
            numbers[one.name] = max(taken) + 1 if one.id in taken else one.id
            categories.append({**_category(numbers[one.name], one.name), "color": rgb_of(one.colour)})
    if not numbers or any(not item.class_name for segmentation in found for item in segmentation.items):
        name = "object"
        while name in numbers:
            name += "_"
        number = max(numbers.values(), default=0) + 1
        numbers[""] = number
        categories.append({**_category(number, name), "no_class": True})
    return categories, numbers


def _category(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": name, "supercategory": ""}


def _recognises(path: Path) -> bool:
    its_own = ("annotations", "image_id", "category_id")
    return begins_with(path, "images") or all(begins_with(path, name) for name in its_own)


FORMAT = Format(
    name="coco",
    title="COCO",
    suffixes=(".json", ".coco.json"),
    holds=frozenset(Feature),
    write=write_coco,
    read=read_coco,
    recognises=_recognises,
)

POLYGONS = Format(
    name="coco-polygons",
    title="COCO with polygons",
    suffixes=(".json", ".coco.json"),
    holds=frozenset(Feature),
    write=write_coco_polygons,
    read=read_coco,
    recognises=_recognises,
)
