"""Reading logit maps between their cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUND_LOGIT", "bilinear", "taps"]

BACKGROUND_LOGIT = np.float32(-10.0)
"""The logit of everything outside the frame of a logit map: a foreground probability of 5e-5."""

Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]


def taps(centres: NDArray[np.float32], low: float, high: float, cells: int) -> Taps:
    """Which two cells of a map each position lies between, and their weights.

    The map has `cells` cells between the edges `low` and `high`; a position that lies outside the centres
    of the first and the last cell reads that cell (half-pixel convention, ``align_corners=False`` in
    torch). The arithmetic is float32 in the order that torch uses, so that a whole frame comes out the same.

    Parameters
    ----------
    centres : ndarray, shape (N,), float32
        Positions, in the unit of `low` and `high`.

    Returns
    -------
    first, second : ndarray, shape (N,), intp
        The two cells.
    first_weight, second_weight : ndarray, shape (N,), float32
    """
    scale = np.float32(cells) / np.float32(high - low)
    position = np.clip((centres - np.float32(low)) * scale - np.float32(0.5), 0, cells - 1, dtype=np.float32)
    first = position.astype(np.intp)
    second_weight = position - first.astype(np.float32)
    return first, np.minimum(first + 1, cells - 1), np.float32(1) - second_weight, second_weight


def bilinear(logits: NDArray[np.float32], rows: Taps, columns: Taps) -> NDArray[np.float32]:
    """Interpolate a map at every combination of `rows` and `columns`.

    Parameters
    ----------
    logits : ndarray, shape (..., h, w), float32

    Returns
    -------
    ndarray, shape (..., len(rows), len(columns)), float32
    """
    top, bottom, top_weight, bottom_weight = rows
    left, right, left_weight, right_weight = columns
    # Only the map's rows between the first and the last that are read are widened.
    start, stop = top[0], bottom[-1] + 1
    used = logits[..., start:stop, :]
    wide = used[..., left] * left_weight + used[..., right] * right_weight
    result = wide[..., top - start, :]
    result *= top_weight[:, np.newaxis]
    lower = wide[..., bottom - start, :]
    lower *= bottom_weight[:, np.newaxis]
    result += lower
    return result
