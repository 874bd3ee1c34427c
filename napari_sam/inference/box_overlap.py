"""Which boxes overlap, found once, and greedy suppression of the lesser ones, as often as one likes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_OVERLAP", "BoxOverlaps"]

LEAST_OVERLAP = 0.1
"""Pairs of boxes that overlap no more than this are not kept: nobody filters as strictly as that."""

_CHUNK = 2**21
"""Pairs that are compared at a time: some megabytes per array."""


class BoxOverlaps:
    """The pairs of boxes that overlap, and who comes first in each.

    Parameters
    ----------
    boxes : ndarray, shape (N, 4), int
        x0, y0, x1, y1, exclusive.
    scores : ndarray, shape (N,), float
        The box with the higher score comes first; of equal ones, that with the lower index.
    """

    def __init__(self, boxes: NDArray[np.integer], scores: NDArray[np.floating]) -> None:
        self.order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
        ordered = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[self.order]
        count = len(ordered)
        x0, y0, x1, y1 = ordered.T
        areas = (x1 - x0) * (y1 - y0)
        first: list[NDArray[np.int32]] = []
        second: list[NDArray[np.int32]] = []
        overlap: list[NDArray[np.float32]] = []
        step = max(1, _CHUNK // max(count, 1))
        for start in range(0, count, step):
            here, beyond = slice(start, start + step), slice(start + 1, None)
            # In single precision, step by step as torchvision does it, so that equal means equal.
            width = np.minimum.outer(x1[here], x1[beyond]) - np.maximum.outer(x0[here], x0[beyond])
            height = np.minimum.outer(y1[here], y1[beyond]) - np.maximum.outer(y0[here], y0[beyond])
            common = np.maximum(width, 0) * np.maximum(height, 0)
            # Whatever is true of the overlap is true of this, without the division of all pairs.
            near = common > np.float32(LEAST_OVERLAP * 0.99) * np.maximum.outer(areas[here], areas[beyond])
            row, column = near.nonzero()
            later = column >= row
            row, column = row[later], column[later]
            both = common[row, column]
            one, other = row + start, column + start + 1
            first.append(self.order[one].astype(np.int32))
            second.append(self.order[other].astype(np.int32))
            overlap.append(both / (areas[one] + areas[other] - both))
        self._count = count
        self._first = np.concatenate([*first, np.zeros(0, dtype=np.int32)])
        self._second = np.concatenate([*second, np.zeros(0, dtype=np.int32)])
        # In double precision when compared with a threshold.
        self._overlap = np.concatenate([*overlap, np.zeros(0, dtype=np.float32)])

    def __len__(self) -> int:
        return len(self._first)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays = (self.order, self._first, self._second, self._overlap)
        return sum(array.nbytes for array in arrays)

    def suppressed(self, among: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
        """What is left after greedy non-maximum suppression, as of :func:`torchvision.ops.nms`.

        All boxes are decided at once that no undecided better one overlaps: that takes a few rounds instead
        of one step per box.

        Parameters
        ----------
        among : ndarray, shape (N,), bool
            The boxes that take part.
        most : float
            A box is dropped if its IoU with a better one that stays is greater than this. At least
            `LEAST_OVERLAP`; with 1 or more, all stay.

        Returns
        -------
        ndarray, shape (N,), bool

        Raises
        ------
        ValueError
            If `most` is below `LEAST_OVERLAP`.
        """
        if most < LEAST_OVERLAP:
            raise ValueError(f"Boxes may overlap by {LEAST_OVERLAP} at least, not {most}.")
        matters = self._overlap > np.array([most], dtype=np.float64)
        matters &= among[self._first] & among[self._second]
        first, second = self._first[matters], self._second[matters]
        undecided = np.array(among, dtype=bool)
        kept = np.zeros(self._count, dtype=bool)
        while undecided.any():
            sure = undecided.copy()
            sure[second] = False
            kept |= sure
            undecided &= ~sure
            undecided[second[sure[first]]] = False
            matters = undecided[first] & undecided[second]
            first, second = first[matters], second[matters]
        return kept
