"""A mask and how much it depends on the threshold of its logits, in one go over its box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.mask import Mask
from napari_sam.inference.resample import read_map

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
    y, x = _reach(logits > -offset, frame, shape, via)
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


def _reach(
    cells: NDArray[np.bool_],
    frame: Sequence[float] | NDArray[np.float64],
    shape: tuple[int, int],
    via: tuple[int, int] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres of the rows and columns of pixels whose interpolated value depends on one of the `cells`."""
    x0, y0, x1, y1 = (float(edge) for edge in frame)
    steps = (0.0, 0.0) if via is None else (shape[0] / via[0], shape[1] / via[1])
    rows, columns = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    return (
        _pixels(rows, y0, y1, cells.shape[0], shape[0], steps[0]),
        _pixels(columns, x0, x1, cells.shape[1], shape[1], steps[1]),
    )


def _pixels(
    cells: NDArray[np.intp], low: float, high: float, count: int, side: int, step: float
) -> NDArray[np.float32]:
    """Centres of pixels between `low` and `high` that read the cells; `step` is that of a grid in between."""
    if not len(cells):
        return np.zeros(0, dtype=np.float32)
    size = (high - low) / count
    # Interpolation reaches as far as the centres of the neighbouring cells; one pixel more for rounding.
    first = low + (cells[0] - 0.5) * size - step - 1
    last = low + (cells[-1] + 1.5) * size + step + 1
    start = max(np.floor(first), np.ceil(low - 0.5), 0)
    stop = min(np.ceil(last), np.ceil(high - 0.5), side)
    return np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
