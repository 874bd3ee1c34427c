"""Which pixels an object gets where others are: protection, overwriting, and what a hand painted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.correcting import mask_on
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import HandEdit, SamObject
from napari_sam.annotation.state import State
from napari_sam.annotation.territory import is_canonical, section
from napari_sam.inference.mask import Mask

__all__ = ["claims", "fitted", "with_hand"]


def claims(item: SamObject, shape: tuple[int, ...], wanted: Iterable[Plane]) -> dict[Plane, Mask]:
    """What an object would have on some planes of the last two axes if it were alone."""
    size = shape[-2], shape[-1]
    on: dict[Plane, Mask] = {}
    across = {p for answers in (item.base, item.answers) for p in answers if not is_canonical(p)}
    upright = [(p, mask) for p in across if (mask := mask_on(item, p)) is not None]
    for plane in wanted:
        mask = mask_on(item, plane) or Mask.empty(size)
        found = (section(p, one, plane) for p, one in upright)
        if crossing := [part for part in found if part is not None]:
            mask = _united([(mask.origin, mask.bits), *crossing], size)
        hand = item.hand.get(plane)
        on[plane] = mask if hand is None else (mask | hand.added) - hand.removed
    return on


def fitted(state: State, item: SamObject, planes: Iterable[Plane], *, overwrite: bool) -> list[SamObject]:
    """An object with the pixels that it gets on some planes, and the others that gave or got some back.

    Without `overwrite`, an object gets what no other object has. With it, it takes pixels from others, those
    excepted that a hand painted, and gives them back when it shrinks before it is accepted.

    Parameters
    ----------
    state : State
        Holds the object as it was.
    item : SamObject
        With new answers, base or hand.
    planes : iterable of Plane
        Of the last two axes: where `item` changed.
    overwrite : bool
    """
    changed: dict[int, SamObject] = {}
    masks, taken = dict(item.masks), dict(item.taken)

    def other(uid: int) -> SamObject | None:
        return changed.get(uid) or state.objects.get(uid)

    for plane, alone in claims(item, state.shape, planes).items():
        claim = alone
        lent = taken.pop(plane, {})
        mine = item.masks.get(plane) or Mask.empty(claim.shape)
        for uid, mask in lent.items():
            if (owner := other(uid)) is not None:
                # What a third object took meanwhile is not this one's to give.
                back = (mask - claim if overwrite else mask) & mine
                if not back.is_empty:
                    changed[uid] = _with_mask(owner, plane, _or(owner.masks.get(plane), back))
        if not claim.is_empty:
            kept: dict[int, Mask] = {}
            near = {*state.territory.near(plane, claim.slices), *lent} - {item.uid}
            owners = [one for one in map(other, near) if one is not None and plane in one.masks]
            if not overwrite:
                claim = _without(claim, [owner.masks[plane] for owner in owners])
                owners = []
            for owner in owners:
                uid, theirs = owner.uid, owner.masks[plane]
                hand = owner.hand.get(plane)
                if hand is not None:
                    claim = claim - (hand.added & theirs)
                if not (lost := theirs & claim).is_empty:
                    kept[uid] = lost
                    changed[uid] = _with_mask(owner, plane, theirs - lost)
            # What was lent before and is still covered is not given back above: it stays lent.
            for uid, mask in lent.items():
                if overwrite and not (still := mask & mine & claim).is_empty:
                    kept[uid] = _or(kept.get(uid), still)
            if kept:
                taken[plane] = kept
        if claim.is_empty:
            masks.pop(plane, None)
        else:
            masks[plane] = claim
    # An accepted object, whose answer came late, keeps what it takes.
    return [replace(item, masks=masks, taken={} if item.accepted else taken), *changed.values()]


def _united(parts: Sequence[tuple[tuple[int, int], NDArray[np.bool_]]], size: tuple[int, int]) -> Mask:
    """What is in any of several boxes of bits: one mask, however many they are."""
    parts = [(origin, bits) for origin, bits in parts if bits.any()]
    if not parts:
        return Mask.empty(size)
    top, left = (min(origin[axis] for origin, _ in parts) for axis in (0, 1))
    bottom, right = (max(origin[axis] + bits.shape[axis] for origin, bits in parts) for axis in (0, 1))
    whole = np.zeros((bottom - top, right - left), dtype=bool)
    for (row, column), bits in parts:
        height, width = bits.shape
        whole[row - top : row - top + height, column - left : column - left + width] |= bits
    return Mask((top, left), whole, size)


def _without(mask: Mask, others: Iterable[Mask]) -> Mask:
    """A mask without the pixels of others: the time is for where they meet, however large it is."""
    bits = None
    for other in others:
        rows, columns = _common(mask.slices[0], other.slices[0]), _common(mask.slices[1], other.slices[1])
        theirs = other.bits[_inside(rows, other.origin[0]), _inside(columns, other.origin[1])]
        here = _inside(rows, mask.origin[0]), _inside(columns, mask.origin[1])
        if bits is None:
            if not (mask.bits[here] & theirs).any():
                continue
            bits = mask.bits.copy()
        bits[here] &= ~theirs
    if bits is None:
        return mask
    less = Mask(mask.origin, bits, mask.shape)
    # Much less is left: do not keep the rest alive.
    return Mask(less.origin, less.bits.copy(), less.shape) if less.bits.size * 2 < bits.size else less


def _common(one: slice, other: slice) -> slice:
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


def _inside(part: slice, origin: int) -> slice:
    return slice(part.start - origin, part.stop - origin)


def _or(mask: Mask | None, other: Mask) -> Mask:
    return other if mask is None else mask | other


def _with_mask(item: SamObject, plane: Plane, mask: Mask) -> SamObject:
    masks = {**item.masks, plane: mask}
    if mask.is_empty:
        del masks[plane]
    return replace(item, masks=masks)


def with_hand(
    hand: Mapping[Plane, HandEdit], plane: Plane, added: Mask, removed: Mask
) -> dict[Plane, HandEdit]:
    """Hand edits after a brush gave and took pixels."""
    before = hand.get(plane) or HandEdit.none(added.shape)
    after = HandEdit((before.added | added) - removed, (before.removed - added) | removed)
    return {**hand, plane: after}
