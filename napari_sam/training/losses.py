"""Losses of the promptable decoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dense_loss", "iou", "mask_losses", "prompt_loss", "sam_losses", "sam_prompt_loss"]

_DICE_WEIGHT = 1.0
_SCORE_WEIGHT = 1.0
_OTHERS_WEIGHT = 0.05
"""Share of the mean over candidates beside the best one: keeps unused candidates alive."""
_FOCAL_WEIGHT = 20.0
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0
"""Of the focal loss, as in its own paper (Lin et al. 2017); that of SAM names none."""


def mask_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over the object's area plus dice, shape (B, C).

    Cross entropy is summed and divided by a multiple of the object's area. So small objects count as much as
    large ones, and yet each pixel counts the same on both sides of the boundary, so that the boundary is not
    pushed outward as balancing the classes would.

    Parameters
    ----------
    logits : Tensor, shape (B, C, H, W)
    target : Tensor, shape (B, H, W), between 0 and 1
    """
    target = target[:, None].expand_as(logits)
    area = target.sum((-1, -2))
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((-1, -2))
    probability = logits.sigmoid()
    overlap = (probability * target).sum((-1, -2))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-1, -2)) + area + 1)
    return entropy / (2 * area + 16) + _DICE_WEIGHT * dice


def dense_loss(dense: Tensor, target: Tensor) -> Tensor:
    """The loss of what the encoder says of every pixel: foreground, boundary, the way to the object's centre.

    Ways are compared in units of the object's radius, so that small objects count.

    Parameters
    ----------
    dense : Tensor, shape (B, 4, H, W)
        See :class:`napari_sam.models.nano_encoder.NanoFeatures`.
    target : Tensor, shape (B, 6, H, W)
        As :func:`napari_sam.training.data.dense_target` makes it.
    """
    foreground, boundary, known, inverse_radius = target[:, 0], target[:, 1], target[:, 4], target[:, 5]
    entropy = F.binary_cross_entropy_with_logits(
        dense[:, :2].float(), torch.stack([foreground, boundary], dim=1), reduction="none"
    )
    pixels = (entropy.sum(1) * known).sum() / known.sum().clamp(min=1)
    ways = F.smooth_l1_loss(dense[:, 2:].float(), target[:, 2:4], reduction="none", beta=0.1).sum(1)
    return pixels + (ways * inverse_radius).sum() / foreground.sum().clamp(min=1)


def iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of thresholded logits (B, C, H, W) with a target (B, H, W), shape (B, C)."""
    predicted = logits > 0
    truth = (target > 0.5)[:, None]
    union = (predicted | truth).sum((-1, -2))
    return (predicted & truth).sum((-1, -2)) / union.clamp(min=1)


def prompt_loss(logits: Tensor, scores: Tensor, target: Tensor) -> Tensor:
    """The loss of one round of prompts: the single mask, the best of three, and the predicted IoUs.

    Only the best of the three candidates is pulled (Kirillov et al. 2023, section 3, "Resolving ambiguity").

    Parameters
    ----------
    logits : Tensor, shape (B, 4, H, W)
    scores : Tensor, shape (B, 4)
    target : Tensor, shape (B, H, W)
    """
    losses = mask_losses(logits, target)
    three = losses[:, 1:]
    with torch.no_grad():
        actual = iou(logits, target)
    return (
        losses[:, 0].mean()
        + three.amin(1).mean()
        + _OTHERS_WEIGHT * three.mean()
        + _SCORE_WEIGHT * F.mse_loss(scores, actual)
    )


def sam_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss and dice loss as 20 to 1 (Kirillov et al. 2023, appendix A, "Losses"), shape (B, C).

    Parameters
    ----------
    logits : Tensor, shape (B, C, H, W)
    target : Tensor, shape (B, H, W), between 0 and 1
    """
    target = target[:, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    wrong = probability * (1 - target) + (1 - probability) * target
    weight = _FOCAL_ALPHA * target + (1 - _FOCAL_ALPHA) * (1 - target)
    focal = (weight * wrong**_FOCAL_GAMMA * entropy).mean((-1, -2))
    overlap = (probability * target).sum((-1, -2))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-1, -2)) + target.sum((-1, -2)) + 1)
    return _FOCAL_WEIGHT * focal + dice


def sam_prompt_loss(logits: Tensor, scores: Tensor, target: Tensor, ambiguous: Tensor) -> Tensor:
    """The loss of one round of prompts for SAM (Kirillov et al. 2023, appendix A).

    A single point is ambiguous: of the three candidates only the best one is pulled. For other prompts
    only the single mask counts. Predicted IoUs, of all three candidates or of the single mask, are pulled
    towards the IoUs with the truth by the mean squared error.

    Parameters
    ----------
    logits : Tensor, shape (B, 4, H, W)
    scores : Tensor, shape (B, 4)
    target : Tensor, shape (B, H, W)
    ambiguous : Tensor, shape (B,), bool
    """
    losses = sam_losses(logits, target)
    with torch.no_grad():
        actual = iou(logits, target)
    errors = (scores - actual) ** 2
    masks = torch.where(ambiguous, losses[:, 1:].amin(1), losses[:, 0])
    quality = torch.where(ambiguous, errors[:, 1:].mean(1), errors[:, 0])
    return (masks + quality).mean()
