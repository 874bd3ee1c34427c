"""What a decoder, which knows points, a box and logits, is told of what a user drew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.inference.checks import checked_mask
from napari_sam.inference.mask import Mask
from napari_sam.inference.prompts import Prompts
from napari_sam.inference.strokes import Scribble, sample_path

__all__ = ["plain"]

Array = NDArray[np.float64]
Values = NDArray[np.float32]

_MASK_LOGIT = 10.0
"""The logit of what lies inside a mask, as sure as a model's own; the negative of it outside."""
_LASSO_LOGIT = 6.0
"""The same for a lasso, which is only roughly the object."""
_SAMPLES = 5
"""Points taken of a scribble, at most."""
_SAMPLE_STEP = 0.02
"""Their distance along a short one, as a share of the longest side."""
_FINE = 4
"""Steps along a side of a cell, of which it is counted how many a lasso covers."""
_DEPTH_SIDE = 128
"""Pixels along a side, at most, from which the deepest of a mask is chosen."""


def plain(
    prompts: Prompts,
    size: tuple[int, int],
    frame: NDArray[np.float64],
    *,
    cells: int = 256,
) -> Prompts:
    """The same prompts as points, box and logits only.

    - Of a **scribble**, a few points along it.
    - Of a **mask**, the share of each cell of the frame that it covers, as logits; a point where it is
      deepest, far from negative points; and its box, unless there are negative points, or positive ones
      beside the box: these say that the mask reaches too far, or not far enough.
    - Of a **lasso**, the same kind of logits, less sure; and its box, unless there are positive points beside
      it. Together with a mask it says which part of it is meant.

    Logits and boxes that were given as such stay as they are.

    Parameters
    ----------
    prompts : Prompts
    size : tuple of int
        Height and width of the plane that they are on, in pixels.
    frame : ndarray, shape (4,), float64
        The rectangle x0, y0, x1, y1 of the plane, between pixel edges, that mask prompts of the model cover.
    cells : int, default 256
        Along each side of the logits.

    Raises
    ------
    PromptError
        If the mask is of a plane of another size.
    """
    if prompts.is_plain:
        return prompts
    points, labels = _with_scribbles(prompts, size)
    box, share, sure = prompts.box, None, _LASSO_LOGIT
    if prompts.lasso is not None:
        share = _lasso_share(prompts.lasso, frame, cells)
    if prompts.mask is not None:
        checked_mask(size, prompts.mask)
        covered = _mask_share(prompts.mask, frame, cells)
        part = covered if share is None else np.minimum(covered, share)
        if part.any():
            share, sure = part, _MASK_LOGIT
    seen = share is not None and bool((share > 0.5).any())
    positive, negative = points[labels == 1], points[labels == 0]
    if box is None and prompts.lasso is not None:
        box = _clipped(prompts.lasso.min(axis=0), prompts.lasso.max(axis=0), size)
        box = _unless_beside(box, positive)
    elif prompts.mask is not None:
        if box is None and not (seen and len(negative)):
            box = _unless_beside(np.array(prompts.mask.box_edges), positive)
        points = np.concatenate([points, [_deepest(prompts.mask, negative)]])
        labels = np.append(labels, np.int64(1))
    logits = prompts.mask_input
    # Logits without a positive one would say that nothing is there.
    if logits is None and share is not None and seen:
        logits = np.float32(sure) * (2 * share - 1)
    return Prompts(points, labels, box, logits)


def _with_scribbles(prompts: Prompts, size: tuple[int, int]) -> tuple[Array, NDArray[np.int64]]:
    """Points and their labels, those of scribbles included."""
    step = _SAMPLE_STEP * max(size)
    sampled = [sample_path(s.path, min(_SAMPLES, 1 + int(_length(s) / step))) for s in prompts.scribbles]
    labels = [np.full(len(xy), s.label) for xy, s in zip(sampled, prompts.scribbles, strict=True)]
    return np.concatenate([prompts.points, *sampled]), np.concatenate([prompts.labels, *labels])


def _length(scribble: Scribble) -> float:
    return float(np.hypot(*np.diff(scribble.path, axis=0).T).sum())


def _clipped(low: Array, high: Array, size: tuple[int, int]) -> Array:
    edge = np.array([size[1], size[0]]) - 0.5
    return np.concatenate([np.clip(low, -0.5, edge), np.clip(high, -0.5, edge)])


def _unless_beside(box: Array, points: Array) -> Array | None:
    """No box where points of the object lie beside it: nobody knows how far it reaches there."""
    return None if ((points < box[:2]) | (points > box[2:])).any() else box


def _deepest(mask: Mask, apart: Array) -> tuple[float, float]:
    """The pixel (x, y) of a mask that is farthest from its outline and from points `apart`."""
    from scipy import ndimage

    step = math.ceil(max(mask.bits.shape) / _DEPTH_SIDE)
    row, column = mask.origin
    deep = np.pad(mask.bits[::step, ::step], 1)
    at = np.floor((apart[:, ::-1] + 0.5 - (row, column)) / step).astype(int) + 1
    rows, columns = at[((at >= 0) & (at < deep.shape)).all(axis=1)].T
    deep[rows, columns] = False
    distance = ndimage.distance_transform_edt(deep)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    if distance[y, x] == 0:
        # Nothing but a thin line, or a negative point on all there is.
        step, (y, x) = 1, np.argwhere(mask.bits)[0]
    return float(column + x * step), float(row + y * step)


def _mask_share(mask: Mask, frame: Array, cells: int) -> Values:
    """Which share of each cell of a frame a mask covers: shape (cells, cells), from 0 to 1."""
    x0, y0, x1, y1 = frame
    row, column = mask.origin
    share = np.zeros((cells, cells), dtype=np.float32)
    y, rows = _touched(y0 - row, y1 - row, cells, mask.bits.shape[0])
    x, columns = _touched(x0 - column, x1 - column, cells, mask.bits.shape[1])
    height, width = mask.bits.shape
    along_y, along_x = _overlaps(y, height), _overlaps(x, width)
    share[rows, columns] = (along_x @ (along_y @ mask.bits.astype(np.float32)).T).T
    return share


def _lasso_share(lasso: Array, frame: Array, cells: int) -> Values:
    """Which share of each cell of a frame a polygon covers, in steps: shape (cells, cells), from 0 to 1."""
    from PIL import Image, ImageDraw

    steps = np.array([frame[2] - frame[0], frame[3] - frame[1]]) / cells
    x, y = ((lasso + 0.5 - frame[:2]) / steps).T
    share = np.zeros((cells, cells), dtype=np.float32)
    rows, columns = _cells_between(y, cells), _cells_between(x, cells)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    # Not skimage.draw: the time that it takes grows with pixels times vertices.
    inside = Image.new("L", (width * _FINE, height * _FINE))
    corners = np.stack([x - columns.start, y - rows.start], axis=1) * _FINE - 0.5
    ImageDraw.Draw(inside).polygon(corners.ravel().tolist(), fill=1)
    fine = np.asarray(inside).reshape(height, _FINE, width, _FINE)
    share[rows, columns] = fine.mean(axis=(1, 3), dtype=np.float32)
    return share


def _cells_between(values: Array, cells: int) -> slice:
    first = min(max(0, math.floor(values.min())), cells - 1)
    return slice(first, max(first + 1, min(cells, math.ceil(values.max()))))


def _touched(low: float, high: float, cells: int, length: int) -> tuple[Array, slice]:
    """The edges of those of the cells between `low` and `high` that reach into 0 to `length`, and which."""
    size = (high - low) / cells
    first = min(max(0, math.floor(-low / size)), cells - 1)
    last = max(min(cells, math.ceil((length - low) / size)), first + 1)
    edges: Array = low + np.arange(first, last + 1, dtype=np.float64) * size
    return edges, slice(first, last)


def _overlaps(edges: Array, length: int) -> Any:
    """Which share of each cell between two edges each of `length` pixels covers: sparse (cells, pixels)."""
    from scipy import sparse

    cuts = np.union1d(edges, np.arange(length + 1))
    middles = (cuts[1:] + cuts[:-1]) / 2
    cells, pixels = np.searchsorted(edges, middles) - 1, np.floor(middles).astype(int)
    used = (cells >= 0) & (cells < len(edges) - 1) & (pixels >= 0) & (pixels < length)
    shares = (np.diff(cuts) / (edges[1] - edges[0])).astype(np.float32)
    shape = len(edges) - 1, length
    return sparse.csr_array((shares[used], (cells[used], pixels[used])), shape=shape)
