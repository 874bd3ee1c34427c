"""Simulated prompts: what a user would click, drawn from the ground truth and from the errors.

As in Kirillov et al. (2023), Segment Anything, appendix A, "Training algorithm": first a point inside the
object or a jittered box, then points from the error region, with the previous logits fed back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "SimulatedPrompts",
    "correct",
    "drop_some",
    "first_prompts",
    "sample_points",
    "several_points",
    "tight_boxes",
]

_DEPTH = 5
"""Side of the neighbourhood that tells how deep in a region a pixel lies: in blocks of 2 x 2 pixels, and of
twice and of four times as many."""
_SEVERAL = 4
"""Points that an object gets besides the first one, at most, where it gets any."""


@dataclass(slots=True)
class SimulatedPrompts:
    """Prompts of B objects in window coordinates: points (B, N, 2), labels (B, N), boxes (B, 4)."""

    points: Tensor
    labels: Tensor
    boxes: Tensor


def sample_points(regions: Tensor, power: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One random pixel centre (x, y) of each region, shape (B, 2); with ``power`` above 0 rather a deep one.

    Drawn from blocks of 2 x 2 pixels by the share of each that belongs to the region, then within the block:
    a quarter of the work.

    Parameters
    ----------
    regions : Tensor, shape (B, H, W), bool
        An empty region gives an arbitrary pixel.
    power : Tensor, shape (B,)
        0 draws uniformly.
    """
    blocks = F.avg_pool2d(regions[:, None].float(), 2)
    weight = blocks * _depth(blocks) ** power[:, None, None, None]
    # Exponential waiting times: the largest ratio wins with a probability proportional to its weight.
    waiting = torch.empty(weight.shape, device=weight.device).exponential_(generator=generator)
    at = (weight / waiting.clamp(min=1e-12)).flatten(1).argmax(1)
    rows, columns = at // weight.shape[-1] * 2, at % weight.shape[-1] * 2
    which = torch.arange(len(regions), device=at.device)
    offsets = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=at.device)
    inside = regions[which[:, None], rows[:, None] + offsets[:, 0], columns[:, None] + offsets[:, 1]]
    tie = torch.rand(inside.shape, device=at.device, generator=generator)
    chosen = offsets[(inside + tie).argmax(1)]
    return torch.stack([columns + chosen[:, 1], rows + chosen[:, 0]], dim=-1) + 0.5


def _depth(blocks: Tensor) -> Tensor:
    """How much of the neighbourhoods of each block, small to large, belongs to its region: from 0 to 1.

    The largest is what tells the middle of large objects from all else inside them.
    """
    shares = []
    for factor in (1, 2, 4):
        coarse = F.avg_pool2d(blocks, factor)
        share = F.avg_pool2d(coarse, _DEPTH, stride=1, padding=_DEPTH // 2)
        shares.append(F.interpolate(share, blocks.shape[-2:], mode="bilinear") if factor > 1 else share)
    return torch.stack(shares).mean(0)


def _power(
    count: int, device: torch.device, generator: torch.Generator | None, most: float, least: float
) -> Tensor:
    """``most`` for three in five objects, pointed at where their region is thickest, else ``least``."""
    chosen = torch.rand(count, generator=generator, device=device) < 0.6
    return torch.where(chosen, most, least)


def tight_boxes(masks: Tensor) -> Tensor:
    """x0, y0, x1, y1 between pixel edges of each mask, shape (B, 4)."""
    columns, rows = masks.any(1), masks.any(2)

    def span(line: Tensor) -> tuple[Tensor, Tensor]:
        first = line.float().argmax(1)
        last = line.shape[1] - line.flip(1).float().argmax(1)
        return first, last

    (x0, x1), (y0, y1) = span(columns), span(rows)
    return torch.stack([x0, y0, x1, y1], dim=-1).float()


def first_prompts(
    masks: Tensor,
    generator: torch.Generator | None = None,
    *,
    jitter: tuple[float, float] = (0.0, 0.05),
    most: float = 10.0,
) -> SimulatedPrompts:
    """A point, a jittered box, or both, for each of the masks.

    Parameters
    ----------
    masks : Tensor, shape (B, H, W), bool
    generator : torch.Generator, optional
        On the device of the masks.
    jitter : tuple of float
        Least and largest standard deviation of a box's edges as a share of its sides, drawn for each box;
        always 0.1 in the SAM paper.
    most : float
        Farthest that an edge is moved, in pixels; 20 of 1024 in the SAM paper.
    """
    count, device = len(masks), masks.device
    kind = torch.rand(count, generator=generator, device=device)
    has_box = kind < 0.45
    has_point = (kind > 0.45) | (kind < 0.1)
    points = sample_points(masks, _power(count, device, generator, 30.0, 0.0), generator)
    boxes = tight_boxes(masks)
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(count, 4, generator=generator, device=device).clamp(-2, 2)
    least, largest = jitter
    spread = least + (largest - least) * torch.rand(count, 1, generator=generator, device=device)
    boxes = boxes + (noise * side * spread).clamp(-most, most)
    boxes[~has_box] = torch.nan
    labels = torch.where(has_point, 1, -1)[:, None]
    return SimulatedPrompts(points[:, None], labels, boxes)


def several_points(
    prompts: SimulatedPrompts, masks: Tensor, share: float, generator: torch.Generator | None = None
) -> SimulatedPrompts:
    """Add points anywhere inside to a random share of the objects, as a scribble or eager clicks do.

    Parameters
    ----------
    prompts : SimulatedPrompts
        With one point of each object, or padding.
    masks : Tensor, shape (B, H, W), bool
    share : float
        Of objects that have a point: these get 1 to 4 more. The others get padding.
    generator : torch.Generator, optional
        On the device of the masks.
    """
    count, device = len(masks), masks.device
    chosen = (torch.rand(count, generator=generator, device=device) < share) & (prompts.labels[:, 0] == 1)
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return prompts
    number = torch.randint(1, _SEVERAL + 1, (count,), generator=generator, device=device) * chosen
    uniform = torch.zeros(len(rows) * _SEVERAL, device=device)
    more = prompts.points.repeat(1, _SEVERAL, 1)
    drawn = sample_points(masks[rows].repeat_interleave(_SEVERAL, dim=0), uniform, generator)
    more[rows] = drawn.view(-1, _SEVERAL, 2)
    there = torch.arange(_SEVERAL, device=device) < number[:, None]
    return SimulatedPrompts(
        torch.cat([prompts.points, more], dim=1),
        torch.cat([prompts.labels, torch.where(there, 1, -1)], dim=1),
        prompts.boxes,
    )


def correct(
    prompts: SimulatedPrompts, predicted: Tensor, masks: Tensor, generator: torch.Generator | None = None
) -> SimulatedPrompts:
    """Add to each object one click inside the error; where there is none, a padding point.

    Parameters
    ----------
    predicted, masks : Tensor, shape (B, H, W), bool
    """
    errors = predicted != masks
    at = sample_points(errors, _power(len(errors), errors.device, generator, 20.0, 1.0), generator)
    x, y = at.long().unbind(-1)
    inside = masks[torch.arange(len(masks), device=x.device), y, x].long()
    label = torch.where(errors.flatten(1).any(1), inside, -1)
    return SimulatedPrompts(
        torch.cat([prompts.points, at[:, None]], dim=1),
        torch.cat([prompts.labels, label[:, None]], dim=1),
        prompts.boxes,
    )


def drop_some(
    prompts: SimulatedPrompts, share: float, generator: torch.Generator | None = None
) -> SimulatedPrompts:
    """Take all points and the box from a random share of the objects: a mask prompt is left to them."""
    points = prompts.points
    dropped = torch.rand(len(points), generator=generator, device=points.device) < share
    return SimulatedPrompts(
        prompts.points,
        prompts.labels.masked_fill(dropped[:, None], -1),
        prompts.boxes.masked_fill(dropped[:, None], torch.nan),
    )
