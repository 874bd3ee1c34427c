"""Objects that begin with a mask, about right or wrong: of another program, or of the plane before."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.prompts import SimulatedPrompts, correct

__all__ = ["begin_with_masks", "half_planes", "neighbours", "rough_masks"]

_ROUGHNESS = 0.12
"""Standard deviation of the shift, as a share of an object's radius, of its stretching, and of its turn."""
_VERY_ROUGH = 0.35
_RAMP = 5
"""Cells over which the logits of a rough mask rise."""
_SURE = 10.0
"""The logit of what is inside it."""
_WRONG = {"very rough": 0.15, "missing": 0.15, "cut": 0.12, "merged": 0.15}
"""How many objects begin with a mask that only a click can mend: a very rough one, half of the object, all of
it though half is wanted, or a neighbour with it. The others' masks are about right."""
_WRONG_SHARE = sum(_WRONG.values())
_CLICKED = 0.4
"""How many of those others get a corrective click, too."""
_APART = 4
"""Pixels between two objects that somebody may take for one."""
_HALF = 0.2, 0.85
"""Least and greatest share of an object that counts as half of it."""


def begin_with_masks(
    truth: Tensor,
    stride: int,
    prompts: SimulatedPrompts,
    generator: torch.Generator | None = None,
    owner: Tensor | None = None,
) -> tuple[Tensor, SimulatedPrompts, Tensor]:
    """Masks to begin with, and what a user says to them.

    A mask that is about right is to be fitted to the image. One that is wrong comes with a click where it
    is, and no box. Some users want less than the whole object: the click cuts it.

    Parameters
    ----------
    truth : Tensor, shape (B, H, W), bool
    stride : int
        Pixels per cell of the logits, along each side.
    prompts : SimulatedPrompts
        With one point inside each, or that point as padding.
    generator : torch.Generator, optional
        On the device of ``truth``.
    owner : Tensor, shape (B,), int64, optional
        The window of each object. Without it no mask holds a neighbour.

    Returns
    -------
    truth : Tensor, shape (B, H, W), bool
        What is wanted now.
    prompts : SimulatedPrompts
        With the first point and the click, or padding in place of either.
    logits : Tensor, shape (B, 1, h, w)
    """
    kind = torch.rand(len(truth), generator=generator, device=truth.device)
    half = truth & half_planes(truth, generator)
    share = half.flatten(1).sum(1) / truth.flatten(1).sum(1).clamp(min=1)
    halved = (share > _HALF[0]) & (share < _HALF[1])
    ends = torch.tensor(list(_WRONG.values()), device=truth.device).cumsum(0)
    # What cannot be wrong in its way is about right.
    other = torch.full_like(kind, -1, dtype=torch.long) if owner is None else neighbours(truth, owner)
    very_rough, missing, cut, merged = F.one_hot(torch.bucketize(kind, ends), len(_WRONG) + 1).bool().T[:-1]
    missing, cut, merged = missing & halved, cut & halved, merged & (other >= 0)
    begin = torch.where(missing[:, None, None], half, truth)
    begin = begin | (truth[other] & merged[:, None, None])
    clicked = very_rough | missing | cut | merged | (kind > 1 - (1 - _WRONG_SHARE) * _CLICKED)
    roughness = torch.where(very_rough, _VERY_ROUGH, _ROUGHNESS)
    logits = rough_masks(F.avg_pool2d(begin[:, None].float(), stride)[:, 0], generator, roughness)
    wanted = torch.where(cut[:, None, None], half, truth)
    fine = F.interpolate(logits, scale_factor=float(stride), mode="bilinear")[:, 0] > 0
    answer = correct(prompts, fine, wanted, generator)
    x, y = answer.points[:, 0].long().unbind(-1)
    inside = wanted[torch.arange(len(wanted), device=wanted.device), y, x]
    dropped = torch.stack([clicked & ~inside, ~clicked], dim=1)
    return (
        wanted,
        SimulatedPrompts(
            answer.points,
            answer.labels.masked_fill(dropped, -1),
            answer.boxes.masked_fill(clicked[:, None], torch.nan),
        ),
        logits,
    )


def neighbours(masks: Tensor, owner: Tensor) -> Tensor:
    """Which other mask of its window each touches along the longest border: shape (B,), int64, or -1.

    Touching is to be at most about :data:`_APART` pixels apart.

    Parameters
    ----------
    masks : Tensor, shape (B, H, W), bool
    owner : Tensor, shape (B,), int64
        The window of each.
    """
    coarse = F.max_pool2d(masks[:, None].float(), _APART)
    grown = F.max_pool2d(coarse, 3, 1, 1)
    shared = grown.flatten(1) @ coarse.flatten(1).T
    shared = shared * (owner[:, None] == owner)
    shared.fill_diagonal_(0)
    most, which = shared.max(1)
    return torch.where(most > 0, which, -1)


def half_planes(masks: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One side of a line in any direction that passes each mask's centre, shape (B, H, W), bool.

    It passes within half of the radius of a disc with the mask's area.
    """
    count, height, width = masks.shape
    weights = masks.float()
    total = weights.sum((1, 2)).clamp(min=1)
    rows, columns = (torch.arange(side, device=masks.device, dtype=torch.float32) for side in (height, width))
    y, x = (weights.sum(2) * rows).sum(1) / total, (weights.sum(1) * columns).sum(1) / total
    angle, offset = torch.rand(2, count, generator=generator, device=masks.device)
    sine, cosine = (2 * torch.pi * angle).sin(), (2 * torch.pi * angle).cos()
    along = cosine[:, None] * (columns - x[:, None])
    across = sine[:, None] * (rows - y[:, None])
    return (
        across[:, :, None] + along[:, None, :] > ((offset - 0.5) * (total / torch.pi).sqrt())[:, None, None]
    )


def rough_masks(
    target: Tensor, generator: torch.Generator | None = None, roughness: Tensor | float = _ROUGHNESS
) -> Tensor:
    """Logits of masks that are moved, stretched and turned.

    Parameters
    ----------
    target : Tensor, shape (B, h, w), between 0 and 1
    generator : torch.Generator, optional
        On the device of the target.
    roughness : Tensor, shape (B,), or float
        Standard deviation of the shift, as a share of the object's radius, of the logarithm of the
        stretching, and of the turn in radians.

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
    noise = torch.randn(count, 5, generator=generator, device=target.device).clamp(-2, 2)
    noise = noise * torch.as_tensor(roughness, device=target.device).expand(count)[:, None]
    turn = torch.stack([noise[:, 2].cos(), -noise[:, 2].sin(), noise[:, 2].sin(), noise[:, 2].cos()], dim=-1)
    matrix = turn.view(-1, 2, 2) * noise[:, 3:, None].exp()
    # Where each cell of the rough mask is taken from: about the object's own centre.
    shift = centre + noise[:, :2] * radius[:, None] - (matrix @ centre[..., None])[..., 0]
    matrix = torch.cat([matrix, shift[..., None]], dim=-1)
    grid = F.affine_grid(matrix, [count, 1, height, width], align_corners=True)
    moved = F.grid_sample(target[:, None], grid, align_corners=True)
    # Blurred alone, the smallest objects would be gone.
    return (moved + F.avg_pool2d(moved, _RAMP, stride=1, padding=_RAMP // 2) - 1) * _SURE
