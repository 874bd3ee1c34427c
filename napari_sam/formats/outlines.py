"""Masks as polygons along the edges of their pixels.

All corners of a mask are found at once. In a row of corners, the first and the second are joined by an edge,
the third and the fourth, and so on; in a column likewise: that every edge has two ends is all that there is
to tracing. Where two pixels of a mask meet at their corners only, there are two corners at one place, one for
each pixel, so that 4-connected parts have rings of their own. The order of corners along the rings is found
by pointer jumping (Wyllie 1979), which takes as many steps as the longest ring has binary digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.inference.mask import Mask

__all__ = ["Polygon", "Ring", "outlines"]

Ring = NDArray[np.int32]
"""Vertices (x, y) between pixels, shape (N, 2): pixel (0, 0) reaches from 0 to 1. None is there twice."""

Polygon = tuple[Ring, list[Ring]]
"""A shell and its holes."""

_PIXELS = 2**24
"""In the boxes of what is traced at once, unless one mask has more."""

# What is around a corner: 1 for a pixel above left, 2 above right, 4 below left, 8 below right.
_RISING, _FALLING = 2 + 4, 1 + 8
_VISITS = np.zeros(16, dtype=np.uint8)
_VISITS[[1, 2, 4, 8, 7, 11, 13, 14]] = 1
_VISITS[[_RISING, _FALLING]] = 2
# Corners that are left along a row. With the mask to the right of who walks, as one sees it on a screen.
_LEFT_ALONG_ROW = np.zeros(16, dtype=bool)
_LEFT_ALONG_ROW[[1, 8, 11, 13, _FALLING]] = True


def outlines(masks: Sequence[Mask]) -> list[list[Polygon]]:
    """The polygons that cover just the pixels of each mask.

    Parameters
    ----------
    masks : sequence of Mask

    Returns
    -------
    list of list of (Ring, list of Ring)
        For each mask a polygon for every 4-connected part, in order of their first pixels: shell and holes,
        with vertices (x, y) of shape (N, 2), int32, at the corners of pixels. Every vertex is a turn, the
        first is not repeated at the end, and no ring visits a place twice. Shells are counter-clockwise where
        y points up, as in GeoJSON (their signed area is positive; on a screen, where y points down, they look
        clockwise), and holes clockwise. Polygons are valid in the sense of OGC and shapely: holes touch their
        shell and each other in single points at most.

    Examples
    --------
    >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    >>> [[(shell, holes)]] = outlines([Mask((0, 0), ring, (4, 4))])
    >>> shell.tolist(), [hole.tolist() for hole in holes]
    ([[0, 0], [3, 0], [3, 3], [0, 3]], [[[1, 1], [1, 2], [2, 2], [2, 1]]])
    """
    return [polygons for group in _groups(masks) for polygons in _traced(group)]


def _groups(masks: Sequence[Mask]) -> Iterator[list[Mask]]:
    """Masks in order, as many at once as memory is meant for."""
    group: list[Mask] = []
    pixels = 0
    for mask in masks:
        if group and pixels + mask.bits.size > _PIXELS:
            yield group
            group, pixels = [], 0
        group.append(mask)
        pixels += mask.bits.size
    if group:
        yield group


def _traced(masks: Sequence[Mask]) -> list[list[Polygon]]:
    """The polygons of masks that are few enough."""
    found = [_corners(mask.bits) for mask in masks]
    kinds = np.concatenate([kinds for _, _, kinds in found])
    visits = _VISITS[kinds]
    kinds = np.repeat(kinds, visits)
    y = np.repeat(np.concatenate([rows for rows, _, _ in found]), visits)
    x = np.repeat(np.concatenate([columns for _, columns, _ in found]), visits)
    each = np.repeat(np.arange(len(masks), dtype=np.int32), [len(rows) for rows, _, _ in found])
    owner = np.repeat(each, visits)
    follower = _followers(kinds, x, owner, masks)
    heads, starts, order = _rings(follower)
    origins = np.array([mask.origin for mask in masks], dtype=np.int32).reshape(-1, 2)
    points = np.stack([x + origins[owner, 1], y + origins[owner, 0]], axis=1)[order]
    rings = np.split(points, starts[1:])
    is_shell = _LEFT_ALONG_ROW[kinds[heads]]
    bounds = np.searchsorted(owner[heads], np.arange(len(masks) + 1)).tolist()
    result = []
    for number, mask in enumerate(masks):
        mine = slice(bounds[number], bounds[number + 1])
        shells = is_shell[mine]
        result.append(_nested(rings[mine], shells, mask.bits, y[heads[mine]], x[heads[mine]]))
    return result


def _corners(bits: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """Rows, columns and kinds of the corners of one mask, row by row."""
    height, width = bits.shape
    framed = np.zeros((height + 2, width + 2), dtype=np.uint8)
    framed[1:-1, 1:-1] = bits
    stacked = framed[:-1] | framed[1:] << 2
    kinds = (stacked[:, :-1] | stacked[:, 1:] << 1).ravel()
    where = np.flatnonzero(_VISITS[kinds])
    rows, columns = np.divmod(where, width + 1)
    return rows.astype(np.int32), columns.astype(np.int32), kinds[where]


def _followers(
    kinds: NDArray[np.uint8], x: NDArray[np.int32], owner: NDArray[np.int32], masks: Sequence[Mask]
) -> NDArray[np.int32]:
    """The next corner of each, along rings that visit no place twice."""
    itself = np.arange(len(kinds), dtype=np.int32)
    offsets = np.cumsum([0, *(mask.bits.shape[1] + 1 for mask in masks)])
    by_column = np.argsort(offsets[owner] + x, kind="stable").astype(np.int32)
    firsts = np.flatnonzero(_VISITS[kinds] == 2)[::2]
    # Of two corners at one place, the first is the end of the edge on the left. It is the end of that above,
    # too, where pixels are above left and below right; where they are above right and below left, the second
    # one is.
    rising = firsts[kinds[firsts] == _RISING]
    place = np.empty_like(itself)
    place[by_column] = itself
    place[rising], place[rising + 1] = place[rising + 1], place[rising]
    by_column[place] = itself
    along_column = by_column[place ^ 1]
    follower = np.where(_LEFT_ALONG_ROW[kinds], itself ^ 1, along_column)
    if len(firsts):
        # A part that meets itself at a corner: its ring falls apart into two where each visit goes on as the
        # other.
        least, _ = _least(follower)
        pinched = firsts[least[firsts] == least[firsts + 1]]
        follower[pinched], follower[pinched + 1] = follower[pinched + 1], follower[pinched]
    return follower


def _least(follower: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Of each node the least one in its ring, and how many steps it is to that."""
    least = np.arange(len(follower), dtype=np.int32)
    steps = np.zeros_like(least)
    ahead, stride = follower, 1
    while True:
        # Known is the least of the next `stride` nodes. Where that cannot be improved, it is that of the
        # ring.
        other = least[ahead]
        better = np.flatnonzero(other < least)
        if not len(better):
            return least, steps
        steps[better] = steps[ahead[better]] + stride
        least[better] = other[better]
        ahead = ahead[ahead]
        stride *= 2


def _rings(follower: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The least node of each ring, where the ring begins in the order of all, and that order."""
    least, steps = _least(follower)
    is_head = least == np.arange(len(follower), dtype=np.int32)
    heads = np.flatnonzero(is_head)
    ring = (np.cumsum(is_head) - 1)[least]
    lengths = np.bincount(ring, minlength=len(heads))
    starts = np.cumsum(lengths) - lengths
    place = starts[ring] + (lengths[ring] - steps) % lengths[ring]
    order = np.empty(len(follower), dtype=np.intp)
    order[place] = np.arange(len(follower))
    return heads, starts, order


def _nested(
    rings: list[Ring],
    is_shell: NDArray[np.bool_],
    bits: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
) -> list[Polygon]:
    """The rings of one mask, whose first corners are at y and x in its box, as polygons."""
    shells = np.flatnonzero(is_shell)
    polygons: list[Polygon] = [(rings[at], []) for at in shells.tolist()]
    if len(shells) == len(rings):
        return polygons
    holes = np.flatnonzero(~is_shell)
    if len(shells) == 1:
        return [(polygons[0][0], [rings[at] for at in holes.tolist()])]
    # Below the first corner of a shell is a pixel of its part; above that of a hole, of the part around it.
    parts, count = ndimage.label(bits)
    polygon_of = np.empty(count + 1, dtype=np.intp)
    polygon_of[parts[y[shells], x[shells]]] = np.arange(len(shells))
    for at, polygon in zip(holes.tolist(), polygon_of[parts[y[holes] - 1, x[holes]]].tolist(), strict=True):
        polygons[polygon][1].append(rings[at])
    return polygons
