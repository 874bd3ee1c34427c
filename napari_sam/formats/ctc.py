"""Masks of the Cell Tracking Challenge: a folder with a TIFF of 16 bits for each time, and a text of tracks.

``mask000.tif``, ``mask001.tif``, ... hold the ids of one time each, of one plane or a stack, and
``res_track.txt`` has a line ``L B E P`` for each object: its id, the first and the last time at which it is
there, and the id of the one it came from, or 0: the parent of an annotation's object, an attribute ``parent``
of an item.

Held are ids up to 65535. Not held are classes, scores, sources, other attributes, sizes of pixels, and what
is below another object. The challenge allows no gap in time: an object that vanishes and comes back is cut in
two, and the later part gets a new id, with the earlier as its parent; a warning says so. A parent that is not
there before its child is left out, and said, too.

Ground truth (``man_track.txt`` and ``man_track000.tif``) is read as well.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import FormatError, FormatWarning
from napari_sam.formats.calibration import Calibration
from napari_sam.formats.folders import holds_only
from napari_sam.formats.format import Feature, Format
from napari_sam.formats.json_files import LARGEST
from napari_sam.formats.label_planes import same_shape
from napari_sam.formats.label_tiff import read_tiff, write_planes
from napari_sam.formats.segmentation import Item, Segmentation
from napari_sam.inference.mask import Mask

__all__ = ["FORMAT"]

_GREATEST = 2**16 - 1
_TRACKS = {"res_track.txt": "mask", "man_track.txt": "man_track"}
# Of a text of tracks: 65535 lines of four numbers are much shorter.
_LONGEST = 2**23
_MASK = 2**11


def _write(path: Path, found: Sequence[Segmentation]) -> None:
    (one,) = found
    axes = one.calibration.axes
    if len(one.shape) not in (3, 4) or axes[0] not in "tq" or 0 in one.shape:
        raise FormatError(
            f"The Cell Tracking Challenge has planes or stacks in time, and this image has the axes {axes!r} "
            f"and the shape {one.shape}: write TIFF."
        )
    whole, lines = _without_gaps(one)
    path.mkdir()
    digits = max(3, len(str(one.shape[0] - 1)))
    for time, frame in enumerate(_frames(whole)):
        # The axes tell a stack of one plane from a plane.
        metadata = {"axes": "Q" * (len(frame.shape) - 2) + "YX"}
        write_planes(path / f"mask{time:0{digits}}.tif", frame, np.dtype(np.uint16), metadata)
    text = "".join(f"{label} {begin} {end} {parent}\n" for label, begin, end, parent in lines)
    (path / "res_track.txt").write_text(text, encoding="ascii", newline="\n")


def _frames(one: Segmentation) -> Iterator[Segmentation]:
    """The objects of each time."""
    there: dict[int, dict[int, dict[tuple[int, ...], Mask]]] = {}
    for item, index, mask in one.masks():
        there.setdefault(index[0], {}).setdefault(item.id, {})[index[1:]] = mask
    known = {item.id: item for item in one.items}
    for time in range(one.shape[0]):
        items = [replace(known[number], masks=masks) for number, masks in there.get(time, {}).items()]
        yield Segmentation(one.shape[1:], items, one.classes)


def _without_gaps(one: Segmentation) -> tuple[Segmentation, list[tuple[int, int, int, int]]]:
    """Objects that are there without gaps in time, and a line for each: label, begin, end, parent."""
    free = iter(sorted(set(range(1, _GREATEST + 1)) - {item.id for item in one.items}))
    parts: dict[int, list[tuple[int, int, int]]] = {}
    items: list[Item] = []
    for item in one.items:
        times = np.unique([index[0] for index in item.masks])
        if not len(times):
            continue
        for number, run in enumerate(np.split(times, np.flatnonzero(np.diff(times) > 1) + 1)):
            label = item.id if number == 0 else next(free, 0)
            if not label:
                raise FormatError("There are more than 65535 tracks without gaps: write TIFF.")
            first, last = int(run[0]), int(run[-1])
            parts.setdefault(item.id, []).append((label, first, last))
            masks = {index: mask for index, mask in item.masks.items() if first <= index[0] <= last}
            items.append(replace(item, id=label, masks=masks))
    lines, lost = [], 0
    for item in one.items:
        before = 0
        for number, (label, first, last) in enumerate(parts.get(item.id, [])):
            parent = item.parent if number == 0 else before
            if number == 0 and parent:
                # The latest part of the parent that is over by then.
                over = [part for part in parts.get(parent, []) if part[2] < first]
                parent = over[-1][0] if over else 0
                lost += not over
            lines.append((label, first, last, parent))
            before = label
    _tell(sum(len(part) - 1 for part in parts.values()), "would have a gap in time: {} new ids were given")
    _tell(lost, "have a parent that is not there before them: {} parents were left out")
    return Segmentation(one.shape, items, one.classes, one.calibration), sorted(lines)


def _tell(count: int, why: str) -> None:
    if count:
        told = why.format(count)
        warnings.warn(f"In the Cell Tracking Challenge, objects {told}.", FormatWarning, stacklevel=2)


def _read(path: Path, shape: tuple[int, ...] | None) -> list[Segmentation]:
    text = next((path / name for name in _TRACKS if (path / name).is_file()), None)
    if text is None:
        raise FormatError(f"{path} has neither res_track.txt nor man_track.txt: choose another folder.")
    parents = _read_tracks(text)
    pattern = re.compile(rf"{_TRACKS[text.name]}(\d{{1,6}})\.tiff?", re.IGNORECASE)
    named = ((pattern.fullmatch(one.name), one) for one in path.iterdir())
    frames = sorted((int(match[1]), one) for match, one in named if match)
    if not frames:
        raise FormatError(f"{path} has no {_TRACKS[text.name]}000.tif: are the images there?")
    numbers = [number for number, _ in frames]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise FormatError(f"{path} lacks images of some times, or has some twice: make it complete.")
    masks: dict[int, dict[tuple[int, ...], Mask]] = {}
    sides: tuple[int, ...] | None = None
    left = LARGEST
    for time, (_, file) in enumerate(frames):
        found = read_tiff(file)
        if len(found) != 1 or len(found[0].shape) > 3 or sides not in (None, found[0].shape):
            raise FormatError(f"{file} is of another shape than the images before it.")
        sides = found[0].shape
        for item, index, mask in found[0].masks():
            masks.setdefault(item.id, {})[(time, *index)] = mask
            left -= mask.nbytes + _MASK
        if left < 0:
            raise FormatError(f"{path} holds more objects than fit into 1 GiB of memory: read fewer times.")
    whole = (len(frames), *(sides or ()))
    same_shape(path, whole, shape)
    items = [Item(number, masks[number], attributes=_parent(parents, number)) for number in sorted(masks)]
    plain = Calibration.plain(len(whole))
    axes = "t" + "z" * (len(whole) - 3) + "yx"
    calibration = Calibration(axes, plain.scale, plain.translate, plain.units)
    return [Segmentation(whole, items, calibration=calibration)]


def _parent(parents: dict[int, int], number: int) -> dict[str, Any]:
    return {"parent": parents[number]} if parents.get(number) else {}


def _read_tracks(text: Path) -> dict[int, int]:
    """The parents of all tracks; the times are in the images, too."""
    if text.stat().st_size > _LONGEST:
        raise FormatError(f"{text} is longer than there can be tracks.")
    parents: dict[int, int] = {}
    for number, line in enumerate(text.read_bytes().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 4 or not all(re.fullmatch(rb"\d{1,9}", word) for word in words):
            raise FormatError(f"{text} has no track of four numbers (L B E P) in line {number}.")
        label, begin, end, parent = map(int, words)
        if not label or label in parents or begin > end or parent == label:
            raise FormatError(f"{text} has in line {number} a track that cannot be, or is there twice.")
        parents[label] = parent
    if missing := set(parents.values()) - set(parents) - {0}:
        raise FormatError(f"{text} has a parent {min(missing)} that is no track.")
    return parents


def _recognises(path: Path) -> bool:
    return any((path / name).is_file() for name in _TRACKS)


def _is_all_in(path: Path) -> bool:
    return (path / "res_track.txt").is_file() and holds_only(path, r"res_track\.txt|mask\d{3,6}\.tif")


FORMAT = Format(
    name="ctc",
    title="Cell Tracking Challenge",
    suffixes=("_res", "_tra"),
    names=("tra",),
    holds=frozenset({Feature.IDS, Feature.HOLES, Feature.PARTS, Feature.STACKS}),
    write=_write,
    read=_read,
    recognises=_recognises,
    greatest_id=_GREATEST,
    is_folder=True,
    is_all_in=_is_all_in,
)
