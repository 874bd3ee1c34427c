"""What commands make of objects: new records from old ones, without changing a document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.importing import label_boxes
from napari_sam.annotation.overlap import with_hand
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.propagating import carried_over
from napari_sam.annotation.records import GREATEST_ID, Answer, HandEdit, SamObject, Source
from napari_sam.annotation.splitting import parts
from napari_sam.annotation.state import State
from napari_sam.annotation.territory import Box
from napari_sam.errors import AnnotationError
from napari_sam.inference.mask import Mask, box_around
from napari_sam.inference.prompts import Prompts

__all__ = [
    "closed",
    "from_masks",
    "merged",
    "owed_to",
    "painted",
    "parts",
    "reopened",
    "sharing",
    "with_lent",
    "with_mask_prompt",
]


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


def sharing(drawn: Prompts, before: Prompts | None) -> Prompts:
    """Prompts with the very arrays and lines of those before where they are equal: a history holds all."""
    if before is None or drawn == before:
        return drawn if before is None else before
    known = before.scribbles
    scribbles = tuple(
        # Most often, one was added: the others are where they were.
        next((line for line in known[at : at + 1] + known if line == one), one)
        for at, one in enumerate(drawn.scribbles)
    )
    same = {
        name: array
        for name in ("points", "labels", "mask_input", "lasso")
        if (array := getattr(before, name)) is not None and np.array_equal(array, getattr(drawn, name))
    }
    return replace(drawn, scribbles=scribbles, **same)


def reopened(item: SamObject) -> SamObject:
    """An object as it is when work on it goes on: what it is without prompts is what they will refine."""
    bare = {p: m for p, m in item.masks.items() if p not in item.prompts and p not in item.base}
    if item.prompts:
        # Hand-painted parts of a prompted object stay what they are, on all planes.
        return replace(item, accepted=False)
    base = {**item.base, **{p: Answer(((m, None),)) for p, m in bare.items()}}
    hand = {p: edit for p, edit in item.hand.items() if p not in bare}
    return replace(item, accepted=False, base=base, hand=hand)


def closed(item: SamObject, opened: SamObject) -> SamObject:
    """An object as it is when work on it ends: what a hand painted before it was opened still is.

    Parameters
    ----------
    item : SamObject
    opened : SamObject
        What it was before :func:`reopened` made masks to start from of what was painted. Where nobody has
        started from such a mask, what is left of it is as before.
    """
    begun = reopened(opened)
    if item == replace(begun, class_id=item.class_id):
        return replace(opened, class_id=item.class_id)
    hand = dict(item.hand)
    for plane, before in opened.hand.items():
        asked = plane in item.prompts or plane in item.answers
        if asked or plane in begun.hand or item.base.get(plane) != begun.base[plane]:
            continue
        edit = item.hand.get(plane) or HandEdit.none(before.added.shape)
        mask = item.masks.get(plane) or Mask.empty(before.added.shape)
        added = edit.added | (before.added & mask)
        hand[plane] = HandEdit(added, (edit.removed | before.removed) - mask - added)
    return replace(item, hand=hand)


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


def with_lent(whole: SamObject, items: Collection[SamObject], current: SamObject) -> SamObject:
    """What was made of objects, with what the current one took from these: that is still theirs to claim.

    Else, what comes back when the current one shrinks would be lost with the next answer.
    """
    lenders = {item.uid: carried_over(item) for item in items if item.uid != current.uid}
    base = dict(whole.base)
    for plane, lent in current.taken.items():
        mine = current.masks.get(plane)
        for uid, mask in lent.items():
            # What a third object took meanwhile does not come back.
            if uid not in lenders or mine is None or (back := mask & mine).is_empty:
                continue
            carried = plane in lenders[uid]
            before = base.get(plane) or Answer(((back, None),), propagated=carried)
            base[plane] = replace(
                before,
                candidates=((before.mask | back, None),),
                propagated=before.propagated and carried,
            )
    return replace(whole, base=base)


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
