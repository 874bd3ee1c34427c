"""A mask as a box and the bits inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.inference.resample import reach, read_mask

__all__ = ["Mask", "box_around", "mask_iou", "window_around"]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A binary mask of one plane, kept as its bounding box and the bits inside it.

    Whatever box is given, the one kept is the tightest: its first and last rows and columns hold a
    foreground pixel. An empty mask has no bits and its origin is (0, 0).

    Parameters
    ----------
    origin : tuple of int
        Row and column of the first pixel of `bits` in the plane.
    bits : ndarray, shape (h, w), bool
        Read-only once kept.
    shape : tuple of int
        Height and width of the plane, in pixels.

    Raises
    ------
    ValueError
        If the box reaches beyond the plane or `bits` is not two-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> mask = Mask((2, 3), np.ones((2, 4), dtype=bool), (10, 10))
    >>> mask.area, mask.box_xyxy, mask.bbox_xywh
    (8, (3, 2, 6, 3), (3, 2, 4, 2))
    """

    origin: tuple[int, int]
    bits: NDArray[np.bool_]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        bits = np.asarray(self.bits, dtype=bool)
        if bits.ndim != 2:
            raise ValueError(f"The bits of a mask have two dimensions, not {bits.ndim}.")
        row, column = (int(start) for start in self.origin)
        height, width = (int(side) for side in self.shape)
        inside = 0 <= row <= height - bits.shape[0] and 0 <= column <= width - bits.shape[1]
        if not inside:
            raise ValueError(
                f"Bits of shape {bits.shape} at {(row, column)} reach beyond "
                f"a plane of {height} x {width} pixels."
            )
        rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
        if rows.size:
            bits = bits[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            origin = row + int(rows[0]), column + int(columns[0])
        else:
            bits, origin = np.zeros((0, 0), dtype=bool), (0, 0)
        bits = bits.view()
        bits.flags.writeable = False
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "shape", (height, width))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        same_place = self.origin == other.origin and self.shape == other.shape
        return same_place and np.array_equal(self.bits, other.bits)

    def __hash__(self) -> int:
        return hash((self.origin, self.shape, self.bits.tobytes()))

    @staticmethod
    @lru_cache(maxsize=32)
    def empty(shape: tuple[int, int]) -> Mask:
        """The mask without foreground on a plane of `shape` (height, width)."""
        return Mask((0, 0), np.zeros((0, 0), dtype=bool), shape)

    @classmethod
    def from_array(cls, array: ArrayLike) -> Mask:
        """The mask of a whole plane: an array of shape (H, W), foreground where not zero.

        Raises
        ------
        ValueError
            If the array is not two-dimensional.
        """
        full = np.asarray(np.asarray(array) != 0)
        if full.ndim != 2:
            raise ValueError(f"A mask is two-dimensional, this array has {full.ndim} dimensions.")
        mask = cls((0, 0), full, (full.shape[0], full.shape[1]))
        # The tight box would otherwise keep the whole plane alive.
        return cls(mask.origin, mask.bits.copy(), mask.shape)

    @classmethod
    def from_pixels(
        cls, rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]
    ) -> Mask:
        """The mask of single pixels: two arrays of shape (N,), int, in any order."""
        if not len(rows):
            return cls.empty(shape)
        top, left = int(rows.min()), int(columns.min())
        bits = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), dtype=bool)
        bits[rows - top, columns - left] = True
        return cls((top, left), bits, shape)

    @classmethod
    def from_logits(
        cls,
        logits: NDArray[np.float32],
        frame: Sequence[float] | NDArray[np.float64],
        shape: tuple[int, int],
        via: tuple[int, int] | None = None,
    ) -> Mask:
        """The mask of one of a decoder's logit maps, at the full size of the plane.

        Interpolation is bilinear, pixel centres to pixel centres, and foreground is where the interpolated
        logit is greater than 0, as in Segment Anything (Kirillov et al. 2023, appendix A). A pixel can only
        become foreground next to a positive cell, so that just the box of the positive cells and one cell
        around it is interpolated: the result is the same as of the whole frame.

        Parameters
        ----------
        logits : ndarray, shape (h, w), float32
        frame : sequence of float
            The rectangle x0, y0, x1, y1 of the plane that the map covers, between pixel edges.
        shape : tuple of int
            Height and width of the plane, in pixels.
        via : tuple of int, optional
            As in :class:`~napari_sam.models.base.MaskLogits`.
        """
        y, x = reach(logits > 0, frame, shape, via)
        if y.size == 0 or x.size == 0:
            return cls.empty(shape)
        return cls((int(y[0]), int(x[0])), read_mask(logits, frame, y, x, shape, via), shape)

    def __or__(self, other: Mask) -> Mask:
        """What is in either of two masks of one plane."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        rows, columns = box_around(self, other)
        return self._at(rows, columns, self.bits_in(rows, columns) | other.bits_in(rows, columns))

    def __and__(self, other: Mask) -> Mask:
        """What is in both masks."""
        rows, columns = self.slices
        return self._at(rows, columns, self.bits & other.bits_in(rows, columns))

    def __sub__(self, other: Mask) -> Mask:
        """What is in this mask and not in the other; this very mask where they do not meet."""
        rows, columns = self.slices
        others = other.bits_in(rows, columns)
        return self._at(rows, columns, self.bits & ~others) if others.any() else self

    def _at(self, rows: slice, columns: slice, bits: NDArray[np.bool_]) -> Mask:
        mask = Mask((rows.start, columns.start), bits, self.shape)
        # Much less than what was computed is left: do not keep the rest alive.
        if mask.bits.size * 2 < bits.size:
            return Mask(mask.origin, mask.bits.copy(), mask.shape)
        return mask

    def bits_in(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """The part of the plane between the given rows and columns: bool, foreground where the mask is."""
        result = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        mine = self.slices
        top, left = max(rows.start, mine[0].start), max(columns.start, mine[1].start)
        bottom, right = min(rows.stop, mine[0].stop), min(columns.stop, mine[1].stop)
        if top < bottom and left < right:
            (row, column) = self.origin
            part = self.bits[top - row : bottom - row, left - column : right - column]
            there = (
                slice(top - rows.start, bottom - rows.start),
                slice(left - columns.start, right - columns.start),
            )
            result[there] = part
        return result

    def to_array(self) -> NDArray[np.bool_]:
        """The whole plane: shape (H, W), bool."""
        full = np.zeros(self.shape, dtype=bool)
        full[self.slices] = self.bits
        return full

    @property
    def is_empty(self) -> bool:
        """Whether there is no foreground."""
        return self.bits.size == 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.bits.nbytes

    @property
    def area(self) -> int:
        """Foreground pixels."""
        return int(np.count_nonzero(self.bits))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the bits are in the plane: rows and columns."""
        (row, column), (height, width) = self.origin, self.bits.shape
        return slice(row, row + height), slice(column, column + width)

    @property
    def box_xyxy(self) -> tuple[int, int, int, int] | None:
        """First and last column and row (x0, y0, x1, y1), inclusive as in SAM; None if empty."""
        if self.is_empty:
            return None
        (row, column), (height, width) = self.origin, self.bits.shape
        return column, row, column + width - 1, row + height - 1

    @property
    def bbox_xywh(self) -> tuple[int, int, int, int]:
        """First column and row, width and height in pixels, as in COCO; zeros if empty."""
        (row, column), (height, width) = self.origin, self.bits.shape
        return column, row, width, height

    @property
    def box_edges(self) -> tuple[float, float, float, float]:
        """The box x0, y0, x1, y1 along the outer edges of the outermost pixels, as a prompt; not if empty."""
        (row, column), (height, width) = self.origin, self.bits.shape
        return column - 0.5, row - 0.5, column + width - 0.5, row + height - 0.5


def box_around(*masks: Mask) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds the masks; an empty one if they are all empty."""
    boxes = np.array([mask.box_xyxy for mask in masks if not mask.is_empty])
    if not len(boxes):
        return slice(0, 0), slice(0, 0)
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return slice(int(top), int(bottom) + 1), slice(int(left), int(right) + 1)


def window_around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a mask and a margin, as far as the plane reaches."""
    rows, columns = (
        slice(max(0, part.start - margin), min(side, part.stop + margin))
        for part, side in zip(mask.slices, mask.shape, strict=True)
    )
    return rows, columns


def mask_iou(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks of a plane; 1 if both are empty."""
    common = (one & other).area
    union = one.area + other.area - common
    return common / union if union else 1.0
