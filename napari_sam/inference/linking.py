"""Masks of neighbouring planes become objects of the stack: matched one to one by how much they overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.mask import Mask

__all__ = ["LINK_IOU", "Linker", "link_planes"]

LINK_IOU = 0.3
"""How much masks of neighbouring planes overlap at least to be one object, if nobody says otherwise."""

_CHUNK = 2**20
"""Pairs of boxes, and pixels that two boxes share, that are compared at a time: some megabytes per array."""


def link_planes(planes: Sequence[Sequence[Mask]], least_iou: float = LINK_IOU) -> list[NDArray[np.int64]]:
    """Number the objects of a stack whose planes were segmented one by one.

    Stitching by overlap as in Cellpose (Stringer et al. 2021, "3D segmentation"), with one difference: what a
    mask goes on as is not decided greedily, but for all masks of two planes at once, so that the sum of all
    IoUs is the greatest that there is. A mask without a partner ends an object or begins one.

    Parameters
    ----------
    planes : sequence of (sequence of Mask)
        In order; masks of one plane may overlap.
    least_iou : float, default 0.3
        Greater than 0, at most 1. Masks that overlap less are not one object.

    Returns
    -------
    list of ndarray, shape (N,), int64
        For each plane, the object of each of its N masks. Objects are counted from 0 in the order in which
        they appear.

    Raises
    ------
    ValueError
        If `least_iou` is not in that range, or planes differ in size.

    Examples
    --------
    >>> left, right = np.zeros((2, 6, 9), dtype=bool)
    >>> left[1:5, 0:4], right[1:5, 5:9] = True, True
    >>> a, b = Mask.from_array(left), Mask.from_array(right)
    >>> [numbers.tolist() for numbers in link_planes([[a], [b, a], [b], [a]])]
    [[0], [1, 0], [1], [2]]
    """
    linker = Linker(least_iou)
    return [linker.add(masks) for masks in planes]


class Linker:
    """Numbers objects plane by plane; only the masks of the last plane are kept in memory.

    Parameters
    ----------
    least_iou : float, default 0.3
        As of :func:`link_planes`.

    Raises
    ------
    ValueError
        If `least_iou` is not greater than 0 and at most 1.
    """

    def __init__(self, least_iou: float = LINK_IOU) -> None:
        if not 0 < least_iou <= 1:
            raise ValueError(f"Masks are linked from an IoU above 0 and up to 1 on, not {least_iou}.")
        self._least = least_iou
        self._last = _Flat(())
        self._numbers = np.zeros(0, dtype=np.int64)
        self._count = 0

    @property
    def count(self) -> int:
        """How many objects there are by now."""
        return self._count

    def skip(self) -> None:
        """The plane that comes next is no neighbour of the last one."""
        self._last, self._numbers = _Flat(()), np.zeros(0, dtype=np.int64)

    def add(self, masks: Sequence[Mask]) -> NDArray[np.int64]:
        """The object of each mask of the next plane: shape (N,), int64.

        Raises
        ------
        ValueError
            If the plane is of another size than the last one.
        """
        numbers = np.full(len(masks), -1, dtype=np.int64)
        plane = _Flat(masks)
        before, after = _matched(self._last, plane, self._least)
        numbers[after] = self._numbers[before]
        new = np.flatnonzero(numbers < 0)
        numbers[new] = self._count + np.arange(len(new))
        self._count += len(new)
        self._last, self._numbers = plane, numbers
        return numbers.copy()


def _matched(one: _Flat, other: _Flat, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of masks of two planes, each mask in one at most: the best there are, all in all."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second, iou = _overlapping(one, other, least)
    if not len(first):
        return first, second
    # Who shares no partner, however far away, does not matter to the others.
    size = len(one.masks) + len(other.masks)
    graph = coo_array(
        (np.ones(len(first), dtype=np.int8), (first, len(one.masks) + second)), shape=(size, size)
    )
    part = connected_components(graph, directed=False)[1][first]
    order = np.argsort(part, kind="stable")
    starts = np.flatnonzero(np.append(True, part[order][1:] != part[order][:-1]))
    lengths = np.diff(starts, append=len(order))
    chosen = [order[starts[lengths == 1]]]
    for start, length in zip(starts[lengths > 1], lengths[lengths > 1], strict=True):
        among = order[start : start + length]
        chosen.append(among[_assigned(one, other, first[among], second[among], iou[among])])
    kept = np.concatenate(chosen)
    return first[kept], second[kept]


def _assigned(
    one: _Flat,
    other: _Flat,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    iou: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Which of some pairs make the greatest sum, each mask being in one pair at most."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = _in_place_order(one.masks, first), _in_place_order(other.masks, second)
    places = {index: at for at, index in enumerate(rows)}, {index: at for at, index in enumerate(columns)}
    row = np.array([places[0][index] for index in first.tolist()])
    column = np.array([places[1][index] for index in second.tolist()])
    pair = np.full((len(rows), len(columns)), -1, dtype=np.intp)
    pair[row, column] = np.arange(len(first))
    gain = np.zeros(pair.shape)
    gain[row, column] = iou
    found: NDArray[np.intp] = pair[linear_sum_assignment(gain, maximize=True)]
    return found[found >= 0]


def _in_place_order(masks: Sequence[Mask], indices: NDArray[np.intp]) -> list[int]:
    """Masks in an order that does not depend on how they were numbered: of equal sums, one is taken."""
    # Masks that this leaves in any order are equal, and it does not matter which is which.
    return sorted(set(indices.tolist()), key=lambda i: (*masks[i].bbox_xywh, masks[i].bits.tobytes()))


def _overlapping(
    one: _Flat, other: _Flat, least: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Pairs of masks of two planes with at least an IoU, and that."""
    if one.masks and other.masks and one.masks[0].shape != other.masks[0].shape:
        raise ValueError(f"Planes of {one.masks[0].shape} and {other.masks[0].shape} cannot be linked.")
    first, second = _near(one, other, least)
    common = _common(one, other, first, second)
    iou = common / np.maximum(one.areas[first] + other.areas[second] - common, 1)
    enough = iou >= least
    return first[enough], second[enough], iou[enough]


class _Flat:
    """All masks of a plane: their boxes, areas, and the bits of the boxes one after the other."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        self.masks = tuple(masks)
        self.boxes = np.array([mask.bbox_xywh for mask in masks], dtype=np.int64).reshape(-1, 4)
        self.boxes[:, 2:] += self.boxes[:, :2]
        self.bits = np.concatenate([np.zeros(0, dtype=bool), *(mask.bits.ravel() for mask in masks)])
        x0, y0, x1, y1 = self.boxes.T
        self.widths = x1 - x0
        ends = np.cumsum(self.widths * (y1 - y0))
        self.starts = np.append(0, ends)[:-1]
        # Every box that is not empty has a foreground pixel in each row, and `reduceat` needs some pixel.
        self.areas = np.zeros(len(masks), dtype=np.int64)
        some = np.flatnonzero(self.widths)
        if len(some):
            self.areas[some] = np.add.reduceat(self.bits, self.starts[some], dtype=np.int64)


def _near(one: _Flat, other: _Flat, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs whose boxes and areas do not rule out such an IoU."""
    first, second = [np.zeros(0, dtype=np.intp)], [np.zeros(0, dtype=np.intp)]
    # Of the few that meet only, it is computed how far: comparing is all that is done with all pairs.
    a, b = one.boxes.astype(np.int32).T, other.boxes.astype(np.int32).T
    step = max(1, _CHUNK // max(len(other.boxes), 1))
    for start in range(0, len(one.boxes), step):
        here = slice(start, start + step)
        meet = np.less.outer(a[0, here], b[2])
        meet &= np.greater.outer(a[2, here], b[0])
        meet &= np.less.outer(a[1, here], b[3])
        meet &= np.greater.outer(a[3, here], b[1])
        row, column = np.divmod(np.flatnonzero(meet), len(other.boxes))
        row += start
        x0, y0 = np.maximum(one.boxes[row, :2], other.boxes[column, :2]).T
        x1, y1 = np.minimum(one.boxes[row, 2:], other.boxes[column, 2:]).T
        areas = one.areas[row], other.areas[column]
        most = np.minimum((x1 - x0) * (y1 - y0), np.minimum(*areas))
        possible = most >= least * (areas[0] + areas[1] - most)
        first.append(row[possible])
        second.append(column[possible])
    return np.concatenate(first), np.concatenate(second)


def _common(one: _Flat, other: _Flat, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.int64]:
    """How many pixels the masks of each pair share."""
    common = np.zeros(len(first), dtype=np.int64)
    a, b = one.boxes[first], other.boxes[second]
    x0, y0 = np.maximum(a[:, :2], b[:, :2]).T
    x1, y1 = np.minimum(a[:, 2:], b[:, 2:]).T
    heights, widths = y1 - y0, x1 - x0
    # One row of what two boxes share at a time: where it begins in the bits of each.
    pairs = np.repeat(np.arange(len(first)), heights)
    rows = _counted(heights) + y0[pairs]
    mine = one.starts[first[pairs]] + (rows - a[pairs, 1]) * one.widths[first[pairs]]
    mine += (x0 - a[:, 0])[pairs]
    theirs = other.starts[second[pairs]] + (rows - b[pairs, 1]) * other.widths[second[pairs]]
    theirs += (x0 - b[:, 0])[pairs]
    lengths = widths[pairs]
    # Rows are shorter than a chunk, or few.
    chunks = np.append(0, np.cumsum(lengths)) // _CHUNK
    for rows_of in np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(chunks[:-1])) + 1):
        length = lengths[rows_of]
        along = _counted(length)
        both = one.bits[np.repeat(mine[rows_of], length) + along]
        both &= other.bits[np.repeat(theirs[rows_of], length) + along]
        owners = np.repeat(pairs[rows_of], length)[both]
        common += np.bincount(owners, minlength=len(common))
    return common


def _counted(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... up to each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
