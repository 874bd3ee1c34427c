"""The holes of many masks, found when they are first asked for, and filled up to any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from napari_sam.inference.candidates import MaskCandidates

__all__ = ["Holes"]

_Found = tuple[NDArray[np.int64], NDArray[np.int32]]

_NONE: _Found = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
_EDGES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


class Holes:
    """The holes of masks: background that a mask encloses, connected across edges of pixels.

    Parameters
    ----------
    candidates : MaskCandidates
    """

    def __init__(self, candidates: MaskCandidates) -> None:
        self._candidates = candidates
        self._found: dict[int, _Found] = {}

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(part.nbytes for found in list(self._found.values()) for part in found)

    def find(self, index: int) -> _Found:
        """Areas of the holes of one mask, smallest first, and their pixels in the same order.

        Pixels are indices into the bits of the mask's box, row by row.
        """
        if index not in self._found:
            self._found[index] = _holes(self._candidates.bits(index))
        return self._found[index]

    def fill(self, index: int, bits: NDArray[np.bool_], most: int) -> None:
        """Fill the holes of up to `most` pixels in the bits of one mask."""
        if most > 0:
            areas, pixels = self.find(index)
            np.put(bits, pixels[: areas[areas <= most].sum()], True)


def _holes(bits: NDArray[np.bool_]) -> _Found:
    if min(bits.shape) < 3:
        return _NONE
    parts, count = ndimage.label(~bits, _EDGES)
    inside = np.ones(count + 1, dtype=bool)
    inside[0] = False
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        inside[edge] = False
    if not inside.any():
        return _NONE
    pixels = np.flatnonzero(inside[parts])
    owner = parts.reshape(-1)[pixels]
    areas = np.bincount(owner, minlength=count + 1)
    order = np.lexsort((owner, areas[owner]))
    return np.sort(areas[inside]), pixels[order].astype(np.int32)
