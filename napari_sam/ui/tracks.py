"""Objects of a series as what napari's Tracks layer shows: centres, and who came from whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation import Plane, SamObject
from napari_sam.inference.mask import Mask

__all__ = ["Centres", "Tracks", "first_axis", "tracks_of"]

_CHUNK = 2**18
"""Pixels whose sums are taken at once: few enough for the cache."""
_GREATEST = 10**7
"""napari has a table as long as the greatest number of a track."""


class Tracks(NamedTuple):
    """What a Tracks layer is given.

    Attributes
    ----------
    data : ndarray, shape (N, 1 + D), float64
        Of each object on each plane of the series: its number, the position along the series' axis, and the
        centre along all axes after that; sorted by number, then by position.
    graph : dict of int to list of int
        By the number of a daughter, that of its mother.
    properties : dict of str to ndarray, shape (N,)
        ``id``, ``area`` in pixels, and the ``parent``'s id, 0 for none.
    """

    data: NDArray[np.float64]
    graph: dict[int, list[int]]
    properties: dict[str, NDArray[np.int64]]


class Centres:
    """Areas and centres of masks; those of objects that were asked about last are remembered."""

    def __init__(self) -> None:
        self._known: dict[int, dict[Plane, tuple[Mask, tuple[float, float, float]]]] = {}

    def of(self, objects: Sequence[SamObject]) -> dict[int, dict[Plane, tuple[float, float, float]]]:
        """Area, row and column of each object on each of its planes, by uid.

        Takes a few hundred bytes a mask, or thrice the pixels of the box of the largest one.
        """
        new: list[tuple[int, Plane, Mask]] = []
        for item in objects:
            known = self._known.get(item.uid, {})
            for plane, mask in item.masks.items():
                before = known.get(plane)
                if before is None or before[0] is not mask:
                    new.append((item.uid, plane, mask))
        found = _sums([mask for _, _, mask in new]).tolist()
        fresh: dict[int, dict[Plane, tuple[Mask, tuple[float, float, float]]]] = {}
        for (uid, plane, mask), (area, row, column) in zip(new, found, strict=True):
            fresh.setdefault(uid, {})[plane] = mask, (area, row, column)
        self._known = {
            item.uid: {
                plane: fresh.get(item.uid, {}).get(plane) or self._known[item.uid][plane]
                for plane in item.masks
            }
            for item in objects
        }
        return {
            uid: {plane: numbers for plane, (_, numbers) in planes.items()}
            for uid, planes in self._known.items()
        }


def first_axis(shape: Sequence[int], wanted: int | None = None) -> int | None:
    """The axis of an image that can be a Tracks layer's time; None if there is none.

    A Tracks layer has two or three axes after its first one.

    Parameters
    ----------
    shape : sequence of int
        Of the image, without colours.
    wanted : int, optional
        The one to be taken if it can be.

    Examples
    --------
    >>> first_axis((10, 64, 64)), first_axis((5, 10, 64, 64)), first_axis((5, 10, 64, 64), 1)
    (0, 0, 1)
    >>> first_axis((64, 64)), first_axis((1, 10, 64, 64)), first_axis((3, 5, 1, 64, 64))
    (None, 1, 1)
    """
    fit = [axis for axis in range(max(0, len(shape) - 4), len(shape) - 2) if shape[axis] > 1]
    return wanted if wanted in fit else next(iter(fit), None)


def tracks_of(
    objects: Sequence[SamObject], axis: int, at: Sequence[int | None], centres: Centres | None = None
) -> Tracks:
    """The ways of objects along an axis of the image.

    Parameters
    ----------
    objects : sequence of SamObject
    axis : int
        Along which they are followed, one of those that :func:`first_axis` returns.
    at : sequence of (int or None), one per axis of the image
        Only masks with these indices along the axes before `axis` count; all others are disregarded.
    centres : Centres, optional
        What is known already.

    Returns
    -------
    Tracks
        An object that is on several planes at one position (in a stack at one time) has one centre there,
        that of all its pixels.

    Examples
    --------
    >>> square = Mask((2, 4), np.ones((3, 5), dtype=bool), (16, 16))
    >>> mother = SamObject(1, 7, masks={Plane((0, None, None)): square})
    >>> daughter = SamObject(2, 9, masks={Plane((1, None, None)): square}, parent=1)
    >>> tracks = tracks_of([mother, daughter], 0, (None, None, None))
    >>> tracks.data.tolist(), tracks.graph, tracks.properties["area"].tolist()
    ([[7.0, 0.0, 3.0, 6.0], [9.0, 1.0, 3.0, 6.0]], {9: [7]}, [15, 15])
    """
    objects = sorted(objects, key=lambda item: item.id)
    known = (centres or Centres()).of(objects)
    owners, rows = _rows(objects, known, axis, at)
    width = len(at) - axis
    if not owners:
        empty = np.zeros(0, dtype=np.int64)
        return Tracks(np.zeros((0, 1 + width)), {}, {"id": empty, "area": empty, "parent": empty})
    # By object and position; what lies on several planes there is one, its centre weighted by areas.
    owner, table = np.array(owners), np.array(rows)
    order = np.lexsort((table[:, 1], owner))
    owner, table = owner[order], table[order]
    starts = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(table[:, 1], prepend=-1).astype(bool))
    area = np.add.reduceat(table[:, 0], starts)
    places = np.add.reduceat(table[:, 1:] * table[:, :1], starts) / area[:, np.newaxis]
    places[:, 0] = table[starts, 1]
    owner = owner[starts]
    ids = np.array([item.id for item in objects], dtype=np.int64)
    numbers = ids if ids[-1] <= _GREATEST else np.arange(1, len(ids) + 1)
    number_of = {item.uid: int(number) for item, number in zip(objects, numbers, strict=True)}
    id_of = {item.uid: item.id for item in objects}
    shown = set(owner.tolist())
    here = {item.uid for index, item in enumerate(objects) if index in shown}
    graph = {
        number_of[item.uid]: [number_of[item.parent]]
        for item in objects
        if item.uid in here and item.parent in here
    }
    parents = np.array([id_of.get(item.parent, 0) for item in objects], dtype=np.int64)
    data = np.column_stack([numbers[owner].astype(float), places])
    properties = {"id": ids[owner], "area": area.astype(np.int64), "parent": parents[owner]}
    return Tracks(data, graph, properties)


def _rows(
    objects: Sequence[SamObject],
    known: Mapping[int, Mapping[Plane, tuple[float, float, float]]],
    axis: int,
    at: Sequence[int | None],
) -> tuple[list[int], list[tuple[float, ...]]]:
    """Of each mask that counts, whose it is, and its area, its place along the axes from `axis` on."""
    before = tuple(at[:axis])
    owners: list[int] = []
    rows: list[tuple[float, ...]] = []
    for number, item in enumerate(objects):
        for plane, (area, row, column) in known[item.uid].items():
            index = plane.index
            if index[:axis] == before and area:
                owners.append(number)
                rows.append((area, *index[axis:-2], row, column))  # type: ignore[arg-type]
    return owners, rows


def _sums(masks: Sequence[Mask]) -> NDArray[np.float64]:
    """Area, mean row and mean column of masks, shape (N, 3)."""
    parts = [_sums_at_once(some) for some in _chunks(masks)]
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def _chunks(masks: Sequence[Mask]) -> Iterator[Sequence[Mask]]:
    """Masks in groups of at most so many pixels, or of a single one."""
    ends = np.cumsum([mask.bits.size for mask in masks])
    first = 0
    while first < len(masks):
        before = int(ends[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        yield masks[first:stop]
        first = stop


def _sums_at_once(masks: Sequence[Mask]) -> NDArray[np.float64]:
    """The same for some masks: row by row, then mask by mask."""
    result = np.zeros((len(masks), 3))
    there = [index for index, mask in enumerate(masks) if mask.bits.size]
    if not there:
        return result
    masks = [masks[index] for index in there]
    heights, widths = np.array([mask.bits.shape for mask in masks]).T
    bits = np.concatenate([mask.bits.ravel() for mask in masks])
    width_of_row = np.repeat(widths, heights)
    row_starts = np.cumsum(width_of_row) - width_of_row
    first_rows = np.cumsum(heights) - heights
    # Counted in 32 bits: no row and no mask has more pixels than that.
    in_row = np.add.reduceat(bits, row_starts, dtype=np.int32)
    place = np.arange(bits.size, dtype=np.int32)
    place -= np.repeat(row_starts.astype(np.int32), width_of_row)
    place *= bits
    column_sums = np.add.reduceat(np.add.reduceat(place, row_starts, dtype=np.int64), first_rows)
    row_number = np.arange(len(width_of_row)) - np.repeat(first_rows, heights)
    area = np.add.reduceat(in_row, first_rows, dtype=np.int64)
    row_sums = np.add.reduceat(in_row * row_number, first_rows)
    origins = np.array([mask.origin for mask in masks])
    result[there, 0] = area
    # A mask that is not empty has a pixel in its box.
    result[there, 1] = row_sums / area + origins[:, 0]
    result[there, 2] = column_sums / area + origins[:, 1]
    return result
