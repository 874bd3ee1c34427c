"""A mask and how much it depends on the threshold of its logits, in one go over its box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.mask import Mask
from napari_sam.inference.resample import reach, read_map

__all__ = ["measured"]

_STRIP_VALUES = 2**20
"""Logits in full size that exist at once."""


def measured(
    logits: NDArray[np.float32],
    frame: Sequence[float] | NDArray[np.float64],
    shape: tuple[int, int],
    via: tuple[int, int] | None,
    offset: float,
) -> tuple[Mask, float]:
    """The mask of a logit map at the full size of the plane, and its stability.

    Stability is the number of pixels with a logit above `offset`, as a share of those above ``-offset``:
    the IoU of the masks that both thresholds would give (Kirillov et al. 2023, appendix B). The mask is that
    of :meth:`~napari_sam.inference.mask.Mask.from_logits`.

    Parameters
    ----------
    logits, frame, shape, via
        As in :meth:`~napari_sam.inference.mask.Mask.from_logits`.
    offset : float
        Not negative.

    Returns
    -------
    mask : Mask
    stability : float
        0 to 1; 0 for an empty mask.
    """
    y, x = reach(logits > -offset, frame, shape, via)
    bits = np.empty((len(y), len(x)), dtype=bool)
    inner = outer = 0
    rows = max(1, _STRIP_VALUES // max(1, len(x)))
    for start in range(0, len(y), rows):
        part = slice(start, start + rows)
        values = read_map(logits, frame, y[part], x, shape, via)
        np.greater(values, 0, out=bits[part])
        inner += int(np.count_nonzero(values > offset))
        outer += int(np.count_nonzero(values > -offset))
    if not bits.any():
        return Mask.empty(shape), 0.0
    return Mask((int(y[0]), int(x[0])), bits, shape), inner / outer
