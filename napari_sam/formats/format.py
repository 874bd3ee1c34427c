"""What a format is, what it can hold, and what a segmentation would lose in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_sam.formats.memory import check_free
from napari_sam.formats.segmentation import Segmentation
from napari_sam.inference.mask import Mask

__all__ = ["Adding", "Feature", "Format", "losses"]


class Feature(StrEnum):
    """What a format may be able to hold."""

    IDS = "ids"
    CLASSES = "classes"
    SCORES = "scores"
    OVERLAP = "overlapping objects"
    HOLES = "holes"
    PARTS = "objects of several parts"
    STACKS = "more than one plane"
    CALIBRATION = "pixel sizes and offsets"
    SEVERAL = "several images in one file"


@dataclass(frozen=True, slots=True)
class Adding:
    """How a format is added to what is there, instead of taking its place.

    Attributes
    ----------
    fits : callable
        Whether a path is of something that it can be added to. It never raises for files of others.
    add : callable
        Takes such a path, the segmentations, and whether what has the same name there is replaced; gives the
        path of what it added.
    """

    fits: Callable[[Path], bool]
    add: Callable[[Path, Sequence[Segmentation], bool], Path]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes
    ----------
    name : str
        For the command line and Python: ``"coco"``.
    title : str
        For menus.
    suffixes : tuple of str
        What names of files end in, the usual one first.
    names : tuple of str
        Names that are of it as a whole, in small letters.
    also_read : tuple of str
        What names of other files end in that are read, and never written.
    needs_suffix : bool
        Whether it is written under names that fit only.
    holds : frozenset of Feature
    write : callable
        Takes a path at which nothing is yet and the segmentations, and writes; the place of an older file is
        taken, and errors of the operating system are put into words, by those who call it.
    read : callable or None
        Takes a path and the shape of the image, None where that is not known; gives a list of
        segmentations.
    recognises : callable or None
        Whether a file, whose name fits, is of this format: for names that many formats share. It never raises
        for files of others.
    greatest_id : int or None
        The largest id that fits, if not all do.
    is_folder : bool
        Whether it is a folder of files.
    is_all_in : callable or None
        Whether a folder holds nothing but what `write` makes; others, if they are not empty, are never
        replaced. It never raises but what the operating system does.
    adding : Adding or None
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    holds: frozenset[Feature]
    write: Callable[[Path, Sequence[Segmentation]], None]
    read: Callable[[Path, tuple[int, ...] | None], list[Segmentation]] | None = None
    recognises: Callable[[Path], bool] | None = None
    greatest_id: int | None = None
    is_folder: bool = False
    names: tuple[str, ...] = ()
    also_read: tuple[str, ...] = ()
    needs_suffix: bool = False
    is_all_in: Callable[[Path], bool] | None = None
    adding: Adding | None = None

    def fits(self, path: Path) -> bool:
        """Whether the name of a file is one of this format."""
        name = path.name.lower()
        return name.endswith(self.suffixes) or name in self.names

    def adds_to(self, path: Path) -> bool:
        """Whether it is added to what is at a path, instead of taking its place."""
        return self.adding is not None and self.adding.fits(path)

    def suffix_of(self, path: Path) -> str:
        """The longest suffix of this format that the name of a file ends in; empty if there is none."""
        name = path.name.lower()
        return max((end for end in self.suffixes if name.endswith(end)), key=len, default="")


def losses(found: Sequence[Segmentation], target: Format) -> list[str]:
    """What would be lost if segmentations were written in a format, a sentence each.

    What makes writing impossible (ids that are too large, several images) is not told here: writing raises.

    Parameters
    ----------
    found : sequence of Segmentation
    target : Format
    """
    told = []
    for feature, count in _COUNTS.items():
        if feature not in target.holds and (number := sum(count(one) for one in found)):
            told.append(_SENTENCES[feature].format(title=target.title, number=_objects(number)))
    return told


def _overlapping(one: Segmentation) -> int:
    """Objects whose pixels are not all their own."""
    concerned = set()
    what = f"A plane of {' x '.join(map(str, one.shape[-2:]))} pixels"
    check_free(4 * math.prod(one.shape[-2:]), what, "cut the image, or choose a format of outlines")
    for on_plane in one.planes.values():
        count = np.zeros(one.shape[-2:], dtype=np.int32)
        for _, mask in on_plane:
            count[mask.slices] += mask.bits
        if count.max(initial=0) > 1:
            concerned |= {item.id for item, mask in on_plane if (count[mask.slices][mask.bits] > 1).any()}
    return len(concerned)


def _with(one: Segmentation, has: Callable[[Mask], bool]) -> int:
    return len({item.id for item, _, mask in one.masks() if has(mask)})


def _has_holes(mask: Mask) -> bool:
    return bool(ndimage.binary_fill_holes(mask.bits).sum() > mask.area)


def _has_parts(mask: Mask) -> bool:
    return int(ndimage.label(mask.bits)[1]) > 1


def _not_counting(one: Segmentation) -> int:
    """Objects that are not numbered from 1 on."""
    return sum(item.id != number for number, item in enumerate(one.items, 1))


_COUNTS: dict[Feature, Callable[[Segmentation], int]] = {
    Feature.IDS: _not_counting,
    Feature.CLASSES: lambda one: sum(bool(item.class_name) for item in one.items),
    Feature.SCORES: lambda one: sum(item.score is not None for item in one.items),
    Feature.OVERLAP: _overlapping,
    Feature.HOLES: lambda one: _with(one, _has_holes),
    Feature.PARTS: lambda one: _with(one, _has_parts),
    Feature.STACKS: lambda one: len(one.items) if len(one.shape) > 2 else 0,
    Feature.CALIBRATION: lambda one: 0 if one.calibration.is_plain else len(one.items),
}

_SENTENCES = {
    Feature.IDS: "{title} holds no ids: {number} will be numbered anew.",
    Feature.CLASSES: "{title} holds no classes: {number} will lose theirs.",
    Feature.SCORES: "{title} holds no scores: {number} will lose theirs.",
    Feature.OVERLAP: "{title} holds one object per pixel: where {number} overlap, the best one gets it.",
    Feature.HOLES: "{title} holds no holes: those of {number} will be filled.",
    Feature.PARTS: "{title} holds objects of one part: {number} will be cut into several.",
    Feature.STACKS: "{title} holds planes: {number} will be told plane by plane.",
    Feature.CALIBRATION: "{title} holds no sizes of pixels: {number} will be in pixels.",
}


def _objects(number: int) -> str:
    return "1 object" if number == 1 else f"{number} objects"
