"""Reading logit maps between their cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUND_LOGIT", "bilinear", "read_map", "taps"]

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


def read_map(
    logits: NDArray[np.float32],
    frame: Sequence[float],
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    shape: tuple[int, int],
    via: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Interpolate a map at all combinations of positions `y` and `x` on a plane.

    Parameters
    ----------
    logits : ndarray, shape (..., h, w), float32
    frame : sequence of float
        The rectangle x0, y0, x1, y1 of the plane that the map covers, between pixel edges.
    y, x : ndarray, float32
        Rising positions on the plane, in the unit of `frame`.
    shape : tuple of int
        Height and width of the plane, in pixels.
    via : tuple of int, optional
        Rows and columns of a grid over the whole plane; the map is interpolated at its cells, and what comes
        out at the positions.

    Returns
    -------
    ndarray, shape (..., len(y), len(x)), float32
    """
    x0, y0, x1, y1 = frame
    if via is None or via == shape:
        return bilinear(logits, taps(y, y0, y1, logits.shape[-2]), taps(x, x0, x1, logits.shape[-1]))
    rows, columns = (taps(at, 0, side, cells) for at, side, cells in zip((y, x), shape, via, strict=True))
    # Of the grid, only the cells that are read.
    top, left = rows[0][0], columns[0][0]
    half = np.float32(0.5)
    grid_y = (np.arange(top, rows[1][-1] + 1, dtype=np.float32) + half) * np.float32(shape[0] / via[0])
    grid_x = (np.arange(left, columns[1][-1] + 1, dtype=np.float32) + half) * np.float32(shape[1] / via[1])
    grid = bilinear(logits, taps(grid_y, y0, y1, logits.shape[-2]), taps(grid_x, x0, x1, logits.shape[-1]))
    return bilinear(
        grid,
        (rows[0] - top, rows[1] - top, rows[2], rows[3]),
        (columns[0] - left, columns[1] - left, columns[2], columns[3]),
    )


def bilinear(logits: NDArray[np.float32], rows: Taps, columns: Taps) -> NDArray[np.float32]:
    """Interpolate a map at every combination of `rows` and `columns`.

    Parameters
    ----------
    logits : ndarray, shape (..., h, w), float32

    Returns
    -------
    ndarray, shape (..., len(rows), len(columns)), float32
    """
    import torch  # masks are described without it

    (top, bottom, top_weight, bottom_weight), (left, right, left_weight, right_weight) = (
        tuple(torch.from_numpy(array) for array in taps_of_axis) for taps_of_axis in (rows, columns)
    )
    # Only the map's rows between the first and the last that are read are widened.
    start = int(top[0])
    used = torch.from_numpy(logits)[..., start : int(bottom[-1]) + 1, :]
    wide = used.index_select(-1, left).mul_(left_weight)
    wide += used.index_select(-1, right).mul_(right_weight)
    result = wide.index_select(-2, top - start).mul_(top_weight[:, None])
    result += wide.index_select(-2, bottom - start).mul_(bottom_weight[:, None])
    interpolated: NDArray[np.float32] = result.numpy()
    return interpolated
