"""Where objects are, as the dense head of ``nano`` says: points to prompt with.

Each pixel of the foreground knows the way to the centre of its object. Where many of them meet is an object,
as in Hough voting; the vote of each pixel for a centre is as in "Instance segmentation by jointly optimizing
spatial embeddings and clustering bandwidth" (Neven et al. 2019, section 3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.nano_encoder import CENTRE_UNIT, FINE_STRIDE

if TYPE_CHECKING:
    from napari_sam.models.nano import NanoEmbedding, NanoLevel

__all__ = ["centres_of", "in_cells", "object_centres", "on_plane", "to_pixels"]

_SPREAD = 1.5
"""Standard deviation with which a vote counts around its place, in cells."""
_LEAST_VOTES = 4.0
"""Cells that must agree on a centre."""
_APART = 2
"""Cells between two centres, at least."""
_SAME = 2.0
"""Of centres on two levels that are nearer than this, in cells of the coarser one, the finer one counts."""


def object_centres(embedding: NanoEmbedding) -> Tensor:
    """Centres of objects of any size.

    Parameters
    ----------
    embedding : NanoEmbedding

    Returns
    -------
    Tensor, shape (N, 2), float32
        (x, y) in pixels of the plane, an integer being a pixel's centre. Those of small objects come first.
    """
    per_pixel = torch.tensor(embedding.scale[::-1], dtype=torch.float32)
    found = torch.zeros((0, 2))
    for number, level in enumerate(embedding.levels):
        here = to_pixels(centres_of(in_cells(level)).cpu() + 0.5, embedding, number) - 0.5
        if len(found) and len(here):
            nearest = torch.cdist(here * per_pixel, found * per_pixel).amin(1)
            here = here[nearest >= _SAME * FINE_STRIDE * 2.0**number]
        found = torch.cat([found, here])
    return on_plane(found, embedding)


def on_plane(points: Tensor, embedding: NanoEmbedding) -> Tensor:
    """Points (x, y) in pixels of the plane, an integer being a pixel's centre, moved onto its pixels."""
    height, width = embedding.original_size
    return torch.minimum(points.clamp(min=0), points.new_tensor([width - 1.0, height - 1.0]))


def to_pixels(at: Tensor, embedding: NanoEmbedding, number: int) -> Tensor:
    """Places (x, y) in cells of a level as pixels of the plane, both measured between edges, shape (N, 2)."""
    return at * (FINE_STRIDE * 2.0**number / torch.tensor(embedding.scale[::-1], dtype=at.dtype))


def in_cells(level: NanoLevel) -> Tensor:
    """What the dense head says of a level, without padding, ways in cells: shape (h, w, 4), float32."""
    rows, columns = (math.ceil(side / FINE_STRIDE) for side in level.size)
    dense = level.features.dense[:rows, :columns].float()
    return torch.cat([dense[..., :2], dense[..., 2:] * (CENTRE_UNIT / FINE_STRIDE)], dim=-1)


def centres_of(dense: Tensor) -> Tensor:
    """Centres as column and row of cells, those with most votes first; `dense` is as of `in_cells`."""
    rows, columns = dense.shape[:2]
    y, x = torch.nonzero(dense[..., 0] > 0, as_tuple=True)
    way = dense[y, x, 2:]
    to_x = (x + way[:, 0]).round().long().clamp(0, columns - 1)
    to_y = (y + way[:, 1]).round().long().clamp(0, rows - 1)
    votes = torch.bincount(to_y * columns + to_x, minlength=rows * columns)
    smooth = _blurred(votes.view(1, 1, rows, columns).float())
    around = F.max_pool2d(smooth, 2 * _APART + 1, stride=1, padding=_APART)
    peaks = (smooth == around) & (smooth >= _LEAST_VOTES)
    at = torch.nonzero(peaks[0, 0])
    order = smooth[0, 0][at[:, 0], at[:, 1]].argsort(descending=True, stable=True)
    return at[order].flip(1)


def _blurred(votes: Tensor) -> Tensor:
    """Around each cell, the votes near it: those in it count fully."""
    reach = math.ceil(3 * _SPREAD)
    steps = torch.arange(-reach, reach + 1, device=votes.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / _SPREAD) ** 2)
    down = F.conv2d(votes, weights.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(down, weights.view(1, 1, 1, -1), padding=(0, reach))
