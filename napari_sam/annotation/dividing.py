"""The parts of an object that divides, each followed along the axis on which it does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask

__all__ = ["followed_parts"]


def followed_parts(masks: Mapping[Plane, Mask], axis: int) -> list[dict[Plane, Mask]]:
    """The connected parts that an object has at its first position along an axis, and what becomes of them.

    From one position to the next, a connected region belongs to the part that it overlaps most, or else to
    the nearest one. A region in which several parts met is shared out: each pixel goes to the part that was
    nearest before. Pixels that touch at a corner are connected.

    Parameters
    ----------
    masks : mapping of Plane to Mask
        On planes of the last two axes.
    axis : int
        One of the others: usually time.

    Returns
    -------
    list of dict of Plane to Mask
        The part that is largest at the first position comes first. They share no pixel, and are together what
        was given. One position in the box around the object is in memory at a time.

    Examples
    --------
    >>> def row(text): return Mask.from_array([[c == "x" for c in text]])
    >>> cell = [row("..xx.xxx.."), row(".xxxxxxx.."), row("xx......xx")]
    >>> parts = followed_parts({Plane((t, None, None)): mask for t, mask in enumerate(cell)}, 0)
    >>> [[mask.bbox_xywh[::2] for mask in part.values()] for part in parts]
    [[(5, 3), (5, 3), (8, 2)], [(2, 2), (1, 4), (0, 2)]]
    """
    at: defaultdict[int, dict[Plane, Mask]] = defaultdict(dict)
    for plane, mask in masks.items():
        at[_along(plane, axis)][plane] = mask
    if not at:
        return []
    frame = _Frame(masks, axis)
    first = min(at)
    before, count = ndimage.label(frame.bits(at[first]), structure=frame.touching)
    order = np.argsort(-np.bincount(before.ravel(), minlength=count + 1)[1:], kind="stable")
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[order + 1] = np.arange(1, count + 1)
    before = numbers[before]
    parts: list[dict[Plane, Mask]] = [{} for _ in range(count)]
    for position in sorted(at):
        bits = frame.bits(at[position])
        labels = before if position == first else _followed(before, bits, count, frame.touching)
        for plane in at[position]:
            for number, mask in frame.masks(labels, plane).items():
                parts[number - 1][plane] = mask
        # A part that is hidden for a while is looked for where it was seen last.
        gone = ~np.isin(before, np.unique(labels)) & (labels == 0)
        before = np.where(gone, before, labels)
    return parts


def _along(plane: Plane, axis: int) -> int:
    at = plane.index[axis]
    assert at is not None
    return at


class _Frame:
    """The box around all masks, at one position along the axis."""

    def __init__(self, masks: Mapping[Plane, Mask], axis: int) -> None:
        self.axis = axis
        boxes = np.array([mask.box_xyxy for mask in masks.values()])
        self.left, self.top = (int(n) for n in boxes[:, :2].min(axis=0))
        right, bottom = (int(n) + 1 for n in boxes[:, 2:].max(axis=0))
        self.shape = next(iter(masks.values())).shape
        places = np.array([self._others(plane) for plane in masks], dtype=np.int64)
        self.low = places.min(axis=0)
        sides = places.max(axis=0) - self.low + 1
        self.size = (*(int(n) for n in sides), bottom - self.top, right - self.left)
        self.touching = np.ones((3,) * len(self.size))
        self.rows, self.columns = slice(self.top, bottom), slice(self.left, right)

    def _others(self, plane: Plane) -> list[int]:
        """Where a plane is along the axes that are neither the one of time nor in the plane."""
        return [at for axis, at in enumerate(plane.index) if at is not None and axis != self.axis]

    def _place(self, plane: Plane) -> tuple[int, ...]:
        return tuple((np.array(self._others(plane), dtype=np.int64) - self.low).tolist())

    def bits(self, masks: Mapping[Plane, Mask]) -> NDArray[np.bool_]:
        whole = np.zeros(self.size, dtype=bool)
        for plane, mask in masks.items():
            whole[self._place(plane)] = mask.bits_in(self.rows, self.columns)
        return whole

    def masks(self, labels: NDArray[np.integer], plane: Plane) -> dict[int, Mask]:
        """The masks of the parts on one plane."""
        here = labels[self._place(plane)]
        found = {}
        for number, box in enumerate(ndimage.find_objects(here), 1):
            if box is not None:
                origin = self.top + box[0].start, self.left + box[1].start
                found[number] = Mask(origin, here[box] == number, self.shape)
        return found


def _followed(
    before: NDArray[np.integer], bits: NDArray[np.bool_], count: int, touching: NDArray[np.float64]
) -> NDArray[np.integer]:
    """To which part each pixel belongs, after another position where that is known."""
    where = ndimage.distance_transform_edt(before == 0, return_distances=False, return_indices=True)
    nearest = before[tuple(where)]
    regions, found = ndimage.label(bits, structure=touching)
    overlap = np.zeros((found + 1, count + 1), dtype=np.int64)
    np.add.at(overlap, (regions[bits], before[bits]), 1)
    overlap[:, 0] = 0
    near = np.zeros_like(overlap)
    np.add.at(near, (regions[bits], nearest[bits]), 1)
    owner = np.where(overlap.any(axis=1), overlap.argmax(axis=1), near.argmax(axis=1))
    owner[0] = 0
    labels: NDArray[np.integer] = owner[regions].astype(before.dtype)
    for lost in np.setdiff1d(np.unique(before), [0, *owner]):
        region = overlap[:, lost].argmax()
        if overlap[region, lost]:
            labels[(regions == region) & (nearest == lost)] = lost
    return labels
