"""Objects on their way out of a file of outlines: one plane of one object at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.records import Source
from napari_sam.errors import FormatError
from napari_sam.formats.class_lists import classes_of
from napari_sam.formats.segmentation import Index, Item, Segmentation
from napari_sam.formats.whole_image import WholeImage, letters_of
from napari_sam.inference.mask import Mask

__all__ = ["SOURCES", "Draft", "segmentation_of"]

SOURCES = tuple(source.value for source in Source)


@dataclass
class Draft:
    """What a file says of one object on one plane.

    Attributes
    ----------
    rings : list of ndarray, shape (N, 2)
        As :func:`~napari_sam.formats.polygons.fill` takes them; none of what has no area.
    place : dict of str to int
        Where it is along t, z and c.
    index : Index or None
        The plane, if it is known better.
    id : int or None
        None if it is to get one.
    is_ours : bool
        Whether the id is one that we wrote, and not a name.
    class_name, colour : str
        Empty if there is none.
    score : float or None
    source : str
    attributes : dict of str to object
    """

    rings: list[NDArray[np.floating]]
    place: dict[str, int] = field(default_factory=dict)
    index: Index | None = None
    id: int | None = None
    is_ours: bool = False
    class_name: str = ""
    colour: str = ""
    score: float | None = None
    source: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    masks: dict[Index, Mask] = field(default_factory=dict)


def segmentation_of(image: WholeImage, found: Sequence[tuple[Draft, Mask]]) -> Segmentation:
    """The objects of an image: drafts with one id on several planes are one.

    Raises
    ------
    FormatError
        If one is on a plane twice, or does not fit the image.
    """
    letters = letters_of(image.calibration.axes)
    known: dict[int, Draft] = {}
    drafts = []
    for draft, mask in found:
        index = draft.index
        if index is None:
            index = tuple(draft.place.get(letter, 0) for letter in letters)
        one = draft if draft.id is None else known.setdefault(draft.id, draft)
        if index in one.masks:
            if draft.is_ours:
                raise FormatError(f"object {draft.id} is there twice on one plane.")
            # Names may be there twice.
            draft.id, one = None, draft
        if one is draft:
            drafts.append(draft)
        one.masks[index] = mask
    free = count(max([0, *known]) + 1)
    items = [
        Item(
            next(free) if one.id is None else one.id,
            one.masks,
            one.class_name,
            one.score,
            one.source,
            one.attributes,
        )
        for one in drafts
    ]
    classes = image.classes or classes_of((0, one.class_name, one.colour) for one in drafts if one.class_name)
    return Segmentation(image.shape, items, classes, image.calibration, image.name)
