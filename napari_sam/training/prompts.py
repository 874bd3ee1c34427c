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
    "rough_masks",
    "sample_points",
    "tight_boxes",
]

_DEPTH = 5
"""Side, in blocks of 2 x 2 pixels, of the neighbourhood that tells how deep in a region a pixel lies."""
_ROUGHNESS = 0.12
"""Standard deviation of the shift, as a share of an object's radius, of its stretching, and of its turn."""
_RAMP = 5
"""Cells over which the logits of a rough mask rise."""
_SURE = 10.0
"""The logit of what is inside it."""


@dataclass(slots=True)
class SimulatedPrompts:
    """Prompts of B objects in window coordinates: points (B, N, 2), labels (B, N), boxes (B, 4)."""

    points: Tensor
    labels: Tensor
    boxes: Tensor


def sample_points(regions: Tensor, power: float, generator: torch.Generator | None = None) -> Tensor:
    """One random pixel centre (x, y) of each region, shape (B, 2); with ``power`` above 0 rather a deep one.

    Drawn from blocks of 2 x 2 pixels by the share of each that belongs to the region, then within the block:
    a quarter of the work.

    Parameters
    ----------
    regions : Tensor, shape (B, H, W), bool
        An empty region gives an arbitrary pixel.
    power : float
        0 draws uniformly.
    """
    blocks = F.avg_pool2d(regions[:, None].float(), 2)
    weight = (
        blocks * F.avg_pool2d(blocks, _DEPTH, stride=1, padding=_DEPTH // 2) ** power if power else blocks
    )
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
    masks: Tensor, generator: torch.Generator | None = None, *, jitter: float = 0.05, most: float = 10.0
) -> SimulatedPrompts:
    """A point, a jittered box, or both, for each of the masks.

    Parameters
    ----------
    masks : Tensor, shape (B, H, W), bool
    generator : torch.Generator, optional
        On the device of the masks.
    jitter : float
        Standard deviation of a box's edges as a share of its sides; 0.1 in the SAM paper.
    most : float
        Farthest that an edge is moved, in pixels; 20 of 1024 in the SAM paper.
    """
    count, device = len(masks), masks.device
    kind = torch.rand(count, generator=generator, device=device)
    has_box = kind < 0.45
    has_point = (kind > 0.45) | (kind < 0.1)
    deep = sample_points(masks, 4.0, generator)
    anywhere = sample_points(masks, 0.0, generator)
    points = torch.where(torch.rand(count, 1, generator=generator, device=device) < 0.6, deep, anywhere)
    boxes = tight_boxes(masks)
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn(count, 4, generator=generator, device=device).clamp(-2, 2)
    boxes = boxes + (noise * side * jitter).clamp(-most, most)
    boxes[~has_box] = torch.nan
    labels = torch.where(has_point, 1, -1)[:, None]
    return SimulatedPrompts(points[:, None], labels, boxes)


def correct(
    prompts: SimulatedPrompts, predicted: Tensor, masks: Tensor, generator: torch.Generator | None = None
) -> SimulatedPrompts:
    """Add to each object one click inside the error; where there is none, a padding point.

    Parameters
    ----------
    predicted, masks : Tensor, shape (B, H, W), bool
    """
    errors = predicted != masks
    at = sample_points(errors, 2.0, generator)
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


def rough_masks(target: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Logits of masks that are about right: moved, stretched and turned a little.

    Parameters
    ----------
    target : Tensor, shape (B, h, w), between 0 and 1
    generator : torch.Generator, optional
        On the device of the target.

    Returns
    -------
    Tensor, shape (B, 1, h, w)
        They rise across the outline, as those of a model do.
    """
    count, height, width = target.shape
    axes = [torch.linspace(-1, 1, side, device=target.device) for side in (height, width)]
    total = target.sum((1, 2)).clamp(min=1e-6)
    centre = torch.stack(
        [(target.sum(1) * axes[1]).sum(1) / total, (target.sum(2) * axes[0]).sum(1) / total], dim=-1
    )
    radius = (total / torch.pi).sqrt() * 2 / torch.tensor(max(height, width), device=target.device)
    noise = _ROUGHNESS * torch.randn(count, 5, generator=generator, device=target.device).clamp(-2, 2)
    turn = torch.stack([noise[:, 2].cos(), -noise[:, 2].sin(), noise[:, 2].sin(), noise[:, 2].cos()], dim=-1)
    matrix = turn.view(-1, 2, 2) * noise[:, 3:, None].exp()
    # Where each cell of the rough mask is taken from: about the object's own centre.
    shift = centre + noise[:, :2] * radius[:, None] - (matrix @ centre[..., None])[..., 0]
    matrix = torch.cat([matrix, shift[..., None]], dim=-1)
    grid = F.affine_grid(matrix, [count, 1, height, width], align_corners=True)
    moved = F.grid_sample(target[:, None], grid, align_corners=True)
    # Blurred alone, the smallest objects would be gone.
    return (moved + F.avg_pool2d(moved, _RAMP, stride=1, padding=_RAMP // 2) - 1) * _SURE
