"""Fixed position encodings of image grids."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["axial_rotations", "rotate_", "sine_positions"]

_TEMPERATURE = 10000.0
_ROWS = 2048
"""Vectors that are turned at once in half precision."""


def sine_positions(
    height: int,
    width: int,
    channels: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sine encoding of the cells of a grid, normalised so that every grid spans one turn.

    The first half of the channels encodes rows, the second half columns; in each, sines and cosines
    of falling frequency take turns (Vaswani et al. 2017, Attention Is All You Need, section 3.5, in two
    dimensions as in Carion et al. 2020, End-to-End Object Detection with Transformers, appendix A.4).

    Parameters
    ----------
    height, width : int
        Cells of the grid.
    channels : int
        A multiple of 4.
    device, dtype
        Of the result; the angles are float32 in any case.

    Returns
    -------
    Tensor, shape (1, channels, height, width)

    Examples
    --------
    >>> sine_positions(2, 3, 8).shape
    torch.Size([1, 8, 2, 3])
    """
    half = channels // 2
    step = torch.arange(0, half, 2, dtype=torch.float32, device=device)
    periods = _TEMPERATURE ** (step / half)

    def waves(length: int) -> Tensor:
        turn = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        turn = turn / (length + 1e-6) * (2 * math.pi)  # the published weights were trained with this offset
        angles = turn / periods[:, None]
        return torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1).to(dtype)

    rows = waves(height)[:, :, None].expand(-1, -1, width)
    columns = waves(width)[:, None].expand(-1, height, -1)
    return torch.cat([rows, columns])[None]


def axial_rotations(side: int, channels: int, *, device: torch.device | str | None = None) -> Tensor:
    """Angles by which rotary encoding turns pairs of channels at each cell of a square grid.

    The first half of the pairs turns with the column, the second half with the row (Heo et al. 2024, Rotary
    Position Embedding for Vision Transformer, section 3.2, "axial").

    Parameters
    ----------
    side : int
        Cells per row and per column.
    channels : int
        Of the vectors to be turned; a multiple of 4.

    Returns
    -------
    Tensor, shape (2, side * side, channels // 2), float32
        Cosines and sines, cells in row-major order.
    """
    frequencies = _TEMPERATURE ** -(
        torch.arange(0, channels, 4, dtype=torch.float32, device=device) / channels
    )
    angles = torch.arange(side, dtype=torch.float32, device=device)[:, None] * frequencies
    table = torch.stack([angles.cos(), angles.sin()])
    by_column = table[:, None].expand(-1, side, -1, -1)
    by_row = table[:, :, None].expand(-1, -1, side, -1)
    return torch.cat([by_column, by_row], dim=-1).flatten(1, 2)


def rotate_(x: Tensor, rotations: Tensor) -> None:
    """Turn pairs of neighbouring channels in place; computed in float32, whatever the dtype of ``x``.

    Parameters
    ----------
    x : Tensor, shape (..., N, channels)
    rotations : Tensor, shape (2, N, channels // 2)
        From :func:`axial_rotations`.
    """
    # A pair is a complex number, and a turn a product with another: one pass over memory instead of seven.
    turns = torch.complex(*rotations)
    if x.dtype == torch.float32:
        torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(turns)
        return
    for index in np.ndindex(x.shape[:-2]):
        # A few at a time, so that what is float32 stays in a cache.
        for part, turn in zip(x[index].split(_ROWS), turns.split(_ROWS), strict=True):
            exact = part.float()
            torch.view_as_complex(exact.unflatten(-1, (-1, 2))).mul_(turn)
            part.copy_(exact)
