"""What a decoder, which knows points, a box and logits, is told of what a user drew."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.checks import checked_mask
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.strokes import sample_path

__all__ = ["mask_share", "plain"]

_CELLS = 256
"""Side of the logits that go into a decoder."""
_MAGNITUDE = 6.0
"""The logit of what lies inside a mask."""
_SAMPLES = 5
"""Points taken of a scribble, at most."""


def plain(prompts: Prompts, size: tuple[int, int], frame: NDArray[np.float64]) -> Prompts:
    """Prompts with points, box and logits only.

    Parameters
    ----------
    prompts : Prompts
    size : tuple of int
        Height and width of the plane that they are on, in pixels.
    frame : ndarray, shape (4,), float64
        The rectangle x0, y0, x1, y1 of the plane, between pixel edges, that the model's logits cover.

    Raises
    ------
    PromptError
        If the mask is of a plane of another size.
    """
    if prompts.is_plain:
        return prompts
    if prompts.mask is not None:
        checked_mask(size, prompts.mask)
    points, labels = [prompts.points], [prompts.labels]
    for scribble in prompts.scribbles:
        length = float(np.hypot(*np.diff(scribble.path, axis=0).T).sum())
        count = min(_SAMPLES, 1 + math.ceil(length / (0.02 * max(size))))
        points.append(sample_path(scribble.path, count if length > 0 else 1))
        labels.append(np.full(len(points[-1]), scribble.label, dtype=np.int64))
    share = None
    box = prompts.box
    if prompts.lasso is not None:
        share = lasso_share(prompts.lasso, frame)
        edge = np.array([size[1], size[0]]) - 0.5
        corners = prompts.lasso.min(axis=0), prompts.lasso.max(axis=0)
        if box is None:
            box = np.concatenate([np.clip(corner, -0.5, edge) for corner in corners])
    if prompts.mask is not None:
        share = mask_share(prompts.mask, frame)
    logits = prompts.mask_input
    if logits is None and share is not None:
        logits = (_MAGNITUDE * (2 * share - 1)).astype(np.float32)
    return replace(
        prompts,
        points=np.concatenate(points),
        labels=np.concatenate(labels),
        box=box,
        mask_input=logits,
        mask=None,
        scribbles=(),
        lasso=None,
    )


def mask_share(mask: Mask, frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of each cell of a frame a mask covers: shape (256, 256), from 0 to 1."""
    x0, y0, x1, y1 = frame
    row, column = mask.origin
    share = _cell_means(mask.bits, np.linspace(y0, y1, _CELLS + 1) - row)
    return _cell_means(share.T, np.linspace(x0, x1, _CELLS + 1) - column).T


def lasso_share(lasso: NDArray[np.float64], frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of each cell of a frame a polygon covers, in sixteenths: shape (256, 256)."""
    from skimage.draw import polygon

    fine = 4
    x0, y0, x1, y1 = frame
    step = np.array([x1 - x0, y1 - y0]) / (_CELLS * fine)
    x, y = ((lasso + 0.5 - (x0, y0)) / step - 0.5).T
    inside = np.zeros((_CELLS * fine, _CELLS * fine))
    inside[polygon(y, x, inside.shape)] = 1
    share: NDArray[np.float64] = inside.reshape(_CELLS, fine, _CELLS, fine).mean(axis=(1, 3))
    return share


def _cell_means(values: NDArray[np.generic], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over stretches of rows between edges, which need not be whole numbers; zero beyond the rows."""
    height = len(values)
    sums = np.zeros((height + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    at = np.clip(edges, 0, height)
    below = np.minimum(at.astype(np.intp), height - 1)
    up_to = sums[below] + (at - below)[:, np.newaxis] * (sums[below + 1] - sums[below])
    means: NDArray[np.float64] = np.diff(up_to, axis=0) / np.diff(edges)[:, np.newaxis]
    return means
