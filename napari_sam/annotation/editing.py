"""What commands make of objects: new records from old ones, without changing a document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.annotation.importing import label_boxes
from napari_sam.annotation.overlap import with_hand
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.propagating import carried_over
from napari_sam.annotation.records import GREATEST_ID, Answer, HandEdit, SamObject, Source
from napari_sam.annotation.state import State
from napari_sam.annotation.territory import Box
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask, box_around
from napari_sam.inference.prompts import Prompts

__all__ = ["from_masks", "merged", "owed_to", "painted", "parts", "reopened", "with_mask_prompt"]


def with_mask_prompt(item: SamObject, plane: Plane, drawn: Prompts | None) -> Prompts | None:
    """What a user drew on a plane together with the mask that goes with it; None if that is nothing.

    A mask that came from elsewhere goes with whatever is drawn; a mask that is being refined stays a prompt
    even if nothing is drawn.
    """
    before, base = item.prompts.get(plane), item.base.get(plane)
    # Whoever made the object may have found nothing on this plane.
    start = None if base is None or base.mask.is_empty else base.mask
    refined = None
    if before is not None and before.mask is not None and before.mask != start:
        refined = before.mask
    if drawn is None:
        return None if refined is None else Prompts.create(refined.shape, mask=refined)
    if drawn.mask is not None:
        return drawn
    return drawn.with_mask(refined or start)


def reopened(item: SamObject) -> SamObject:
    """An object as it is when work on it goes on: what it is without prompts is what they will refine."""
    bare = {p: m for p, m in item.masks.items() if p not in item.prompts and p not in item.base}
    if item.prompts:
        # Hand-painted parts of a prompted object stay what they are, on all planes.
        return replace(item, accepted=False)
    base = {**item.base, **{p: Answer(((m, None),)) for p, m in bare.items()}}
    hand = {p: edit for p, edit in item.hand.items() if p not in bare}
    return replace(item, accepted=False, base=base, hand=hand)


def from_masks(
    item: SamObject,
    masks: Mapping[Plane, Mask],
    painted: Mapping[Plane, Mask],
    propagated: Collection[Plane] = (),
) -> SamObject:
    """An object that is nothing but these pixels; what a hand painted, or was carried over, stays that."""
    base = {
        plane: Answer(((mask, None),), propagated=plane in propagated and plane not in painted)
        for plane, mask in masks.items()
    }
    hand = {}
    for plane, added in painted.items():
        if plane in masks and not (mine := added & masks[plane]).is_empty:
            hand[plane] = HandEdit(mine, Mask.empty(mine.shape))
    return replace(item, prompts={}, answers={}, hand=hand, taken={}, base=base, masks=masks)


def merged(items: Sequence[SamObject]) -> SamObject:
    """The first object with the pixels of all."""
    masks: defaultdict[Plane, list[Mask]] = defaultdict(list)
    painted: defaultdict[Plane, list[Mask]] = defaultdict(list)
    # One annotated mask makes the plane of all annotated.
    known: set[Plane] = set()
    for item in items:
        known |= item.masks.keys() - carried_over(item)
        for plane, mask in item.masks.items():
            masks[plane].append(mask)
            if plane in item.hand:
                painted[plane].append(item.hand[plane].added & mask)
    whole = from_masks(items[0], _unions(masks), _unions(painted), masks.keys() - known)
    return replace(whole, accepted=True)


def owed_to(uid: int, gone: Collection[int], item: SamObject) -> SamObject:
    """An object whose debts to others that are gone now are to another one."""
    taken: dict[Plane, dict[int, Mask]] = {}
    for plane, lent in item.taken.items():
        mine: dict[int, Mask] = {}
        for owner, mask in lent.items():
            now = uid if owner in gone else owner
            mine[now] = mine[now] | mask if now in mine else mask
        taken[plane] = mine
    return replace(item, taken=taken)


def _unions(masks: Mapping[Plane, Sequence[Mask]]) -> dict[Plane, Mask]:
    """What is in any of the masks of a plane: the time is for the pixels, however many masks there are."""
    result = {}
    for plane, several in masks.items():
        rows, columns = box_around(*several)
        bits = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        for mask in several:
            (row, column), (height, width) = mask.origin, mask.bits.shape
            row, column = row - rows.start, column - columns.start
            # An empty mask is nowhere.
            if not mask.is_empty:
                bits[row : row + height, column : column + width] |= mask.bits
        result[plane] = Mask((rows.start, columns.start), bits, several[0].shape)
    return result


def parts(item: SamObject) -> list[dict[Plane, Mask]]:
    """The connected parts of an object, the largest first; pixels that touch at a corner are connected."""
    if not item.masks:
        return []
    planes = list(item.masks)
    shape = next(iter(item.masks.values())).shape
    leading = np.array([plane.index[:-2] for plane in planes], dtype=np.int64).reshape(len(planes), -1)
    low = leading.min(axis=0) if leading.size else leading[0]
    size = tuple(int(n) for n in (leading.max(axis=0) - low + 1)) if leading.size else ()
    boxes = np.array([mask.box_xyxy for mask in item.masks.values()])
    left, top = boxes[:, 0].min(), boxes[:, 1].min()
    right, bottom = boxes[:, 2].max() + 1, boxes[:, 3].max() + 1
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    crop = np.zeros((*size, bottom - top, right - left), dtype=bool)
    at_place = {tuple(int(i) for i in at - low): plane for at, plane in zip(leading, planes, strict=True)}
    for place, plane in at_place.items():
        crop[place] = item.masks[plane].bits_in(rows, columns)
    found, count = ndimage.label(crop, structure=np.ones((3,) * crop.ndim))
    if count < 2:
        return [dict(item.masks)]
    sizes = np.bincount(found.ravel())[1:]
    boxes_of_parts = ndimage.find_objects(found)
    result = []
    for number in np.argsort(-sizes, kind="stable"):
        *span, inner_rows, inner_columns = boxes_of_parts[number]
        origin = int(top) + inner_rows.start, int(left) + inner_columns.start
        part = {}
        for step in np.ndindex(*(axis.stop - axis.start for axis in span)):
            place = tuple(axis.start + i for axis, i in zip(span, step, strict=True))
            bits = found[(*place, inner_rows, inner_columns)] == number + 1
            if bits.any():
                part[at_place[place]] = Mask(origin, bits, shape)
        result.append(part)
    return result


def painted(
    state: State, current: SamObject, plane: Plane, box: Box, values: NDArray[np.integer]
) -> list[SamObject]:
    """The objects whose pixels a brush changed; new ones have the uid 0.

    Parameters
    ----------
    state : State
    current : SamObject
        It may not be part of the document yet.
    plane : Plane
        Of the last two axes.
    box : tuple of slice
        Rows and columns.
    values : ndarray, shape of the box, int
        The ids after painting.

    Raises
    ------
    AnnotationError
        If an id is too large.
    """
    if values.size and int(values.max()) > GREATEST_ID:
        raise AnnotationError(f"The label {values.max()} is too large: ids have at most 62 bits.")
    # Unsigned and signed numbers of 64 bits meet in floating point.
    values = values.astype(np.int64)
    objects = state.objects
    near = state.territory.near(plane, box)
    ids = {uid: objects[uid].id for uid in near}
    before = state.territory.values_in(plane, box, ids)
    different = before != values
    if not different.any():
        return []
    lost = _masks_of(np.where(different, before, 0), state, box)
    gained = _masks_of(np.where(different, values, 0), state, box)
    nothing = Mask.empty((state.shape[-2], state.shape[-1]))
    result = []
    for number in sorted(lost.keys() | gained.keys()):
        item = state.with_id(number)
        if item is None:
            new = SamObject(0, number, source=Source.PAINTED)
            item = replace(current, source=Source.PAINTED) if number == current.id else new
        added, removed = gained.get(number, nothing), lost.get(number, nothing)
        mask = (item.masks.get(plane, added) | added) - removed
        masks = {**item.masks, plane: mask}
        if mask.is_empty:
            del masks[plane]
        result.append(replace(item, masks=masks, hand=with_hand(item.hand, plane, added, removed)))
    return result


def _masks_of(ids: NDArray[np.int64], state: State, box: Box) -> dict[int, Mask]:
    """The pixels of each id in a box: the time is for the boxes of the ids, however many there are."""
    size = state.shape[-2], state.shape[-1]
    numbers, boxes = label_boxes(ids)
    found = {}
    for number, (top, bottom, left, right) in zip(numbers.tolist(), boxes.tolist(), strict=True):
        origin = box[0].start + top, box[1].start + left
        found[number] = Mask(origin, ids[top:bottom, left:right] == number, size)
    return found
