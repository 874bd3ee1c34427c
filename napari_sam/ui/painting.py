"""Objects in a Labels layer: an object claims only background, and gives back only what it claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from napari_sam.annotation.document import SamObject
from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["Painter"]


class Painter:
    """Writes the masks of objects to one Labels layer, in the smallest box that changes.

    Parameters
    ----------
    labels : napari.layers.Labels
        Of the image's shape.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._claimed: WeakKeyDictionary[SamObject, dict[Plane, Mask]] = WeakKeyDictionary()

    @property
    def greatest_id(self) -> int:
        """The greatest label that the layer can hold."""
        return int(np.iinfo(self.labels.data.dtype).max)

    def paint(self, item: SamObject, plane: Plane) -> None:
        """Show the object's mask on the plane, or none if it has none there.

        Pixels that hold another label stay as they are, and so do pixels that somebody painted by hand, with
        whichever label, since the object claimed them.
        """
        claims = self._claimed.setdefault(item, {})
        old, new = claims.get(plane), item.masks.get(plane)
        box = _around(old, new)
        if box is None or item.id > self.greatest_id:
            return
        (top, left), (height, width) = box
        inside = slice(top, top + height), slice(left, left + width)
        row, column = plane.axes
        slices = list(plane.slices)
        slices[row], slices[column] = inside
        present = np.asarray(self.labels.data[tuple(slices)])
        held = _bits(old, box) & (present == item.id)
        wanted = _bits(new, box) & (held | (present == 0))
        changed = held != wanted
        rows, columns = np.nonzero(changed)
        if len(rows):
            index = [np.full(len(rows), 0 if at is None else at) for at in plane.index]
            index[row], index[column] = rows + top, columns + left
            self.labels.data_setitem(tuple(index), np.where(wanted[rows, columns], item.id, 0))
        if new is None:
            claims.pop(plane, None)
        else:
            claims[plane] = Mask((top, left), wanted, new.shape)


def _around(*masks: Mask | None) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Origin and size of the box around masks; None if there is nothing in them."""
    boxes = [m.box_xyxy for m in masks if m is not None and not m.is_empty]
    corners = np.array([b for b in boxes if b is not None])
    if not len(corners):
        return None
    left, top = (int(c) for c in corners[:, :2].min(axis=0))
    right, bottom = (int(c) for c in corners[:, 2:].max(axis=0))
    return (top, left), (bottom - top + 1, right - left + 1)


def _bits(mask: Mask | None, box: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """The mask inside a box that contains it."""
    (top, left), size = box
    bits = np.zeros(size, dtype=bool)
    if mask is not None and not mask.is_empty:
        rows, columns = mask.slices
        bits[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = mask.bits
    return bits
