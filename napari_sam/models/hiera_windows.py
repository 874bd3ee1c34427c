"""Tokens in window order: the tokens of each attention window one after another.

Hiera attends within windows, norms and MLPs work on single tokens, and its pooling stays inside a window.
Tokens that lie in window order can therefore pass through a whole stage, and through the pooling into
the next one, without being partitioned and put back in every block: a window is a view.

Windows at the lower and right edges may be cut short. Hiera was trained with such windows filled up with
zero tokens, so how many are missing is kept with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["WindowGroup", "window_groups", "window_order"]


@dataclass(frozen=True, slots=True)
class WindowGroup:
    """Windows of the same shape, one after another in window order.

    Attributes
    ----------
    count : int
        How many windows.
    height, width : int
        Tokens of one window along y and x.
    missing : int
        Tokens that one window lacks to be a full one.
    """

    count: int
    height: int
    width: int
    missing: int

    @property
    def tokens(self) -> int:
        """Tokens of all windows together."""
        return self.count * self.height * self.width


def _cuts(side: int, window: int) -> list[tuple[slice, int, int]]:
    """Along one axis: where the full windows are, how many and how long, then the same of the rest."""
    count, rest = divmod(side, window)
    cuts = [(slice(0, count * window), count, window), (slice(count * window, side), 1, rest)]
    return [cut for cut in cuts if cut[1] and cut[2]]


def window_groups(height: int, width: int, window: int) -> tuple[WindowGroup, ...]:
    """The windows of a grid of ``height`` x ``width`` tokens, full ones first.

    Examples
    --------
    >>> [(g.count, g.height, g.width) for g in window_groups(64, 64, 14)]
    [(16, 14, 14), (4, 14, 8), (4, 8, 14), (1, 8, 8)]
    >>> window_groups(16, 16, 8)
    (WindowGroup(count=4, height=8, width=8, missing=0),)
    """
    return tuple(
        WindowGroup(rows * columns, h, w, window**2 - h * w)
        for _, rows, h in _cuts(height, window)
        for _, columns, w in _cuts(width, window)
    )


def window_order(height: int, width: int, window: int) -> Tensor:
    """The raster index of each token in window order: shape (height * width,), int64.

    Examples
    --------
    >>> window_order(2, 4, 2).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    raster = torch.arange(height * width).view(height, width)
    return torch.cat(
        [
            raster[ys, xs].reshape(rows, h, columns, w).transpose(1, 2).flatten()
            for ys, rows, h in _cuts(height, window)
            for xs, columns, w in _cuts(width, window)
        ]
    )
