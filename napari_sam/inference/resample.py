"""Reading logit maps between their cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BACKGROUND_LOGIT", "bilinear", "reach", "read_map", "read_mask", "taps"]

BACKGROUND_LOGIT = np.float32(-10.0)
"""The logit of everything outside the frame of a logit map: a foreground probability of 5e-5."""

_STRIP_VALUES = 2**18
"""Values interpolated at once."""

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


def reach(
    cells: NDArray[np.bool_],
    frame: Sequence[float] | NDArray[np.float64],
    shape: tuple[int, int],
    via: tuple[int, int] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where a map has to be interpolated if only some of its cells matter.

    Parameters
    ----------
    cells : ndarray, shape (h, w), bool
        Those that matter.
    frame, shape, via
        As in :func:`read_map`.

    Returns
    -------
    y, x : ndarray, shape (rows,) and (columns,), float32
        Centres of the rows and columns of pixels in the frame that can read one of the cells, rising by 1;
        empty if there are none.

    Examples
    --------
    >>> cells = np.zeros((4, 4), dtype=bool)
    >>> cells[0, 2] = True
    >>> y, x = reach(cells, (0, 0, 16, 16), (16, 16))
    >>> y.tolist(), x.tolist()
    ([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5], [5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5])
    """
    x0, y0, x1, y1 = (float(edge) for edge in frame)
    # A pixel reads cells of a grid in between that lie up to one of its steps away.
    margin_y, margin_x = (0.0, 0.0) if via is None else (shape[0] / via[0], shape[1] / via[1])
    rows, columns = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    return (
        _pixels(rows, y0, y1, cells.shape[0], shape[0], margin_y),
        _pixels(columns, x0, x1, cells.shape[1], shape[1], margin_x),
    )


def _pixels(
    cells: NDArray[np.intp], low: float, high: float, count: int, side: int, margin: float
) -> NDArray[np.float32]:
    """Centres of the pixels between `low` and `high` that can read one of the `cells`, of `count`."""
    if not cells.size:
        return np.zeros(0, dtype=np.float32)
    size = (high - low) / count
    # A cell is read up to the centres of its neighbours, 1.5 cells from its own; one pixel more for rounding.
    first = low + (cells[0] - 0.5) * size - margin - 1
    last = low + (cells[-1] + 1.5) * size + margin + 1
    # A pixel belongs to the frame if its centre does.
    start = max(np.floor(first), np.ceil(low - 0.5), 0)
    stop = min(np.ceil(last), np.ceil(high - 0.5), side)
    return np.arange(start, stop, dtype=np.float32) + np.float32(0.5)


def read_map(
    logits: NDArray[np.float32],
    frame: Sequence[float] | NDArray[np.float64],
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
    return bilinear(*_placed(logits, frame, y, x, shape, via))


def read_mask(
    logits: NDArray[np.float32],
    frame: Sequence[float] | NDArray[np.float64],
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    shape: tuple[int, int],
    via: tuple[int, int] | None = None,
) -> NDArray[np.bool_]:
    """Where :func:`read_map` is above 0, without keeping the interpolated map.

    Returns
    -------
    ndarray, shape (..., len(y), len(x)), bool
    """
    import torch

    result = np.empty((*logits.shape[:-2], len(y), len(x)), dtype=bool)
    tensor = torch.from_numpy(result)
    for rows, values in _strips(*_placed(logits, frame, y, x, shape, via)):
        torch.gt(values, 0, out=tensor[..., rows, :])
    return result


def bilinear(logits: NDArray[np.float32], rows: Taps, columns: Taps) -> NDArray[np.float32]:
    """Interpolate a map at every combination of `rows` and `columns`.

    Parameters
    ----------
    logits : ndarray, shape (..., h, w), float32

    Returns
    -------
    ndarray, shape (..., len(rows), len(columns)), float32
    """
    import torch

    result = np.empty((*logits.shape[:-2], len(rows[0]), len(columns[0])), dtype=np.float32)
    tensor = torch.from_numpy(result)
    for part, values in _strips(logits, rows, columns):
        tensor[..., part, :] = values
    return result


def _placed(
    logits: NDArray[np.float32],
    frame: Sequence[float] | NDArray[np.float64],
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    shape: tuple[int, int],
    via: tuple[int, int] | None,
) -> tuple[NDArray[np.float32], Taps, Taps]:
    """The map to interpolate, `logits` or what they are on the grid in between, and where."""
    x0, y0, x1, y1 = (float(edge) for edge in frame)
    if via is None or via == shape:
        return logits, taps(y, y0, y1, logits.shape[-2]), taps(x, x0, x1, logits.shape[-1])
    rows, columns = (taps(at, 0, side, cells) for at, side, cells in zip((y, x), shape, via, strict=True))
    # Of the grid, only the cells that are read.
    top, left = rows[0][0], columns[0][0]
    half = np.float32(0.5)
    grid_y = (np.arange(top, rows[1][-1] + 1, dtype=np.float32) + half) * np.float32(shape[0] / via[0])
    grid_x = (np.arange(left, columns[1][-1] + 1, dtype=np.float32) + half) * np.float32(shape[1] / via[1])
    grid = bilinear(logits, taps(grid_y, y0, y1, logits.shape[-2]), taps(grid_x, x0, x1, logits.shape[-1]))
    return (
        grid,
        (rows[0] - top, rows[1] - top, rows[2], rows[3]),
        (columns[0] - left, columns[1] - left, columns[2], columns[3]),
    )


def _strips(logits: NDArray[np.float32], rows: Taps, columns: Taps) -> Iterator[tuple[slice, Tensor]]:
    """Interpolated values, a few rows at a time: what stays in a cache. Each is overwritten by the next."""
    import torch  # masks are described without it

    if not (rows[0].size and columns[0].size):
        return
    (top, bottom, top_weight, bottom_weight), (left, right, left_weight, right_weight) = (
        tuple(torch.from_numpy(array) for array in axis) for axis in (rows, columns)
    )
    # Only the map's rows between the first and the last that are read are widened.
    start = int(top[0])
    # Whole rows are copied ten times as fast as single values: hence columns are made rows, and back.
    used = torch.from_numpy(logits)[..., start : int(bottom[-1]) + 1, :].transpose(-2, -1).contiguous()
    wide = used.index_select(-2, left).mul_(left_weight[:, None])
    wide += used.index_select(-2, right).mul_(right_weight[:, None])
    wide = wide.transpose(-2, -1).contiguous()
    few = max(1, _STRIP_VALUES // max(1, wide.numel() // wide.shape[-2]))
    upper, lower = (wide.new_empty((*wide.shape[:-2], few, wide.shape[-1])) for _ in range(2))
    for first in range(0, len(top), few):
        part = slice(first, min(first + few, len(top)))
        if part.stop - first < upper.shape[-2]:
            last = (*wide.shape[:-2], part.stop - first, wide.shape[-1])
            upper, lower = wide.new_empty(last), wide.new_empty(last)
        torch.index_select(wide, -2, top[part] - start, out=upper)
        torch.index_select(wide, -2, bottom[part] - start, out=lower)
        upper *= top_weight[part, None]
        lower *= bottom_weight[part, None]
        upper += lower
        yield part, upper
