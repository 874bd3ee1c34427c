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

__all__ = ["crop", "finest_level", "place", "prompt_extents", "runs_out", "to_window_frame"]

_FILL = 0.75
"""How much of a window the prompts may span: an object needs some surroundings."""
_OUTSIDE_CELLS = 4
"""Foreground cells on an inner edge of the window that mean: the object goes on beyond it."""


def prompt_extents(prompts: PromptBatch, embedding: NanoEmbedding) -> Tensor:
    """The rectangle around all prompts of each object, shape (B, 4), in working pixels.

    An object without any prompt spans the whole image.
    """
    height, width = embedding.original_size
    used = (prompts.labels >= 0)[..., None]
    low = [torch.where(used, prompts.points, torch.inf)]
    high = [torch.where(used, prompts.points, -torch.inf)]
    if prompts.boxes is not None:
        corners = prompts.boxes.view(-1, 2, 2)
        low.append(corners.nan_to_num(nan=torch.inf))
        high.append(corners.nan_to_num(nan=-torch.inf))
    if prompts.logits is not None:
        first, last = _mask_corners(prompts.logits[:, 0], max(height, width))
        low.append(first[:, None])
        high.append(last[:, None])
    rect = torch.cat([torch.cat(low, dim=1).amin(1), torch.cat(high, dim=1).amax(1)], dim=-1)
    whole = torch.tensor([0, 0, width - 1, height - 1], dtype=rect.dtype, device=rect.device)
    rect = torch.where(rect.isfinite().all(1, keepdim=True), rect, whole) + 0.5
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
    prompts: PromptBatch, rows: Tensor, origins: Tensor, index: int, embedding: NanoEmbedding
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Points, boxes and mask logits of the objects ``rows`` as the prompt encoder wants them."""
    scale = torch.tensor(embedding.scale[::-1], device=origins.device) / 2**index
    shift = origins.flip(-1).float()
    points = (prompts.points[rows] + 0.5) * scale - shift[:, None]
    if prompts.boxes is None:
        boxes = torch.full((len(rows), 4), torch.nan, device=origins.device)
    else:
        boxes = ((prompts.boxes[rows].view(-1, 2, 2) + 0.5) * scale - shift[:, None]).flatten(1)
    if prompts.logits is None:
        return points, boxes, None
    side = max(embedding.original_size)
    at = (torch.arange(WINDOW // FINE_STRIDE, device=origins.device) + 0.5) * FINE_STRIDE
    xs = (at + shift[:, :1]) / scale[0] / side * 2 - 1
    ys = (at + shift[:, 1:]) / scale[1] / side * 2 - 1
    grid = torch.stack(
        [xs[:, None, :].expand(-1, len(at), -1), ys[:, :, None].expand(-1, -1, len(at))], dim=-1
    )
    logits = F.grid_sample(prompts.logits[rows], grid, padding_mode="border", align_corners=False)
    return points, boxes, logits


def runs_out(logits: Tensor, origins: Tensor, level: NanoLevel) -> Tensor:
    """Which masks, shape (B, h, w), reach an edge of their window that is not an edge of the image."""
    inside = logits > 0
    height, width = level.size
    y, x = origins.unbind(-1)
    touched = (
        inside[:, 0].sum(-1) * (y > 0)
        + inside[:, -1].sum(-1) * (y + WINDOW < height)
        + inside[:, :, 0].sum(-1) * (x > 0)
        + inside[:, :, -1].sum(-1) * (x + WINDOW < width)
    )
    return touched >= _OUTSIDE_CELLS


def _mask_corners(logits: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """First and last foreground (x, y) of low-resolution logits, in pixels; infinite where there is none."""
    size = logits.shape[-1]
    at = (torch.arange(size, device=logits.device) + 0.5) * (side / size) - 0.5
    hit = torch.stack([(logits > 0).any(1), (logits > 0).any(2)], dim=1)
    return torch.where(hit, at, torch.inf).amin(-1), torch.where(hit, at, -torch.inf).amax(-1)
