"""Windows of ``nano``: which level, where, and what lies in them.

Level ``l`` of an embedding has ``2**l`` working pixels to the pixel. Rectangles are x0, y0, x1, y1 and
origins (y, x), both in pixels measured between edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.nano_encoder import FINE_STRIDE, STRIDE
from napari_sam.models.nano_prompts import WINDOW

if TYPE_CHECKING:
    from napari_sam.models.base import PromptBatch
    from napari_sam.models.nano import NanoEmbedding, NanoLevel

__all__ = [
    "cell_centres",
    "crop",
    "finest_level",
    "have_several",
    "of_best",
    "place",
    "prompt_extents",
    "prompt_rectangles",
    "runs_out",
    "sampled",
    "to_window_frame",
]

_FILL = 0.75
"""How much of a window the prompts may span: an object needs some surroundings."""
_OUTSIDE_CELLS = 4
"""Foreground cells on an inner edge of the window that mean: the object goes on beyond it."""


def prompt_rectangles(prompts: PromptBatch) -> Tensor:
    """The rectangles around the points and the box of each object, shape (B, 4), in pixels between edges.

    From infinity to minus infinity where there are none.
    """
    used = (prompts.labels >= 0)[..., None]
    none = torch.full((len(prompts), 1, 2), torch.inf, device=prompts.points.device)
    low = [none, torch.where(used, prompts.points, torch.inf)]
    high = [-none, torch.where(used, prompts.points, -torch.inf)]
    if prompts.boxes is not None:
        corners = prompts.boxes.view(-1, 2, 2)
        low.append(corners.nan_to_num(nan=torch.inf))
        high.append(corners.nan_to_num(nan=-torch.inf))
    return torch.cat([torch.cat(low, dim=1).amin(1), torch.cat(high, dim=1).amax(1)], dim=-1) + 0.5


def prompt_extents(prompts: PromptBatch, embedding: NanoEmbedding) -> Tensor:
    """The rectangle around all prompts of each object, shape (B, 4), in working pixels.

    An object without any prompt spans the whole image.
    """
    height, width = embedding.original_size
    rect = prompt_rectangles(prompts)
    if prompts.logits is not None:
        first, last = _mask_corners(prompts.logits[:, 0], max(height, width))
        rect = torch.cat([torch.minimum(rect[:, :2], first), torch.maximum(rect[:, 2:], last)], dim=-1)
    whole = torch.tensor([0.5, 0.5, width - 0.5, height - 0.5], dtype=rect.dtype, device=rect.device)
    rect = torch.where(rect.isfinite().all(1, keepdim=True), rect, whole)
    return rect * torch.tensor(embedding.scale[::-1] * 2, device=rect.device)


def finest_level(extents: Tensor, num_levels: int) -> Tensor:
    """Index of the finest level on which the prompts span at most three quarters of a window."""
    span = (extents[:, 2:] - extents[:, :2]).amax(1)
    level = (span / (WINDOW * _FILL)).clamp(min=1).log2().ceil().long()
    return level.clamp(max=num_levels - 1)


def place(extents: Tensor, index: int, level: NanoLevel) -> Tensor:
    """Origins (y, x) of windows centred on the prompts, inside the level, on the embedding's grid."""
    centre = (extents[:, :2] + extents[:, 2:]) / 2 / 2**index
    origin = ((centre - WINDOW / 2) / STRIDE).round().long() * STRIDE
    height, width = (n * STRIDE for n in level.features.embedding.shape[:2])
    most = torch.tensor([width - WINDOW, height - WINDOW], device=origin.device)
    return origin.clamp(min=0).minimum(most).flip(-1)


def crop(features: Tensor, origins: Tensor, stride: int) -> Tensor:
    """Cut windows out of (h, w, C) features; shape (B, C, WINDOW / stride, WINDOW / stride)."""
    at = torch.arange(WINDOW // stride, device=origins.device)
    rows = (origins[:, 0, None] // stride + at)[:, :, None]
    cols = (origins[:, 1, None] // stride + at)[:, None, :]
    return features[rows, cols].permute(0, 3, 1, 2)


def to_window_frame(
    prompts: PromptBatch, rows: Tensor, frames: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Points, boxes and mask logits of the objects ``rows`` as the prompt encoder wants them.

    Parameters
    ----------
    prompts : PromptBatch
    rows : Tensor, shape (B,), int64
    frames : Tensor, shape (B, 4)
        Their windows, in pixels of the plane between edges.
    side : int
        The longest of the plane.
    """
    corner, extent = frames[:, None, :2], frames[:, None, 2:] - frames[:, None, :2]
    points = (prompts.points[rows] + 0.5 - corner) * (WINDOW / extent)
    if prompts.boxes is None:
        boxes = torch.full((len(rows), 4), torch.nan, device=frames.device)
    else:
        boxes = ((prompts.boxes[rows].view(-1, 2, 2) + 0.5 - corner) * (WINDOW / extent)).flatten(1)
    if prompts.logits is None:
        return points, boxes, None
    x, y = cell_centres(frames, WINDOW // FINE_STRIDE)
    return points, boxes, sampled(prompts.logits[rows], x / side, y / side)


def cell_centres(frames: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Columns and rows, shape (B, cells), of the centres of cells that divide rectangles, shape (B, 4)."""
    at = (torch.arange(cells, device=frames.device) + 0.5) / cells
    x, y = (frames[:, i, None] + at * (frames[:, i + 2] - frames[:, i])[:, None] for i in (0, 1))
    return x, y


def sampled(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values of maps (B, C, h, w) at columns (B, W) and rows (B, H); beyond an edge, those at the edge.

    Columns and rows are given as shares of the maps' sides: between 0 and 1.
    """
    x, y = x * 2 - 1, y * 2 - 1
    grid = torch.stack(
        [x[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], dim=-1
    )
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)


def runs_out(logits: Tensor, frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Which masks, shape (B, C, h, w), reach an edge of their window that is not one of the plane: (B, C)."""
    inside = logits > 0
    height, width = size
    x0, y0, x1, y1 = frames[..., None].unbind(1)
    touched = (
        inside[:, :, 0].sum(-1) * (y0 > 0.5)
        + inside[:, :, -1].sum(-1) * (y1 < height - 0.5)
        + inside[..., 0].sum(-1) * (x0 > 0.5)
        + inside[..., -1].sum(-1) * (x1 < width - 0.5)
    )
    return touched >= _OUTSIDE_CELLS


def of_best(values: Tensor, scores: Tensor, chosen: list[int]) -> Tensor:
    """Of values (B, C, ...) those of the chosen candidate with the highest predicted IoU: (B, ...)."""
    at = torch.arange(len(values), device=values.device)
    return values[:, chosen][at, scores[:, chosen].argmax(1)]


def have_several(labels: Tensor, boxes: Tensor) -> Tensor:
    """Which objects have more than a single point: shape (B,), bool."""
    return (labels >= 0).sum(1) + 2 * (~boxes.isnan().any(1)) > 1


def _mask_corners(logits: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """First and last foreground (x, y) of low-resolution logits, in pixels between edges, or infinite."""
    size = logits.shape[-1]
    at = (torch.arange(size, device=logits.device) + 0.5) * (side / size) - 0.5
    hit = torch.stack([(logits > 0).any(1), (logits > 0).any(2)], dim=1)
    return torch.where(hit, at, torch.inf).amin(-1) + 0.5, torch.where(hit, at, -torch.inf).amax(-1) + 0.5
