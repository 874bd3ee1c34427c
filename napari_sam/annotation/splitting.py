"""The connected parts of an object, found plane by plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.records import SamObject
from napari_sam.annotation.territory import Box
from napari_sam.inference.mask import Mask

__all__ = ["parts"]

_Place = tuple[int, ...]
_TOUCHING = np.ones((3, 3))


def parts(item: SamObject) -> list[dict[Plane, Mask]]:
    """The connected parts of an object: pixels that touch, at a corner at least, on neighbouring planes, too.

    Parameters
    ----------
    item : SamObject

    Returns
    -------
    list of dict of Plane to Mask
        The largest comes first; of those that are equally large, the one that begins first. Time and memory
        are for the boxes of the masks, however far apart the planes are.

    Examples
    --------
    >>> dot = Mask((0, 0), np.ones((2, 1)), (9, 9))
    >>> masks = {Plane((z, None, None)): dot for z in (0, 1, 10**6)}
    >>> [[str(plane) for plane in part] for part in parts(SamObject(1, 1, masks=masks))]
    [['[0, :, :]', '[1, :, :]'], ['[1000000, :, :]']]
    """
    # The order of their first pixels is that of the planes.
    masks = dict(
        sorted(((_place(plane), mask) for plane, mask in item.masks.items()), key=lambda one: one[0])
    )
    owner = _owners(masks)
    count = int(owner.max(initial=-1)) + 1
    if count < 2:
        return [dict(item.masks)] if count else []
    areas = np.zeros(count, dtype=np.int64)
    found: list[dict[Plane, Mask]] = [{} for _ in range(count)]
    first = 0
    for place, mask in masks.items():
        regions, several = ndimage.label(mask.bits, structure=_TOUCHING)
        # Numbered from 1 on this plane: there may be thousands of parts elsewhere.
        mine, numbers = np.unique(owner[first : first + several], return_inverse=True)
        first += several
        labels = np.append(0, numbers + 1).astype(np.int32)[regions]
        areas[mine] += np.bincount(labels.ravel())[1:]
        for number, box in enumerate(ndimage.find_objects(labels)):
            origin = mask.origin[0] + box[0].start, mask.origin[1] + box[1].start
            found[mine[number]][Plane((*place, None, None))] = Mask(
                origin, labels[box] == number + 1, mask.shape
            )
    return [found[number] for number in np.argsort(-areas, kind="stable")]


def _place(plane: Plane) -> _Place:
    """Where a plane of the last two axes is along the others."""
    return tuple(int(at) for at in plane.index[:-2] if at is not None)


def _owners(masks: Mapping[_Place, Mask]) -> NDArray[np.int64]:
    """To which part each connected region of each plane belongs, both numbered by their first pixels."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    offsets = _offsets(masks)
    # Planes that can still be somebody's neighbours: not all, since labels take more than masks.
    held: dict[_Place, tuple[int, NDArray[np.int32]]] = {}
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    total = 0
    for place, mask in masks.items():
        if place:
            held = {at: one for at, one in held.items() if at[0] >= place[0] - 1}
        regions, several = ndimage.label(mask.bits, structure=_TOUCHING)
        for offset in offsets:
            at = tuple(here + there for here, there in zip(place, offset, strict=True))
            if at in held:
                begin, others = held[at]
                touching = _meeting(mask, regions, masks[at], others)
                pairs.append(touching + np.array([total - 1, begin - 1]))
        held[place] = total, regions
        total += several
    one, other = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(total, total))
    _, owner = connected_components(graph, directed=False)
    _, firsts, numbers = np.unique(owner, return_index=True, return_inverse=True)
    ranks: NDArray[np.int64] = np.argsort(np.argsort(firsts))[numbers]
    return ranks


def _offsets(masks: Mapping[_Place, Mask]) -> list[_Place]:
    """The ways to the neighbours of a plane that come before it."""
    along = zip(*masks, strict=True)
    steps = [(-1, 0, 1) if len(set(positions)) > 1 else (0,) for positions in along]
    return [offset for offset in product(*steps) if offset < (0,) * len(steps)]


def _meeting(
    mask: Mask, regions: NDArray[np.int32], other: Mask, others: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Pairs of regions of two neighbouring planes that touch: shape (N, 2), by their numbers on each."""
    width = int(others.max(initial=0)) + 1

    def pairs(here: Box, there: Box, both: NDArray[np.bool_]) -> NDArray[np.int64]:
        numbers = regions[here][both].astype(np.int64) * width + others[there][both]
        # Most are as the one before: what is left is sorted sooner.
        return np.unique(numbers[np.diff(numbers, prepend=-1) != 0])

    here, there = _common(mask, other, (0, 0))
    found = [pairs(here, there, mask.bits[here] & other.bits[there])]
    # Where both planes have a pixel, its neighbours on either are of the same regions as itself.
    alone, other_alone = mask.bits.copy(), other.bits.copy()
    alone[here] &= ~other.bits[there]
    other_alone[there] &= ~mask.bits[here]
    for shift in product((-1, 0, 1), repeat=2):
        here, there = _common(mask, other, shift)
        both = alone[here] & other_alone[there]
        if both.any():
            found.append(pairs(here, there, both))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), width), axis=1)


def _common(one: Mask, other: Mask, shift: tuple[int, ...]) -> tuple[Box, Box]:
    """What the boxes of two masks have in common once the other is shifted: in the bits of each."""
    start = [max(a, b + by) for a, b, by in zip(one.origin, other.origin, shift, strict=True)]
    stop = [
        min(a + length, b + by + other_length)
        for a, length, b, by, other_length in zip(
            one.origin, one.bits.shape, other.origin, shift, other.bits.shape, strict=True
        )
    ]

    def inside(origin: Sequence[int]) -> Box:
        rows, columns = (
            slice(first - at, max(first, last) - at)
            for first, last, at in zip(start, stop, origin, strict=True)
        )
        return rows, columns

    return inside(one.origin), inside([at + by for at, by in zip(other.origin, shift, strict=True)])
