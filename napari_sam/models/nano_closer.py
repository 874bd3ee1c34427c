"""The closer look of ``nano``: where an object is, the plane is encoded again, at the object's own scale.

The features of the plane are those of one scale, and an object of a few pixels has few of them. Once the
first look has said where it is, it is cut out of the plane, scaled until it fills a third of a window, and
decoded again. The idea is that of Sofiiuk et al. (2020, f-BRS: Rethinking Backpropagating Refinement for
Interactive Segmentation, section "Zoom-In for interactive segmentation").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.base import MaskLogits
from napari_sam.models.nano_encoder import NanoFeatures
from napari_sam.models.nano_prompts import WINDOW
from napari_sam.models.nano_windows import (
    cell_centres,
    have_several,
    of_best,
    prompt_rectangles,
    runs_out,
    sampled,
    to_window_frame,
)

if TYPE_CHECKING:
    from napari_sam.models.base import PromptBatch
    from napari_sam.models.nano import Nano, NanoEmbedding

__all__ = ["CLOSE", "closer_frames", "cut_out", "finer_frames", "halved", "look_closely", "resampled"]

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
_TOGETHER = 16
"""Objects that are encoded at once: their features take 5 MB each."""


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


def look_closely(
    nano: Nano, embedding: NanoEmbedding, prompts: PromptBatch, first: MaskLogits, chosen: list[int]
) -> MaskLogits:
    """The means of what was found and of what is found at each object's own scale.

    Parameters
    ----------
    nano : Nano
    embedding : NanoEmbedding
    prompts : PromptBatch
    first : MaskLogits
        All masks of the first look.
    chosen : list of int
        The candidates that say where objects are.
    """
    size, covered = embedding.original_size, first.frames
    masks = of_best(first.logits, first.scores, chosen) > 0
    frames = closer_frames(masks, covered, prompt_rectangles(prompts), size)
    every = torch.arange(len(prompts), device=frames.device)
    points, boxes, _ = to_window_frame(prompts, every, frames, max(size))
    single = ~have_several(prompts.labels, boxes)
    logits, scores = torch.empty_like(first.logits), torch.empty_like(first.scores)
    for rows in every.split(_TOGETHER):
        windows = cut_out(embedding.planes, size, frames[rows]).expand(-1, 3, -1, -1)
        windows = windows.to(nano.dtype).contiguous(memory_format=torch.channels_last)
        features = NanoFeatures(*nano.image_encoder(windows))
        seen = resampled(first.logits[rows, :1], covered[rows], frames[rows])
        logits[rows], scores[rows] = nano.decode_windows(
            features, points[rows], prompts.labels[rows], boxes[rows], seen
        )
        # A single point is ambiguous: all its candidates would become the mask that was seen. They look
        # without it, and only the single mask looks both ways.
        here = single[rows]
        if here.any():
            if not here.all():
                features = NanoFeatures(*(part[here] for part in features))
            alone = rows[here]
            plain = nano.decode_windows(features, points[alone], prompts.labels[alone], boxes[alone], None)
            for both, one in zip((logits, scores), plain, strict=True):
                one[:, 0] += both[alone, 0]
                both[alone] = one
    looks = torch.ones_like(scores)
    looks[single, 0] = 2
    scores = scores.masked_fill(runs_out(logits, frames, size), 0)
    scores = (scores + first.scores) / (looks + 1)
    onto = finer_frames(of_best(logits, scores, chosen) > 0, frames, covered)
    logits = resampled(logits, frames, onto) + resampled(first.logits, covered, onto)
    return MaskLogits(logits / (looks + 1)[..., None, None], onto, scores)


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
    height, width = planes[0].shape[-2:]
    x, y = cell_centres(frames, WINDOW)
    x, y = x * (width / size[1]), y * (height / size[0])
    step = (x[:, 1] - x[:, 0]) / _COARSE
    numbers = step.clamp(min=1).log2().ceil().long().clamp(max=len(planes) - 1).tolist()
    cut = [_cut(planes[n], x[row] / 2**n, y[row] / 2**n) for row, n in enumerate(numbers)]
    return torch.cat(cut) * _inside(x, y, width, height)


def _cut(plane: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The values of a plane at rising columns and rows, between edges, shape (1, C, 256, 256)."""
    parts, shares = [], []
    for at, side in ((y, plane.shape[-2]), (x, plane.shape[-1])):
        first = min(max(int(float(at[0])) - 1, 0), side - 1)
        last = max(min(int(float(at[-1])) + 2, side), first + 1)
        parts.append(slice(first, last))
        shares.append((at - first) / (last - first))
    part = plane[None, :, parts[0], parts[1]].float() * _UNIT
    return sampled(part, shares[1][None], shares[0][None])


def resampled(logits: Tensor, frames: Tensor, onto: Tensor) -> Tensor:
    """Logits, shape (B, C, h, w), that cover `frames` on other rectangles; background where these do not."""
    x, y = cell_centres(onto, logits.shape[-1])
    extent = frames[:, 2:] - frames[:, :2]
    x, y = (x - frames[:, :1]) / extent[:, :1], (y - frames[:, 1:2]) / extent[:, 1:]
    return sampled(logits, x, y).masked_fill(~_inside(x, y, 1, 1), _OUTSIDE)


def _inside(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    """Which of all columns (B, w) and rows (B, h) are between 0 and a width and height: (B, 1, h, w)."""
    return ((y > 0) & (y < height))[:, None, :, None] & ((x > 0) & (x < width))[:, None, None, :]


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
