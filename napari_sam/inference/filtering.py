"""Which masks of an automatic run are objects: filtered in milliseconds, as often as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.box_overlap import BoxOverlaps
from napari_sam.inference.mask import Mask
from napari_sam.inference.mask_holes import Holes

if TYPE_CHECKING:
    from napari_sam.inference.candidates import MaskCandidates

__all__ = ["Filter", "Painted", "Sieve"]


@dataclass(frozen=True, slots=True)
class Filter:
    """What a mask must be like to become an object.

    Attributes
    ----------
    min_predicted_iou, min_stability : float
    min_area : int
        In pixels, like all areas here; before holes are filled.
    max_area : int or None
        None for no limit.
    exclude_border : bool
        Leave out what touches the border of the image.
    max_overlap : float
        Of two masks whose boxes have a greater IoU, only that with the higher predicted IoU counts. At least
        0.1; with 1, all count.
    fill_holes : int
        Holes of up to this area are filled.
    smaller_on_top : bool
        Whose pixels are those that two masks share: the smaller one's, or the one's with the higher predicted
        IoU.
    min_visible : float
        A mask is left out if less than this part of its pixels is left by those that come before it, and by
        what is protected.
    """

    min_predicted_iou: float = 0.0
    min_stability: float = 0.0
    min_area: int = 1
    max_area: int | None = None
    exclude_border: bool = False
    max_overlap: float = 0.7
    fill_holes: int = 0
    smaller_on_top: bool = False
    min_visible: float = 0.5


class Painted(NamedTuple):
    """Masks that share no pixel.

    Attributes
    ----------
    labels : ndarray, shape (H, W), uint16 or int32
        1 + the index of the candidate whose pixel it is; 0 is background. A candidate has the same value
        whatever the filter is.
    kept : ndarray, shape (K,), int
        Those that are to be seen, in the order in which they get their pixels.
    """

    labels: NDArray[np.integer]
    kept: NDArray[np.intp]


class Sieve:
    """The candidates of one automatic run, made ready to be filtered many times.

    What does not depend on the filter is computed once: which boxes overlap, who touches the border, here;
    where a mask has holes, when it is asked for. That can be done in any thread, but in one at a time.

    Parameters
    ----------
    candidates : MaskCandidates

    Examples
    --------
    >>> from napari_sam.inference.candidates import MaskCandidates
    >>> square = Mask((2, 2), np.ones((4, 4), dtype=bool), (8, 8))
    >>> at = dict(points=[(3, 3)] * 2, crop_boxes=[(0, 0, 8, 8)] * 2, shape=(8, 8))
    >>> candidates = MaskCandidates.of([square, square], predicted_iou=[0.7, 0.9], stability=[1, 1], **at)
    >>> sieve = Sieve(candidates)
    >>> painted = sieve.paint(sieve.select(Filter(min_predicted_iou=0.5)), Filter())
    >>> painted.kept.tolist(), int((painted.labels == 2).sum())
    ([1], 16)
    """

    def __init__(self, candidates: MaskCandidates) -> None:
        self.candidates = candidates
        self.overlaps = BoxOverlaps(candidates.boxes, candidates.predicted_iou)
        self._holes = Holes(candidates)
        height, width = candidates.shape
        x0, y0, x1, y1 = np.asarray(candidates.boxes).reshape(-1, 4).T
        self._at_border = (x0 <= 0) | (y0 <= 0) | (x1 >= width) | (y1 >= height)

    @property
    def nbytes(self) -> int:
        """Memory held beside the candidates, in bytes."""
        return self.overlaps.nbytes + self._holes.nbytes + self._at_border.nbytes

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each candidate's box, x and y: shape (N, 2)."""
        boxes = np.asarray(self.candidates.boxes, dtype=np.float64).reshape(-1, 4)
        middle: NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:] - 1) / 2
        return middle

    def select(self, wanted: Filter, among: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """The candidates that a filter lets through.

        Parameters
        ----------
        wanted : Filter
        among : ndarray, shape (N,), bool, optional
            Only these count; by default, all.

        Returns
        -------
        ndarray, shape (K,), int
            Indices of candidates in the order in which they are to get their pixels: the first is on top.

        Raises
        ------
        ValueError
            If `max_overlap` is below 0.1.
        """
        candidates = self.candidates
        areas = candidates.areas
        passes = (
            (candidates.predicted_iou >= wanted.min_predicted_iou)
            & (candidates.stability >= wanted.min_stability)
            & (areas >= max(wanted.min_area, 1))
        )
        if wanted.max_area is not None:
            passes &= areas <= wanted.max_area
        if wanted.exclude_border:
            passes &= ~self._at_border
        if among is not None:
            passes &= among
        kept = self.overlaps.suppressed(passes, wanted.max_overlap)
        order = self.overlaps.order
        if wanted.smaller_on_top:
            order = order[np.argsort(areas[order], kind="stable")]
        chosen: NDArray[np.intp] = order[kept[order]]
        return chosen

    def paint(
        self, kept: NDArray[np.integer], wanted: Filter, protected: NDArray[np.bool_] | None = None
    ) -> Painted:
        """Give each pixel to the first candidate that wants it.

        Candidates of which less than `wanted.min_visible` would be seen are left out, and their pixels go to
        those that come after them.

        Parameters
        ----------
        kept : ndarray, shape (K,), int
            As of `select`.
        wanted : Filter
        protected : ndarray, shape (H, W), bool, optional
            Pixels that nobody gets.
        """
        candidates = self.candidates
        height, width = candidates.shape
        kind = np.uint16 if len(candidates) < np.iinfo(np.uint16).max else np.int32
        labels = np.zeros((height, width), dtype=kind)
        free = np.ones((height, width), dtype=bool) if protected is None else ~protected
        least = np.maximum(wanted.min_visible * candidates.areas, 1)
        seen: list[int] = []
        for index in np.asarray(kept).tolist():
            x0, y0, x1, y1 = candidates.boxes[index].tolist()
            there = free[y0:y1, x0:x1]
            # Most of the many masks of the background end here, before they are unpacked.
            if np.count_nonzero(there) < least[index]:
                continue
            mine = self.bits(index, wanted)
            area = np.count_nonzero(mine) if wanted.fill_holes > 0 else candidates.areas[index]
            mine &= there
            if np.count_nonzero(mine) < max(wanted.min_visible * area, 1):
                continue
            seen.append(index)
            labels[y0:y1, x0:x1][mine] = index + 1
            there ^= mine
        return Painted(labels, np.array(seen, dtype=np.intp))

    def bits(self, index: int, wanted: Filter) -> NDArray[np.bool_]:
        """The bits of a candidate in its box, its small holes filled: a new array."""
        bits = self.candidates.bits(index)
        self._holes.fill(index, bits, wanted.fill_holes)
        return bits

    def find_holes(self, kept: NDArray[np.integer]) -> None:
        """Look for the holes of some candidates already: filling them then takes no time."""
        for index in kept.tolist():
            self._holes.find(index)

    def mask(self, index: int, wanted: Filter) -> Mask:
        """A candidate's mask, its small holes filled."""
        x0, y0 = self.candidates.boxes[index, :2].tolist()
        return Mask((y0, x0), self.bits(index, wanted), self.candidates.shape)
