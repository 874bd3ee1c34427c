"""All objects at once, as the dense head of ``nano`` says: segmented in one pass, without any prompt.

Where pixels point to the same centre is an object (see :mod:`napari_sam.models.nano_centres`). From the
centres, a seeded watershed (Meyer 1994, Topographic distance and watershed lines) floods the foreground:
lowest where the way to the centre is short, highest on boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.models.base import Instances, MaskLogits
from napari_sam.models.nano_centres import centres_of, in_cells, on_plane, to_pixels
from napari_sam.models.nano_encoder import FINE_STRIDE
from napari_sam.models.nano_prompts import WINDOW

if TYPE_CHECKING:
    from napari_sam.models.nano import NanoEmbedding, NanoLevel

__all__ = ["object_instances"]

_CELLS = WINDOW // FINE_STRIDE
"""Along a side of an object's logits; what is larger is found on a coarser level."""
_LEAST_CELLS = 4
_NEAR = 2.0
"""Cells from its centre to which a pixel may point and yet agree, or half the object's radius."""


@dataclass(frozen=True)
class _Level:
    """The objects of one level, in cells of its dense head.

    Attributes
    ----------
    labels : ndarray, shape (h, w), int32
    foreground : ndarray, shape (h, w), float32
        Logits.
    ids : ndarray, shape (N,)
    centres, corners : ndarray, shape (N, 2)
        Of each object: x, y of its seed; row and column where its logits begin.
    scores : ndarray, shape (N,), float32
    """

    labels: NDArray[np.int32]
    foreground: NDArray[np.float32]
    ids: NDArray[np.intp]
    centres: NDArray[np.intp]
    corners: NDArray[np.intp]
    scores: NDArray[np.float32]


def object_instances(embedding: NanoEmbedding) -> Instances:
    """Objects of any size. One that is seen at several resolutions is there several times.

    The score of an object is the mean, over its pixels, of the probability of foreground where a pixel points
    to its centre, and of 0 where it points elsewhere.

    Parameters
    ----------
    embedding : NanoEmbedding
    """
    last = len(embedding.levels) - 1
    levels = [_on_level(level, most=_CELLS if i < last else None) for i, level in enumerate(embedding.levels)]
    seeds = [torch.from_numpy(one.centres).double() + 0.5 for one in levels]
    points = torch.cat([to_pixels(at, embedding, number) for number, at in enumerate(seeds)]) - 0.5
    points = on_plane(points, embedding)
    which = np.repeat(np.arange(len(levels)), [len(one.ids) for one in levels])
    row = np.concatenate([np.arange(len(one.ids)) for one in levels])

    def masks(chosen: NDArray[np.intp]) -> MaskLogits:
        logits = np.empty((len(chosen), _CELLS, _CELLS), np.float32)
        frames = np.empty((len(chosen), 4), np.float32)
        scores = np.empty(len(chosen), np.float32)
        for number, level in enumerate(levels):
            here = which[chosen] == number
            rows = row[chosen[here]]
            logits[here] = _logits(level, rows)
            corner = torch.from_numpy(level.corners[rows, ::-1].astype(np.float64))
            ends = [to_pixels(end, embedding, number) for end in (corner, corner + _CELLS)]
            frames[here] = torch.cat(ends, dim=1)
            scores[here] = level.scores[rows]
        return MaskLogits(
            torch.from_numpy(logits)[:, None], torch.from_numpy(frames), torch.from_numpy(scores)[:, None]
        )

    return Instances(points.float(), masks)


def _on_level(level: NanoLevel, most: int | None) -> _Level:
    """The objects of a level that are at most so many cells high and wide."""
    from skimage.segmentation import watershed

    dense = in_cells(level).cpu()
    foreground, boundary = dense[..., 0].numpy(), dense[..., 1].sigmoid().numpy()
    ways = dense[..., 2:].numpy()
    centres = centres_of(dense).numpy()
    seeds = np.zeros(foreground.shape, np.int32)
    seeds[centres[:, 1], centres[:, 0]] = np.arange(1, len(centres) + 1)
    lengths = np.hypot(ways[..., 0], ways[..., 1])
    heights = lengths / max(float(lengths.max(initial=0)), 1e-6) + boundary
    labels = watershed(heights, seeds, mask=foreground > 0)
    low, high = _boxes(labels, len(centres))
    areas = np.bincount(labels.ravel(), minlength=len(centres) + 1)[1:]
    scores = _scores(labels, areas, centres, foreground, ways)
    fits = (high - low).max(1, initial=0) <= (most or max(labels.shape))
    kept = np.flatnonzero((areas >= _LEAST_CELLS) & fits)
    corners = (low[kept] + high[kept] - _CELLS) // 2
    return _Level(labels, foreground, kept + 1, centres[kept], corners, scores[kept])


def _boxes(labels: NDArray[np.int32], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last row and column, the latter exclusive, of each object, shape (N, 2)."""
    # Imported late, as skimage is: a model is to be loaded in no time.
    from scipy import ndimage

    boxes = [box or (slice(0, 0),) * 2 for box in ndimage.find_objects(labels, count)]
    ends = [[[part.start, part.stop] for part in box] for box in boxes]
    low, high = np.array(ends, np.intp).reshape(-1, 2, 2).transpose(2, 0, 1)
    return low, high


def _scores(
    labels: NDArray[np.int32],
    areas: NDArray[np.intp],
    centres: NDArray[np.intp],
    foreground: NDArray[np.float32],
    ways: NDArray[np.float32],
) -> NDArray[np.float32]:
    """How sure each object is, shape (N,); see :func:`object_instances`."""
    y, x = np.nonzero(labels)
    of = labels[y, x] - 1
    to = centres[of]
    missed = np.hypot(x + ways[y, x, 0] - to[:, 0], y + ways[y, x, 1] - to[:, 1])
    agrees = missed < np.maximum(_NEAR, 0.5 * np.sqrt(areas[of] / np.pi))
    sure = agrees / (1 + np.exp(-foreground[y, x]))
    scores: NDArray[np.float64] = np.bincount(of, sure, minlength=len(areas)) / np.maximum(areas, 1)
    return scores.astype(np.float32)


def _logits(level: _Level, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Foreground of some objects in their windows, shape (N, cells, cells), without what is another's."""
    at = np.arange(_CELLS)
    y, x = level.corners[rows, 0, None] + at, level.corners[rows, 1, None] + at
    height, width = level.labels.shape
    # Beyond the edges it goes on as it ends there, so that nothing is missing along them.
    where = y.clip(0, height - 1)[:, :, None], x.clip(0, width - 1)[:, None, :]
    values = level.foreground[where]
    return np.where(level.labels[where] == level.ids[rows, None, None], values, -np.abs(values))
