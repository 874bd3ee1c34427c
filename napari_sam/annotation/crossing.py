"""What masks on planes of the last two axes are on a plane that crosses them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotation.plane import Plane
from napari_sam.annotation.series import Series
from napari_sam.inference.mask import Mask

__all__ = ["crossed", "cut"]


def cut(masks: Mapping[Plane, Mask], plane: Plane, size: tuple[int, int]) -> Mask:
    """The pixels that lie on a plane, as a mask of that plane: what :func:`~.territory.sections` undoes.

    Parameters
    ----------
    masks : mapping of Plane to Mask
        On planes of the last two axes.
    plane : Plane
        Any two axes may span it.
    size : tuple of int
        Its height and width, in pixels.

    Examples
    --------
    >>> square = Mask((1, 2), np.ones((2, 3), bool), (9, 9))
    >>> upright = cut({Plane((z, None, None)): square for z in (4, 5)}, Plane((None, 2, None)), (9, 9))
    >>> upright.box_xyxy, upright.area
    ((2, 4, 4, 5), 6)
    """
    row, column = plane.axes
    rows, columns = [], []
    for on, mask in masks.items():
        part = _part(on, mask, plane, None)
        if part is None:
            continue
        (top, left), bits = part
        y, x = np.nonzero(bits)
        index = [*(np.full(len(y), at) for at in on.index[:-2]), y + top, x + left]
        rows.append(index[row])
        columns.append(index[column])
    if not rows:
        return Mask.empty(size)
    return Mask.from_pixels(np.concatenate(rows), np.concatenate(columns), size)


def crossed(on: Plane, mask: Mask, series: Series) -> list[int]:
    """Positions of the planes of a series on which a mask has pixels.

    Parameters
    ----------
    on : Plane
        Of the last two axes, where the mask is.
    mask : Mask
    series : Series
        Of any planes.

    Examples
    --------
    >>> square = Mask((1, 2), np.ones((2, 3), bool), (9, 9))
    >>> crossed(Plane((4, None, None)), square, Series.through(Plane((None, 0, None)), (9, 9, 9)))
    [1, 2]
    """
    part = _part(on, mask, series.first, series.axis)
    if part is None or not part[1].any():
        return []
    (top, left), bits = part
    at = on.index[series.axis]
    if at is not None:
        return [at] if at < len(series) else []
    is_row = series.axis == on.ndim - 2
    found = np.flatnonzero(bits.any(axis=1 if is_row else 0)) + (top if is_row else left)
    return [int(one) for one in found if one < len(series)]


def _part(
    on: Plane, mask: Mask, plane: Plane, free: int | None
) -> tuple[tuple[int, int], NDArray[np.bool_]] | None:
    """The bits that lie on a plane wherever it is along the free axis, and where they begin."""
    for axis, (mine, at) in enumerate(zip(on.index, plane.index, strict=True)):
        if axis != free and mine is not None and at is not None and mine != at:
            return None
    start, bits = list(mask.origin), mask.bits
    for side, axis in enumerate((on.ndim - 2, on.ndim - 1)):
        at = plane.index[axis]
        if axis != free and at is not None:
            inside = at - start[side]
            if not 0 <= inside < bits.shape[side]:
                return None
            bits = bits.take([inside], axis=side)
            start[side] = at
    return (start[0], start[1]), bits
