"""Simulated users: prompts for some objects, answers, corrections; what they teach."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.losses import iou
from napari_sam.training.prompts import SimulatedPrompts, correct, drop_some, first_prompts, several_points
from napari_sam.training.rough import begin_with_masks

__all__ = ["Criterion", "Decode", "follow_prompts", "repeated"]

Decode = Callable[[SimulatedPrompts, Tensor | None], tuple[Tensor, Tensor]]
"""From prompts of B objects and the logits (B, 1, h, w) of the round before, if these are fed back, to logits
(B, 4, h, w) and predicted IoUs (B, 4)."""
Criterion = Callable[[Tensor, Tensor, Tensor, SimulatedPrompts], Tensor]
"""From logits, predicted IoUs, target (B, h, w) and prompts to a loss."""

_ROUNDS = (1, 2, 3, 5)
_ROUND_SHARES = (0.35, 0.3, 0.2, 0.15)
"""How many rounds of prompts an object gets, and how often."""
_MASK_SHARE = 0.3
"""How often objects begin with masks: of another program, or of the plane before."""
_SEVERAL_SHARE = 0.2
"""How many of the objects that have a point and no mask begin with several, all of them inside."""
_MASK_ONLY_SHARE = 0.1
"""How many objects lose all prompts but the mask, in rounds that have one."""


def follow_prompts(
    decode: Decode,
    criterion: Criterion,
    truth: Tensor,
    stride: int,
    *,
    generator: torch.Generator | None = None,
    jitter: tuple[float, float] = (0.0, 0.05),
    most: float = 10.0,
    second_looks: float = 0.0,
    owner: Tensor | None = None,
) -> tuple[Tensor, list[float]]:
    """Prompt objects, and correct some times (Kirillov et al. 2023, appendix A, "Training algorithm").

    Only the first and the last round count in the loss: gradients through all would cost too much. Whether
    logits are fed back is drawn for all objects together, and so is whether they begin with masks, and
    whether the model looks twice.

    Parameters
    ----------
    decode, criterion : callable
    truth : Tensor, shape (B, H, W), bool
    stride : int
        Pixels per cell of the logits, along each side.
    generator : torch.Generator, optional
        On the device of ``truth``.
    jitter : tuple of float
    most : float
        Of boxes; see :func:`~napari_sam.training.prompts.first_prompts`.
    second_looks : float
        How often a model that looks twice in use does so here: each round is answered once without logits,
        and once with those of the first answer. Both count.
    owner : Tensor, shape (B,), int64, optional
        The window of each object: masks to begin with may then hold a neighbour, too.

    Returns
    -------
    loss : Tensor
    quality : list of float
        The mean IoU after each round.
    """
    device = truth.device
    shares = torch.tensor(_ROUND_SHARES, device=device)
    rounds = _ROUNDS[int(torch.multinomial(shares, 1, generator=generator))]
    twice = bool(torch.rand((), generator=generator, device=device) < second_looks)
    feed_back = not twice and bool(torch.rand((), generator=generator, device=device) < 0.5)
    learning = torch.is_grad_enabled()
    prompts = first_prompts(truth, generator, jitter=jitter, most=most)
    logits: Tensor | None = None
    if bool(torch.rand((), generator=generator, device=device) < _MASK_SHARE):
        truth, prompts, logits = begin_with_masks(truth, stride, prompts, generator, owner)
    else:
        prompts = several_points(prompts, truth, _SEVERAL_SHARE, generator)
    target = F.avg_pool2d(truth[:, None].float(), stride)[:, 0]
    loss = torch.zeros((), device=device)
    quality: list[float] = []
    for index in range(rounds):
        counted = index in (0, rounds - 1)
        looks = 2 if twice and logits is None else 1
        single = logits
        for _ in range(looks):
            with torch.set_grad_enabled(learning and counted):
                found, scores = decode(prompts, single)
                if counted:
                    loss = loss + criterion(found, scores, target, prompts) / looks
            single = found[:, :1].detach()
        assert single is not None
        quality.append(float(iou(single, target).mean()))
        if index + 1 < rounds:
            fine = F.interpolate(single, scale_factor=float(stride), mode="bilinear")[:, 0] > 0
            prompts = correct(prompts, fine, truth, generator)
            logits = single if feed_back else None
            if feed_back:
                prompts = drop_some(prompts, _MASK_ONLY_SHARE, generator)
    return loss, quality


def repeated(features: Tensor, owner: Tensor) -> Tensor:
    """``features[owner]`` in the memory format of ``features``, whose gradient takes a tenth of the time.

    Parameters
    ----------
    features : Tensor, shape (W, C, h, w)
    owner : Tensor, shape (B,), int64
        The window of each object.

    Returns
    -------
    Tensor, shape (B, C, h, w)
    """
    if features.is_contiguous(memory_format=torch.channels_last):
        return features.movedim(1, -1).index_select(0, owner).movedim(-1, 1)
    return features.index_select(0, owner)
