"""Which object has which pixels: the masks of all objects, by plane, found by their boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.inference.mask import Mask

__all__ = ["Box", "Territory", "canonical_planes", "is_canonical", "planes_of_pixels", "section", "sections"]

Box = tuple[slice, slice]
"""Rows and columns of a plane."""


def is_canonical(plane: Plane) -> bool:
    """Whether the plane is spanned by the last two axes of the image."""
    return plane.index[-1] is None and plane.index[-2] is None


def sections(plane: Plane, mask: Mask, shape: Sequence[int]) -> dict[Plane, Mask]:
    """The same pixels on planes of the last two axes.

    Parameters
    ----------
    plane : Plane
        Of an image of the given shape; any two axes may span it.
    mask : Mask
    shape : sequence of int
        Of the image, in pixels, without colours.

    Examples
    --------
    >>> import numpy as np
    >>> upright = Mask((1, 2), np.ones((2, 3), bool), (9, 9))   # rows are z = 1 and 2, columns are y = 2 to 4
    >>> {str(p): m.area for p, m in sections(Plane((None, None, 7)), upright, (9, 9, 9)).items()}
    {'[1, :, :]': 3, '[2, :, :]': 3}
    """
    if mask.is_empty:
        return {}
    if is_canonical(plane):
        return {plane: mask}
    rows, columns = np.nonzero(mask.bits)
    index = [np.full(len(rows), 0 if at is None else at) for at in plane.index]
    row, column = plane.axes
    index[row], index[column] = rows + mask.origin[0], columns + mask.origin[1]
    return {on: Mask.from_pixels(y, x, (shape[-2], shape[-1])) for on, y, x in planes_of_pixels(index)}


def section(plane: Plane, mask: Mask, on: Plane) -> tuple[tuple[int, int], NDArray[np.bool_]] | None:
    """The bits of a mask that lie on one plane of the last two axes, and where they begin there.

    Parameters
    ----------
    plane : Plane
        Where the mask is; any two axes may span it.
    mask : Mask
    on : Plane
        Of the last two axes.

    Returns
    -------
    tuple, or None
        None if the two do not meet. There may be no foreground among the bits.

    Examples
    --------
    >>> upright = Mask((1, 2), np.ones((2, 3), bool), (9, 9))   # rows are z = 1 and 2, columns are y = 2 to 4
    >>> origin, bits = section(Plane((None, None, 7)), upright, Plane((1, None, None)))
    >>> origin, bits.shape
    ((2, 7), (3, 1))
    """
    axes, bits = plane.axes, mask.bits
    for axis, at in enumerate(on.index[:-2]):
        assert at is not None
        if axis not in axes:
            if plane.index[axis] != at:
                return None
            continue
        side = axes.index(axis)
        inside = at - mask.origin[side]
        if not 0 <= inside < bits.shape[side]:
            return None
        bits = bits[inside : inside + 1] if side == 0 else bits[:, inside : inside + 1]
    row, column = (
        mask.origin[axes.index(axis)] if at is None else at
        for axis, at in enumerate(plane.index)
        if axis >= plane.ndim - 2
    )
    # What is left of the columns of an upright plane may be rows here.
    return (row, column), bits.T if axes[1] == plane.ndim - 2 else bits


def planes_of_pixels(
    index: Sequence[NDArray[np.integer]],
) -> Iterator[tuple[Plane, NDArray[np.integer], NDArray[np.integer]]]:
    """Pixels of an n-D image, sorted by plane of the last two axes: the plane, its rows and its columns.

    Parameters
    ----------
    index : sequence of ndarray, shape (N,), int
        One array per axis of the image.
    """
    *leading, rows, columns = (np.asarray(i) for i in index)
    if not len(rows):
        return
    if not leading:
        yield Plane((None, None)), rows, columns
        return
    where, group = np.unique(np.stack(leading, axis=1), axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(group.ravel(), minlength=len(where)))
    for at, chosen in zip(where, np.split(order, ends[:-1]), strict=True):
        yield Plane((*(int(i) for i in at), None, None)), rows[chosen], columns[chosen]


def canonical_planes(shape: Sequence[int]) -> Iterator[Plane]:
    """All planes of the last two axes of an image of this shape, in order."""
    for at in np.ndindex(*shape[:-2]):
        yield Plane((*at, None, None))


class _OnPlane:
    """The masks on one plane, and their boxes in one array."""

    def __init__(self) -> None:
        self.masks: dict[int, Mask] = {}
        self._rows: dict[int, int] = {}
        self._owners: list[int] = []
        # First and last rows and columns: one line each, to be compared fast.
        self._boxes = np.zeros((4, 8), dtype=np.int64)

    def set(self, owner: int, mask: Mask | None) -> None:
        if mask is None:
            self.masks.pop(owner)
            row = self._rows.pop(owner)
            last = self._owners.pop()
            if last != owner:
                self._owners[row] = last
                self._rows[last] = row
                self._boxes[:, row] = self._boxes[:, len(self._owners)]
            return
        if owner not in self._rows:
            self._rows[owner] = len(self._owners)
            self._owners.append(owner)
            if len(self._owners) > self._boxes.shape[1]:
                self._boxes = np.concatenate([self._boxes, np.zeros_like(self._boxes)], axis=1)
        self.masks[owner] = mask
        rows, columns = mask.slices
        self._boxes[:, self._rows[owner]] = rows.start, rows.stop, columns.start, columns.stop

    def near(self, box: Box) -> list[int]:
        """Owners whose boxes meet a box."""
        rows, columns = box
        top, bottom, left, right = self._boxes[:, : len(self._owners)]
        meets = (top < rows.stop) & (bottom > rows.start) & (left < columns.stop) & (right > columns.start)
        return [self._owners[i] for i in meets.nonzero()[0]]


class Territory:
    """The pixels of objects, disjoint, on planes of the last two axes.

    Finding the objects in a box takes one comparison of arrays, however many objects there are.
    """

    def __init__(self) -> None:
        self._planes: dict[Plane, _OnPlane] = {}

    @property
    def planes(self) -> list[Plane]:
        """Planes with at least one mask."""
        return list(self._planes)

    def set(self, owner: int, plane: Plane, mask: Mask | None) -> None:
        """An object has these pixels on a plane now; None for none."""
        held = self._planes.get(plane)
        if held is None:
            if mask is None:
                return
            held = self._planes[plane] = _OnPlane()
        if mask is None and owner not in held.masks:
            return
        held.set(owner, mask)
        if not held.masks:
            del self._planes[plane]

    def near(self, plane: Plane, box: Box) -> dict[int, Mask]:
        """The masks whose boxes meet a box, by owner."""
        held = self._planes.get(plane)
        return {} if held is None else {owner: held.masks[owner] for owner in held.near(box)}

    def owner_at(self, plane: Plane, row: int, column: int) -> int | None:
        """Whose pixel this is."""
        box = slice(row, row + 1), slice(column, column + 1)
        return next((o for o, mask in self.near(plane, box).items() if mask.bits_in(*box)[0, 0]), None)

    def values_in(
        self, plane: Plane, box: Box, values: Mapping[int, int], dtype: np.dtype | type = np.int64
    ) -> NDArray[np.integer]:
        """The values of the owners of a box of pixels, 0 where nobody is."""
        rows, columns = box
        result = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=dtype)
        for owner, mask in self.near(plane, box).items():
            (row, column), (height, width) = mask.origin, mask.bits.shape
            top, left = max(row, rows.start), max(column, columns.start)
            bottom, right = min(row + height, rows.stop), min(column + width, columns.stop)
            part = result[
                top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
            ]
            part[mask.bits[top - row : bottom - row, left - column : right - column]] = values[owner]
        return result
