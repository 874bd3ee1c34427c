"""Regions of interest of ImageJ and Fiji: a .zip as its ROI Manager saves it, or one .roi.

A ROI is one object on one plane: traced along the edges of its pixels if it is one part without holes, else a
composite. ImageJ sees the id and the class as the ROI's name, the colour of the class as that of its outline,
and its position in the stack; stacks have the axes c, z and t at most, and those of unknown meaning are z, t
and c in this order. Regions may overlap.

What we need besides to read all as it was is in a property of each ROI, ``napari_sam``, which ImageJ keeps:
id, class, score, source and attributes; that of the first has the shape, axes, sizes of pixels, units and
classes of the image, too. Without any ROI, a zip says nothing of its image.

Of other programs' files, polygons, freehand and traced regions, rectangles, ovals and composites are read: a
pixel belongs to a region if its centre is inside. Ids are the names, where these are whole numbers, and
groups are classes. The image is as large as its regions reach, if its shape is not given; regions without a
position are on the first plane. Points, lines, texts and images are left out with a warning. Not read:
rounded corners of rectangles, and splines, of which the points they go through are read.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from napari_sam.annotation.fields import Field
from napari_sam.annotation.records import GREATEST_ID
from napari_sam.errors import FormatError
from napari_sam.formats.drafts import SOURCES, Draft, segmentation_of
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.imagej_shapes import path_of, rings_of
from napari_sam.formats.outlines import Polygon, outlines
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

if TYPE_CHECKING:
    from roifile import ImagejRoi

__all__ = ["FORMAT"]

_OWN = "napari_sam"
# ImageJ reads properties as Java does, to which a backslash means something.
_PLAIN = " ,.:;{}[]()\"'=<>/!?*+-_#&@$^|~`"
_LARGEST = 2**28
"""Bytes of all regions of a file, unpacked."""

_LONGEST_NAME = 80
# Whole numbers of the format have 16 bits, and floats are exact as far as this.
_WHOLE, _FLOAT = 2**15 - 1, 2**24
_DAMAGED = (
    struct.error,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    RuntimeError,
    AssertionError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and roifile raise for damaged files."""


def _write(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    masks = list(one.masks())
    if "" in letters_of(one.calibration.axes):
        raise FormatError(
            f"ImageJ has the axes c, z and t at most, not {one.calibration.axes[:-2]!r}: split it."
        )
    if max(one.shape[-2:]) > _FLOAT:
        raise FormatError(f"ImageJ has planes of up to {_FLOAT} x {_FLOAT} pixels, not {one.shape[-2:]}.")
    shapes = outlines([mask for _, _, mask in masks])
    image = image_members(one)
    regions = (
        _region(one, item, index, polygons, {} if number else {"image": image})
        for number, ((item, index, _), polygons) in enumerate(zip(masks, shapes, strict=True))
    )
    if path.suffix.lower() == ".roi":
        if len(masks) != 1:
            raise FormatError(
                f"A .roi file holds one object on one plane, not {len(masks)}: write a .zip file."
            )
        path.write_bytes(next(regions).tobytes())
        return
    taken: set[str] = set()
    with zipfile.ZipFile(path, "w") as archive:
        for region in regions:
            name = re.sub(r'[/\\:*?"<>|]', "_", region.name)
            free = next(n for n in _numbered(name) if n.lower() not in taken)
            taken.add(free.lower())
            entry = zipfile.ZipInfo(f"{free}.roi")
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, region.tobytes(), zipfile.ZIP_DEFLATED)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        number += 1
        yield f"{name}-{number}"


def _region(
    one: Segmentation, item: Item, index: Index, polygons: Sequence[Polygon], more: dict[str, Any]
) -> ImagejRoi:
    """An object on one plane as ImageJ sees it."""
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    rings = [ring for shell, holes in polygons for ring in (shell, *holes)]
    points = np.concatenate(rings)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    region = ImagejRoi(left=left, top=top, right=right, bottom=bottom, name=_name(item))
    if len(rings) == 1:
        region.roitype = ROI_TYPE.TRACED
        region.n_coordinates = len(points)
        region.integer_coordinates = points - np.array([left, top], dtype=np.int32)
        if max(right, bottom) > _WHOLE:
            region.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            region.subpixel_coordinates = points.astype(np.float32)
    else:
        region.roitype = ROI_TYPE.RECT
        region.multi_coordinates = path_of(rings)
        region.shape_roi_size = len(region.multi_coordinates)
    colour = next((each.colour for each in one.classes if each.name == item.class_name), "")
    if colour:
        region.stroke_color = bytes([255, *rgb_of(colour)])
    place = dict(zip(letters_of(one.calibration.axes), index, strict=True))
    if len(place) == 1:
        (region.position,) = (at + 1 for at in place.values())
    elif place:
        region.c_position, region.z_position, region.t_position = (place.get(key, 0) + 1 for key in "czt")
    region.props = f"{_OWN}: {quote(as_json({**_members(item, index, colour), **more}), _PLAIN)}\n"
    return region


def _name(item: Item) -> str:
    """Id and class, in letters of 16 bits."""
    name = f"{item.id} {item.class_name}".strip()[:_LONGEST_NAME]
    return "".join(one if one.isprintable() and ord(one) < 2**16 else "_" for one in name)


def _members(item: Item, index: Index, colour: str) -> dict[str, Any]:
    """What is in the property of our own."""
    members: dict[str, Any] = {"id": item.id}
    if item.class_name:
        members |= {"class": item.class_name, "color": colour}
    if item.score is not None:
        members["score"] = item.score
    if item.source:
        members["source"] = item.source
    if item.attributes:
        members["attributes"] = item.attributes
    if index:
        members["plane"] = index
    return members


def _read(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    drafts: list[Draft] = []
    without_area = 0
    image: WholeImage | None = None
    with naming(path):
        for name, data in _entries(path):
            region = _decoded(name, data)
            members = _own(region, Field({}, name, str(path)))
            own = members.get("image")
            if image is None and own is not None:
                image = read_image(own)
                check_fits(image, shape)
            draft = _draft(region, members, image.shape if image else shape)
            if draft.rings:
                drafts.append(draft)
            else:
                without_area += 1
        if image is None:
            image = guessed_image(
                [draft.place for draft in drafts], reach([draft.rings for draft in drafts]), shape
            )
        masks = filled([draft.rings for draft in drafts], (image.shape[-2], image.shape[-1]))
        kept = [(draft, mask) for draft, mask in zip(drafts, masks, strict=True) if not mask.is_empty]
        found = segmentation_of(image, kept)
    tell_left_out(path, without_area, "they are no regions with an area")
    tell_left_out(path, len(drafts) - len(kept), "they are too small to hold the centre of a pixel")
    return [found]


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each ROI."""
    with path.open("rb") as file:
        is_alone = file.read(4) == b"Iout"
    if is_alone:
        if path.stat().st_size > _LARGEST:
            raise FormatError(f"it has more than {_LARGEST >> 20} MiB, which no region needs.")
        yield path.stem, path.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
            if not entries and archive.namelist():
                raise FormatError("it has no .roi files, as a zip file of ImageJ has: choose another one.")
            if sum(one.file_size for one in entries) > _LARGEST:
                raise FormatError(f"its regions have more than {_LARGEST >> 20} MiB unpacked: split it.")
            for one in entries:
                if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise FormatError(f"{one.filename} is compressed in a way that ImageJ does not use.")
                yield Path(one.filename).stem, archive.read(one)
    except FormatError:
        raise
    except _DAMAGED as error:
        raise FormatError(f"it is no whole zip file ({error}): get it once more.") from error


def _decoded(name: str, data: bytes) -> ImagejRoi:
    from roifile import ImagejRoi

    try:
        return ImagejRoi.frombytes(data)
    except _DAMAGED as error:
        raise FormatError(f"the region {name!r} is damaged ({error}): save it anew.") from error


def _own(region: ImagejRoi, nothing: Field) -> Field:
    """The property of our own; empty for regions of others."""
    for line in region.props.splitlines():
        key, _, text = line.partition(":")
        if key.strip() == _OWN:
            try:
                return Field(json.loads(unquote(text)), nothing.where, nothing.document)
            except (ValueError, RecursionError):
                nothing.fail(f"the property {_OWN} is no JSON")
    return nothing


def _draft(region: ImagejRoi, members: Field, shape: tuple[int, ...] | None) -> Draft:
    """What a ROI says."""
    draft = Draft(rings_of(region))
    draft.place, draft.index = _place(region, members, shape)
    if not members.value:
        _take_over(draft, region)
        return draft
    draft.id, draft.is_ours = members["id"].whole(-GREATEST_ID, GREATEST_ID), True
    named, colour, index = members.get("class"), members.get("color"), members.get("plane")
    score, source, attributes = members.get("score"), members.get("source"), members.get("attributes")
    if named is not None:
        draft.class_name = named.text()
    if colour is not None and re.fullmatch("#[0-9a-fA-F]{6}", colour.text()):
        draft.colour = colour.text()
    if index is not None:
        draft.index = index.wholes()
    if score is not None:
        draft.score = score.number()
    if source is not None and source.value in SOURCES:
        draft.source = source.value
    if attributes is not None:
        if not isinstance(attributes.value, dict):
            attributes.fail("not a JSON object")
        as_json(attributes.value)
        draft.attributes = dict(attributes.value)
    return draft


def _place(
    region: ImagejRoi, members: Field, shape: tuple[int, ...] | None
) -> tuple[dict[str, int], Index | None]:
    """Where in a stack a ROI is: along t, z and c, or its plane if these are not known."""
    at = {"c": region.c_position, "z": region.z_position, "t": region.t_position}
    if min(region.position, *at.values()) < 0:
        members.fail("a position below 0")
    place = {letter: number - 1 for letter, number in at.items() if number}
    if place or not region.position:
        return place, None
    if shape is None or len(shape) == 2:
        return {"z": region.position - 1}, None
    # In ImageJ's stacks, channels change first, then z, then t, which is the order of our axes.
    if region.position > np.prod(shape[:-2], dtype=float):
        members.fail(f"the position {region.position}, outside of an image of the shape {shape}")
    return {}, tuple(int(one) for one in np.unravel_index(region.position - 1, shape[:-2]))


def _take_over(draft: Draft, region: ImagejRoi) -> None:
    """What another program says of a region."""
    if re.fullmatch("[1-9][0-9]{0,17}", region.name):
        draft.id = int(region.name)
    elif region.name:
        draft.attributes["name"] = region.name
    if region.group:
        draft.class_name = f"group {region.group}"
        if region.stroke_color != bytes(4):
            draft.colour = "#" + region.stroke_color[1:].hex()


def _recognises(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.read(4) == b"Iout":
                return True
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # An empty one is of an image without objects.
            return not names or any(name.lower().endswith(".roi") for name in names)
    except (OSError, *_DAMAGED):
        return False


FORMAT = Format(
    name="imagej-roi",
    title="ImageJ ROIs",
    suffixes=(".zip", ".roi"),
    holds=frozenset(Feature) - {Feature.SEVERAL},
    write=_write,
    read=_read,
    recognises=_recognises,
)
