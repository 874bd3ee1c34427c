"""One frame of a video: what SAM 2 does with its memories (Ravi et al. 2024, section 4 and appendix D.1).

A frame is encoded once. For each object, its tokens are conditioned on memories of other frames
(:func:`recall`), decoded to a mask and an object pointer (:func:`decode`), and mask and frame become a memory
for frames to come (:func:`remember`). Numbers are those of the published configuration of all sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.base import Embedding, PromptBatch
from napari_sam.models.positions import sine_positions
from napari_sam.models.sam2 import Sam2
from napari_sam.models.sam_mask_decoder import Skips

__all__ = [
    "ABSENT_LOGIT",
    "MEMORIES",
    "POINTERS",
    "FrameEmbedding",
    "Tracked",
    "adopt",
    "begin",
    "decode",
    "encode_frame",
    "prompt",
    "recall",
    "remember",
]

ABSENT_LOGIT = -1024.0
"""The logit of every pixel where the object is not on the frame."""
MEMORIES = 7
"""Steps in time that memories know: prompted frames, and the six frames before."""
POINTERS = 16
"""Frames whose object pointers are attended to at most, beside prompted ones."""
_SURE = 10.0
"""Logit of a pixel, or of the presence of an object, that is known and not predicted."""


@dataclass(frozen=True, slots=True)
class FrameEmbedding(Embedding):
    """The image embedding of one frame, without any memory.

    Attributes
    ----------
    features : Tensor, shape (1, N, 256)
        Tokens of a square grid, row by row.
    skips : Skips
        High-resolution features for the decoder.
    """

    features: Tensor
    skips: Skips

    @property
    def tensors(self) -> list[Tensor]:
        return [self.features, *self.skips]


class Tracked(NamedTuple):
    """What is known of B objects on one frame.

    Attributes
    ----------
    logits : Tensor, shape (B, h, w), float32
        Of the mask, at a quarter of the encoder's resolution.
    pointers : Tensor, shape (B, 256)
    presence : Tensor, shape (B,), float32
        Logits of whether the object is there at all.
    scores : Tensor, shape (B,), float32
        Predicted IoUs.
    """

    logits: Tensor
    pointers: Tensor
    presence: Tensor
    scores: Tensor


def encode_frame(model: Sam2, square: Tensor, size: tuple[int, int]) -> FrameEmbedding:
    """Embed a frame.

    Parameters
    ----------
    model : Sam2
    square : Tensor, shape (3, image_size, image_size), or (1, image_size, image_size) if gray
        float32 between 0 and 1, on any device.
    size : tuple of int
        Height and width that the frame has, in pixels.
    """
    features, skips = model.image_features(model.normalised(square.to(model.device)))
    return FrameEmbedding(size, features.flatten(0, 1)[None], skips)


def begin(model: Sam2, frame: FrameEmbedding) -> Tensor:
    """What all objects of a frame have in common before they look at their memories, shape (1, N, 256)."""
    count, dim = frame.features.shape[1:]
    return model.memory_attention.begin(frame.features, _grid_positions(count, dim, frame.features))


def recall(
    model: Sam2,
    begun: Tensor,
    memories: Tensor,
    times: Sequence[int],
    pointers: Tensor,
    distances: Sequence[int],
    longest: int,
) -> Tensor:
    """Condition a frame on the memories of objects.

    Parameters
    ----------
    model : Sam2
    begun : Tensor, shape (1, N, 256)
        From :func:`begin`.
    memories : Tensor, shape (B, K, N, 64)
        From :func:`remember`.
    times : sequence of int, length K
        How many frames ago each is, 1 to 6; 0 for a prompted frame, whenever it was.
    pointers : Tensor, shape (B, P, 256)
    distances : sequence of int, length P
        How many frames ago each is, negative for those to come.
    longest : int
        The distance that counts as one, in frames.

    Returns
    -------
    Tensor, shape (B, N, 256)
    """
    dtype = begun.dtype
    batch, _, count, width = memories.shape
    parts = pointers.shape[2] // width
    clock = model.maskmem_tpos_enc[:, 0]  # the first is of the frame before, the last of prompted ones
    when = torch.tensor([(time - 1) % MEMORIES for time in times], device=begun.device)
    places = _grid_positions(count, width, begun) + clock[when]
    values = torch.cat([memories.to(dtype).flatten(1, 2), pointers.to(dtype).reshape(batch, -1, width)], 1)
    ages = _pointer_positions(model, distances, longest).repeat_interleave(parts, dim=0)
    positions = torch.cat([places.flatten(0, 1), ages])[None]
    return model.memory_attention.recall(begun, values, positions, parts * len(distances))


def prompt(model: Sam2, frame: FrameEmbedding, conditioned: Tensor | None, prompts: PromptBatch) -> Tracked:
    """What points and a box say of an object.

    Parameters
    ----------
    model : Sam2
    frame : FrameEmbedding
    conditioned : Tensor, shape (1, N, 256), or None
        From :func:`recall`, where the object has been tracked on this frame before.
    prompts : PromptBatch
        Of one object; `logits` are those of the mask that it had there.
    """
    features = frame.features + model.no_mem_embed if conditioned is None else conditioned
    tokens = model.prompt_tokens(prompts, frame.original_size)
    points = prompts.points.shape[1] + (0 if prompts.boxes is None else 2)
    return decode(model, frame, features, tokens, prompts.logits, multimask=points <= 1)


def decode(
    model: Sam2,
    frame: FrameEmbedding,
    features: Tensor,
    tokens: Tensor | None = None,
    logits: Tensor | None = None,
    *,
    multimask: bool = True,
) -> Tracked:
    """Masks and object pointers of B objects.

    Parameters
    ----------
    model : Sam2
    frame : FrameEmbedding
    features : Tensor, shape (B, N, 256)
        The frame's, conditioned on memories or not.
    tokens : Tensor, shape (B, T, 256), optional
        Of prompts; none by default.
    logits : Tensor, shape (B, 1, h, w), optional
        Mask prompts.
    multimask : bool
        The best of three masks by predicted IoU instead of one.
    """
    if tokens is None:
        nothing = torch.full((len(features), 2), -1, device=features.device)
        tokens = model.sam_prompt_encoder.points(features.new_zeros(*nothing.shape, 2).float(), nothing)
    image = model.image_tokens(features, logits)
    found = model.sam_mask_decoder.predict(image, tokens, frame.skips, multimask=multimask)
    assert found.objectness is not None
    best = found.scores.argmax(dim=1)
    rows = torch.arange(len(best), device=best.device)
    present = found.objectness > 0
    masks = torch.where(present[..., None], found.logits[rows, best].float(), ABSENT_LOGIT)
    pointers = torch.where(present, model.obj_ptr_proj(found.tokens[rows, best]), model.no_obj_ptr)
    return Tracked(masks, pointers, found.objectness[:, 0].float(), found.scores[rows, best].float())


def adopt(model: Sam2, frame: FrameEmbedding, mask: Tensor) -> Tracked:
    """A mask that is given, not predicted; only its pointer comes from the decoder.

    Parameters
    ----------
    model : Sam2
    frame : FrameEmbedding
    mask : Tensor, shape (image_size, image_size), float32
        0 and 1.
    """
    mask = mask[None, None].to(model.device)
    side = model.image_size // 4
    low = F.interpolate(
        mask * (2 * _SURE) - _SURE, (side, side), mode="bilinear", align_corners=False, antialias=True
    )
    logits = model.mask_downsample(mask.to(model.dtype))
    pointers = decode(model, frame, frame.features, logits=logits, multimask=False).pointers
    present = mask.any().reshape(1)
    return Tracked(
        low[:, 0],
        torch.where(present[:, None], pointers, model.no_obj_ptr),
        present.float() * (2 * _SURE) - _SURE,
        torch.ones(1, device=mask.device),
    )


def remember(model: Sam2, frame: FrameEmbedding, found: Tracked, *, prompted: bool) -> Tensor:
    """Memories of masks on a frame, shape (B, N, 64), bfloat16 as published.

    Parameters
    ----------
    model : Sam2
    frame : FrameEmbedding
    found : Tracked
    prompted : bool
        Whether a user said what the masks are, so that they are remembered as they look, without doubt.
    """
    side = model.image_size
    logits = F.interpolate(found.logits[:, None], (side, side), mode="bilinear", align_corners=False)
    share = (logits > 0).to(model.dtype) if prompted else logits.sigmoid_().to(model.dtype)
    masks = share.mul_(2 * _SURE).sub_(_SURE)
    grid = frame.features.transpose(1, 2).unflatten(2, (side // 16, side // 16))
    memory = model.memory_encoder(grid, masks)[0].flatten(2).transpose(1, 2)
    if model.pointer_positions:
        absent = found.presence <= 0
        memory = memory + absent[:, None, None] * model.no_obj_embed_spatial
    return memory.to(torch.bfloat16)


def _grid_positions(count: int, channels: int, like: Tensor) -> Tensor:
    """Sine positions of the tokens of a square grid, shape (1, N, channels)."""
    side = round(count**0.5)
    positions = sine_positions(side, side, channels, device=like.device, dtype=like.dtype)
    return positions.flatten(2).transpose(1, 2)


def _pointer_positions(model: Sam2, distances: Sequence[int], longest: int) -> Tensor:
    """Temporal positions of object pointers, shape (P, 64); zeros in SAM 2.0."""
    width = model.maskmem_tpos_enc.shape[-1]
    if not model.pointer_positions:
        return torch.zeros(len(distances), width, device=model.device, dtype=model.dtype)
    half = model.obj_ptr_tpos_proj.in_features // 2
    age = torch.tensor(distances, dtype=torch.float32, device=model.device) / longest
    # Neighbouring channels share a frequency, though sines and cosines do not take turns here.
    step = torch.arange(half, device=model.device) // 2 * 2
    angles = age[:, None] / 10000.0 ** (step / half)
    return model.obj_ptr_tpos_proj(torch.cat([angles.sin(), angles.cos()], dim=1).to(model.dtype))
