"""The closer look of ``nano``: where an object is, the plane is encoded again, at the object's own scale.

The features of the plane are those of one scale, and an object of a few pixels has few of them. Once the
first look has said where it is, it is cut out of the plane, scaled until it fills a third of a window, and
decoded again. The idea is that of Sofiiuk et al. (2020, f-BRS: Rethinking Backpropagating Refinement for
Interactive Segmentation, section "Zoom-In for interactive segmentation").
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.nano_prompts import WINDOW

__all__ = ["CLOSE", "closer_frames", "cut_out", "finer_frames", "halved", "resampled"]

CLOSE = 3.0
"""Sides of the object to the side of its window."""
_LEAST_SIDE = 64.0
"""Of a window, in pixels of the plane: fourfold enlargement, as much as training has."""
_ROOM = 1.15
"""Sides of the rectangle around prompts to the side of the window, at least."""
_COARSE = 1.5
"""Pixels to the pixel of a window from which one looks at a plane of half the size."""
_OUTSIDE = -10.0
"""The logit of what nobody has looked at."""
_UNIT = 2.0**-13


def halved(plane: Tensor) -> tuple[Tensor, ...]:
    """A plane, shape (C, H, W), and its halves down to one window, int16.

    Values between -2 and 2 are kept in units of 2 ** -13: whatever the precision of the weights, they take
    half the memory, and nobody can see it.
    """
    planes = []
    while True:
        planes.append((plane / _UNIT).round().short())
        if max(plane.shape[-2:]) <= WINDOW:
            return tuple(planes)
        plane = F.avg_pool2d(plane[None], 2, ceil_mode=True)[0]


def closer_frames(masks: Tensor, frames: Tensor, prompted: Tensor, size: tuple[int, int]) -> Tensor:
    """Square windows x0, y0, x1, y1 around objects, in pixels of the plane between edges, shape (B, 4).

    Parameters
    ----------
    masks : Tensor, shape (B, h, w), bool
        What was found.
    frames : Tensor, shape (B, 4)
        The rectangles that these cover.
    prompted : Tensor, shape (B, 4)
        The rectangles around points and boxes, infinite where there are none.
    size : tuple of int
        Height and width of the plane.
    """
    found = _rectangles(masks, frames)
    found = torch.where(found.isfinite().all(1, keepdim=True), found, prompted)
    around = torch.cat(
        [torch.minimum(found[:, :2], prompted[:, :2]), torch.maximum(found[:, 2:], prompted[:, 2:])], dim=1
    )
    height, width = size
    whole = around.new_tensor([0.0, 0.0, width, height])
    around, found = (torch.where(one.isfinite().all(1, keepdim=True), one, whole) for one in (around, found))
    side = torch.maximum(_longest(found) * CLOSE, _longest(around) * _ROOM)
    side = side.clamp(min=_LEAST_SIDE).clamp(max=max(height, width))[:, None]
    corner = (around[:, :2] + around[:, 2:]) / 2 - side / 2
    # Where a window fits into the plane, it lies in it.
    corner = torch.minimum(corner.clamp(min=0), (whole[2:] - side).clamp(min=0))
    return torch.cat([corner, corner + side], dim=1)


def finer_frames(masks: Tensor, frames: Tensor, others: Tensor) -> Tensor:
    """Of two rectangles for each object the smaller one, if the object lies in it: shape (B, 4).

    Parameters
    ----------
    masks : Tensor, shape (B, h, w), bool
    frames : Tensor, shape (B, 4)
        The rectangles that these cover.
    others : Tensor, shape (B, 4)
    """
    found = _rectangles(masks, frames)
    holds = (found[:, :2] > others[:, :2]).all(1) & (found[:, 2:] < others[:, 2:]).all(1)
    return torch.where((holds & (_longest(others) < _longest(frames)))[:, None], others, frames)


def cut_out(planes: tuple[Tensor, ...], size: tuple[int, int], frames: Tensor) -> Tensor:
    """What lies in square windows of a plane, shape (B, C, 256, 256); 0 outside the plane.

    Parameters
    ----------
    planes : tuple of Tensor
        As :func:`halved` returns them.
    size : tuple of int
        Height and width in which `frames` are measured.
    frames : Tensor, shape (B, 4)
    """
    at = (torch.arange(WINDOW, device=frames.device) + 0.5) / WINDOW
    # In shares of the plane.
    x, y = (
        (frames[:, i, None] + at * (frames[:, i + 2] - frames[:, i])[:, None]) / size[1 - i] for i in (0, 1)
    )
    step = (frames[:, 2] - frames[:, 0]) / WINDOW * (planes[0].shape[-1] / size[1])
    numbers = (step / _COARSE).clamp(min=1).log2().ceil().long().clamp(max=len(planes) - 1).tolist()
    cut = torch.cat([_cut(planes[number], x[row], y[row]) for row, number in enumerate(numbers)])
    inside = ((y > 0) & (y < 1))[:, None, :, None] & ((x > 0) & (x < 1))[:, None, None, :]
    return cut * inside


def _cut(plane: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The values of a plane at columns and rows that are given as shares of it, shape (1, C, 256, 256)."""
    parts, shares = [], []
    for share, side in ((y, plane.shape[-2]), (x, plane.shape[-1])):
        first = min(max(int(float(share[0]) * side) - 1, 0), side - 1)
        last = max(min(int(float(share[-1]) * side) + 2, side), first + 1)
        parts.append(slice(first, last))
        shares.append((share * side - first) / (last - first))
    part = plane[None, :, parts[0], parts[1]].float() * _UNIT
    grid = _grid(shares[1][None], shares[0][None])
    return F.grid_sample(part, grid, padding_mode="border", align_corners=False)


def resampled(logits: Tensor, frames: Tensor, onto: Tensor) -> Tensor:
    """Logits, shape (B, C, h, w), that cover `frames` on other rectangles; background where these do not."""
    cells = logits.shape[-1]
    at = (torch.arange(cells, device=logits.device) + 0.5) / cells
    x, y = (
        (onto[:, i, None] + at * (onto[:, i + 2] - onto[:, i])[:, None] - frames[:, i, None])
        / (frames[:, i + 2] - frames[:, i])[:, None]
        for i in (0, 1)
    )
    there = F.grid_sample(logits, _grid(x, y), padding_mode="border", align_corners=False)
    inside = ((y > 0) & (y < 1))[:, None, :, None] & ((x > 0) & (x < 1))[:, None, None, :]
    return there.masked_fill(~inside, _OUTSIDE)


def _grid(x: Tensor, y: Tensor) -> Tensor:
    """Columns (B, w) and rows (B, h) in shares, as ``grid_sample`` wants them."""
    x, y = x * 2 - 1, y * 2 - 1
    return torch.stack(
        [x[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], dim=-1
    )


def _rectangles(masks: Tensor, frames: Tensor) -> Tensor:
    """Around the foreground, shape (B, 4); infinite where there is none."""
    cells = masks.shape[-1]
    at = torch.arange(cells, device=masks.device, dtype=frames.dtype)
    hit = torch.stack([masks.any(1), masks.any(2)], dim=1)
    low = torch.where(hit, at, torch.inf).amin(-1)
    high = torch.where(hit, at + 1, -torch.inf).amax(-1)
    cell = (frames[:, 2:] - frames[:, :2]) / cells
    return torch.cat([frames[:, :2] + low * cell, frames[:, :2] + high * cell], dim=1)


def _longest(rectangles: Tensor) -> Tensor:
    return (rectangles[:, 2:] - rectangles[:, :2]).amax(1)
