"""GeoJSON as QuPath writes and reads it: RFC 7946, in pixels instead of degrees.

A feature is one object on one plane: a Polygon, or a MultiPolygon of several parts, with holes, along the
edges of pixels; (0, 0) is the upper left corner of the first pixel. Objects may overlap. QuPath sees

- ``objectType``: "detection" if a program found the object automatically, "annotation" otherwise;
- ``name``: the id of the object; ``classification``: name and colour of its class;
- ``measurements``: ``predicted_iou``, the object's score, and all attributes that are numbers;
- ``plane`` of the geometry: ``z``, ``t`` and ``c``. Axes of unknown meaning are z, t and c in this order;
- ``id``: a UUID, the same whenever the same object is written.

What we need besides to read all as it was is in members that others pass over: ``object_id``, ``score``,
``source``, ``attributes`` and ``plane_index`` among the properties of a feature, and ``napari_sam`` beside
the features: shape, axes, sizes of pixels, units, name and classes of the image.

Of other programs' files, coordinates may have fractions: a pixel belongs to an object if its centre is
inside. Ids are the names, where these are whole numbers, and measurements are attributes, but for
``predicted_iou``. The image is as large as its objects reach, if its shape is not given. Points and lines,
and polygons without the centre of any pixel, are left out with a warning. Not read: nuclei inside of QuPath's
cells, and that something was drawn as an ellipse; it is the polygon that QuPath writes.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.fields import Field
from napari_sam.annotation.records import GREATEST_ID, Source
from napari_sam.formats.drafts import SOURCES, Draft, segmentation_of
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import begins_with, read_json
from napari_sam.formats.outlines import Polygon, Ring, outlines
from napari_sam.formats.polygon_masks import filled, reach
from napari_sam.formats.segmentation import Index, Item, Segmentation
from napari_sam.formats.telling import naming, tell_left_out
from napari_sam.formats.whole_image import (
    WholeImage,
    as_json,
    check_fits,
    guessed_image,
    image_members,
    letters_of,
    read_image,
    rgb_of,
)

__all__ = ["FORMAT"]

_OWN = "napari_sam"
_NAMESPACE = uuid.UUID("5b5a4d2e-6a0c-4b0e-9d5c-7f0f3c2f8a11")
_AT_ONCE = 1024
"""Objects whose polygons are in memory while a file is written."""

_TYPES = ("annotation", "detection", "tile", "cell")
_NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
_SCORE = "predicted_iou"


def _write(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    letters = letters_of(one.calibration.axes)
    colours = {each.name: rgb_of(each.colour) for each in one.classes}
    masks = list(one.masks())
    with path.open("w", encoding="ascii", newline="\n") as file:
        head = as_json({"type": "FeatureCollection", _OWN: image_members(one)})
        file.write(head[:-1] + ', "features": [')
        for start in range(0, len(masks), _AT_ONCE):
            some = masks[start : start + _AT_ONCE]
            shapes = outlines([mask for _, _, mask in some])
            for number, ((item, index, mask), polygons) in enumerate(zip(some, shapes, strict=True), start):
                feature = {
                    "type": "Feature",
                    "id": str(uuid.uuid5(_NAMESPACE, f"{item.id} {index} {mask.bbox_xywh} {mask.area}")),
                    "geometry": _geometry(polygons, dict(zip(letters, index, strict=True))),
                    "properties": _properties(item, index, colours),
                }
                file.write((",\n" if number else "\n") + as_json(feature))
        file.write("\n]}\n")


def _geometry(polygons: Sequence[Polygon], place: dict[str, int]) -> dict[str, Any]:
    """The polygons of an object, and the plane that they are on."""
    parts = [[_closed(shell), *map(_closed, holes)] for shell, holes in polygons]
    kind, coordinates = ("Polygon", parts[0]) if len(parts) == 1 else ("MultiPolygon", parts)
    geometry: dict[str, Any] = {"type": kind, "coordinates": coordinates}
    if place:
        # QuPath's word for no channel in particular is -1.
        geometry["plane"] = {"c": place.get("c", -1), "z": place.get("z", 0), "t": place.get("t", 0)}
    return geometry


def _closed(ring: Ring) -> list[list[int]]:
    points: list[list[int]] = ring.tolist()
    return [*points, points[0]]


def _properties(item: Item, index: Index, colours: dict[str, list[int]]) -> dict[str, Any]:
    kind, name = item.attributes.get("objectType"), item.attributes.get("name")
    usual = "detection" if item.source == Source.AUTOMATIC else "annotation"
    measured = {} if item.score is None else {_SCORE: item.score}
    measured |= {key: value for key, value in item.attributes.items() if _is_number(value)}
    members: dict[str, Any] = {
        "objectType": kind if kind in _TYPES else usual,
        "name": name if isinstance(name, str) else str(item.id),
    }
    if item.class_name:
        members["classification"] = {"name": item.class_name, "color": colours[item.class_name]}
    if measured:
        members["measurements"] = measured
    members["object_id"] = item.id
    if item.score is not None:
        members["score"] = item.score
    if item.source:
        members["source"] = item.source
    if item.attributes:
        members["attributes"] = item.attributes
    if index:
        members["plane_index"] = index
    return members


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _read(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    root = Field(read_json(path), document=str(path))
    with naming(path):
        drafts, without_area = [], 0
        for feature in _features(root):
            draft = _draft(feature)
            if draft.rings:
                drafts.append(draft)
            else:
                without_area += 1
        image = _image(root, drafts, shape)
        rings = [draft.rings for draft in drafts]
        masks = filled(rings, (image.shape[-2], image.shape[-1]))
        kept = [(draft, mask) for draft, mask in zip(drafts, masks, strict=True) if not mask.is_empty]
        found = segmentation_of(image, kept)
    tell_left_out(path, without_area, "they are no polygons")
    tell_left_out(path, len(drafts) - len(kept), "they are too small to hold the centre of a pixel")
    return [found]


def _features(root: Field) -> Iterator[Field]:
    """All features: of a collection, of a list, or one alone."""
    if isinstance(root.value, list):
        yield from root
    elif root["type"].value == "FeatureCollection":
        yield from root["features"]
    else:
        yield root


def _image(root: Field, drafts: Sequence[Draft], shape: tuple[int, ...] | None) -> WholeImage:
    own = root.get(_OWN) if isinstance(root.value, dict) else None
    if own is not None:
        image = read_image(own)
        check_fits(image, shape)
        return image
    return guessed_image([draft.place for draft in drafts], reach([draft.rings for draft in drafts]), shape)


def _draft(feature: Field) -> Draft:
    """What a feature says."""
    if feature["type"].value != "Feature":
        feature["type"].fail("not a Feature")
    geometry, properties = feature.get("geometry"), feature.get("properties")
    if properties is None:
        properties = Field({}, f"{feature.where}.properties", feature.document)
    place: dict[str, int] = {}
    plane = None if geometry is None else geometry.get("plane")
    if plane is not None:
        # -1 is no channel in particular.
        place = {key: max(0, one.whole(-1, 2**31)) for key in "tzc" if (one := plane.get(key)) is not None}
    number, index = properties.get("object_id"), properties.get("plane_index")
    score, source = properties.get("score"), properties.get("source")
    class_name, colour = _class(properties.get("classification"))
    draft = Draft(
        [] if geometry is None else list(_rings(geometry)),
        place,
        None if index is None else index.wholes(),
        None if number is None else number.whole(-GREATEST_ID, GREATEST_ID),
        number is not None,
        class_name,
        colour,
        None if score is None else score.number(),
        source.value if source is not None and source.value in SOURCES else "",
        {} if number is None else _attributes(properties),
    )
    if number is None:
        _take_over(draft, properties)
    return draft


def _rings(geometry: Field) -> Iterator[NDArray[np.float64]]:
    """All rings of a geometry; none of points and lines."""
    waiting = [geometry]
    while waiting:
        one = waiting.pop()
        kind = one["type"].value
        if kind == "GeometryCollection":
            waiting += one["geometries"]
            continue
        if kind in _NO_AREA:
            continue
        if kind not in ("Polygon", "MultiPolygon"):
            one["type"].fail("no geometry that is known")
        polygons = [one["coordinates"]] if kind == "Polygon" else one["coordinates"]
        for ring in (ring for polygon in polygons for ring in polygon):
            if ring.value == []:
                continue
            vertices = ring.array(-1, -1)
            if vertices.shape[1] < 2:
                ring.fail("not a list of points (x, y)")
            yield vertices[:, :2]


def _class(item: Field | None) -> tuple[str, str]:
    """Name and colour of a class as one of the versions of QuPath writes it."""
    if item is None:
        return "", ""
    if isinstance(item.value, str):
        return item.value.strip(), ""
    names = item.get("names")
    name = ": ".join(one.text() for one in names) if names is not None else item["name"].text()
    if not name.strip():
        return "", ""
    colour, packed = item.get("color"), item.get("colorRGB")
    if colour is not None and isinstance(colour.value, list):
        return name, "#{:02x}{:02x}{:02x}".format(*(min(one, 255) for one in colour.wholes(0, 3)))
    if packed is not None:
        return name, f"#{packed.whole() & 0xFFFFFF:06x}"
    return name, ""


def _attributes(properties: Field) -> dict[str, Any]:
    """Attributes as we wrote them."""
    item = properties.get("attributes")
    if item is None:
        return {}
    if not isinstance(item.value, dict):
        item.fail("not a JSON object")
    as_json(item.value)
    return dict(item.value)


def _take_over(draft: Draft, properties: Field) -> None:
    """What another program knows of an object."""
    found: dict[str, Any] = {}
    measured = properties.get("measurements")
    if measured is not None and isinstance(measured.value, dict):
        found |= measured.value
    elif measured is not None:
        # Until QuPath 0.3.
        found |= {one["name"].text(): one["value"].value for one in measured}
    found = {name: value for name, value in found.items() if _is_number(value)}
    if draft.score is None and _SCORE in found:
        draft.score = float(found.pop(_SCORE))
    for key in ("name", "objectType"):
        value = properties.get(key)
        if value is not None and isinstance(value.value, str):
            found[key] = value.value
    if re.fullmatch("[1-9][0-9]{0,17}", found.get("name", "")):
        draft.id = int(found.pop("name"))
    draft.attributes = found


def _recognises(path: Path) -> bool:
    return begins_with(path, "FeatureCollection", "Feature")


FORMAT = Format(
    name="geojson",
    title="GeoJSON (QuPath)",
    suffixes=(".geojson", ".json"),
    holds=frozenset(Feature) - {Feature.SEVERAL},
    write=_write,
    read=_read,
    recognises=_recognises,
)
