"""``nano``: the small promptable model that ships inside the package.

The image is encoded once, at its own resolution and again at each half of it down to one window. An object
is decoded in a window of 256 x 256 pixels around its prompts, on the finest level where it fits: the cost of
a click does not depend on the size of the image, and every object is seen at a size the network was trained
on. Then it is looked at again, at its own scale: see :mod:`napari_sam.models.nano_closer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.base import Embedding, Instances, MaskLogits, PromptableModel, PromptBatch
from napari_sam.models.layers import fuse_norms
from napari_sam.models.nano_centres import object_centres
from napari_sam.models.nano_closer import halved, look_closely
from napari_sam.models.nano_decoder import NanoDecoder
from napari_sam.models.nano_encoder import STRIDES, NanoEncoder, NanoFeatures
from napari_sam.models.nano_instances import object_instances
from napari_sam.models.nano_prompts import WINDOW, NanoPromptEncoder
from napari_sam.models.nano_windows import (
    crop,
    finest_level,
    have_several,
    of_best,
    place,
    prompt_extents,
    runs_out,
    to_window_frame,
)

__all__ = ["Nano", "NanoEmbedding", "NanoLevel", "normalise", "working_scale"]

MAX_SIDE = 2048
"""Longest side that is encoded, in pixels; larger planes are scaled down to it. Bounds memory."""
MIN_SIDE = 1024
"""Smaller planes are scaled up towards this side, at most twofold: objects of a few pixels gain detail."""
KEPT_SIDE = 4096
"""Longest side of the pixels that are kept to be looked at closely; more are scaled down to it."""
_COARSEST_STRIDE = 32


def working_scale(height: int, width: int) -> float:
    """How many working pixels make one pixel of a plane."""
    longest = max(height, width)
    return MAX_SIDE / longest if longest > MAX_SIDE else min(2.0, max(1.0, MIN_SIDE / longest))


def normalise(pixels: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Stretch RGB so that the 0.5th and 99.5th percentiles come to -1 and 1; clip at -2 and 2.

    Parameters
    ----------
    pixels : Tensor, shape (3, H, W), float32
    low, high : float, optional
        Limits to use instead of the percentiles of ``pixels``.
    """
    if low is None or high is None:
        low, high = percentile_limits(pixels)
    return ((pixels - low) * (2.0 / max(high - low, 1e-6)) - 1.0).clamp(-2.0, 2.0)


def percentile_limits(pixels: Tensor) -> tuple[float, float]:
    """The 0.5th and 99.5th percentiles over all channels, from at most about 100,000 pixels."""
    step = max(1, math.isqrt(pixels[0].numel() // 100_000 + 1))
    sample = pixels[:, ::step, ::step].flatten()
    low, high = torch.quantile(sample, torch.tensor([0.005, 0.995], device=sample.device)).tolist()
    return low, high


@dataclass(frozen=True, slots=True)
class NanoLevel:
    """Features of one resolution.

    Attributes
    ----------
    features : NanoFeatures
        Of one image, as (h, w, channels) tensors.
    size : tuple of int
        Height and width in pixels of the level, without padding.
    """

    features: NanoFeatures
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class NanoEmbedding(Embedding):
    """What was made of one plane.

    Attributes
    ----------
    levels : tuple of NanoLevel
        Finest first.
    scale : tuple of float
        The working pixels per pixel along y and x.
    planes : tuple of Tensor, shape (1 or 3, h, w), int16
        The pixels, as :func:`~napari_sam.models.nano_closer.halved` returns them.
    """

    levels: tuple[NanoLevel, ...]
    scale: tuple[float, float]
    planes: tuple[Tensor, ...]

    @property
    def tensors(self) -> list[Tensor]:
        return [*(t for level in self.levels for t in level.features), *self.planes]


class Nano(PromptableModel):
    """The embedded model: convolutional encoder, SAM's prompt encoder and two-way decoder on windows."""

    # Fast enough in the precision that its published figures were measured in.
    prefers_float32_on_cpu = True
    candidates_for_points = True
    finds_centres = True
    # Learned from labels of single cells and grains.
    objects_hang_together = True
    # Windows are cut out of mask prompts, so that small objects on large planes gain from finer ones.
    mask_cells = 1024
    # It believes boxes, and objects move and grow from plane to plane.
    propagates_boxes = False
    float32_buffers = frozenset({"frequencies"})

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = NanoEncoder()
        self.prompt_encoder = NanoPromptEncoder()
        self.mask_decoder = NanoDecoder()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which features are computed and kept."""
        return self.prompt_encoder.kinds.weight.dtype

    def prepare(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Make ready for inference: no gradients, normalisation folded, weights on ``device``."""
        fuse_norms(self.eval())
        return super().prepare(device, dtype).to(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> NanoEmbedding:
        height, width = pixels.shape[-2:]
        if pixels.stride(0) == 0:  # grey: what is repeated need not be kept
            pixels = pixels[:1]
        if pixels.dtype == torch.uint8:
            pixels = pixels.to(self.device).float().div_(255)
        pixels = pixels.to(self.device, torch.float32)
        plane = _resized(pixels, working_scale(height, width))
        per_pixel = (plane.shape[-2] / height, plane.shape[-1] / width)
        limits = percentile_limits(plane)
        plane = normalise(plane, *limits).expand(3, -1, -1)[None]
        levels = [self._encode_level(plane)]
        while max(plane.shape[-2:]) > WINDOW:
            plane = F.avg_pool2d(plane, 2, ceil_mode=True)
            levels.append(self._encode_level(plane))
        kept = _resized(pixels, min(1.0, KEPT_SIDE / max(height, width)))
        planes = halved(normalise(kept, *limits))
        return NanoEmbedding((height, width), tuple(levels), per_pixel, planes)

    def _encode_level(self, plane: Tensor) -> NanoLevel:
        height, width = plane.shape[-2:]
        padded = [max(WINDOW, math.ceil(n / _COARSEST_STRIDE) * _COARSEST_STRIDE) for n in (height, width)]
        x = F.pad(plane, (0, padded[1] - width, 0, padded[0] - height))
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        features = NanoFeatures(*(m[0].permute(1, 2, 0).contiguous() for m in self.image_encoder(x)))
        return NanoLevel(features, (height, width))

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        """Masks for a batch of prompts; see :class:`~napari_sam.models.base.PromptableModel`.

        Each object is decoded on the finest level that holds its prompts; one whose mask runs out of its
        window is decoded again, one level coarser. Other candidates that run out are pieces, which nobody
        wants whatever the model thinks of them: their predicted IoU is 0 there. Then all are looked at
        closely, unless a mask was given, which a closer look would change where nobody has corrected it.

        Of three masks the last is the single one, in the place of the third candidate, which came to say the
        same, and not as well. Where to look is still said by the candidates: the single mask does not know as
        well how good it is, and beside it a candidate that holds everything would lead away from the object.
        """
        embedding = _own(embedding)
        leading, given = ([1, 2, 3], [1, 2, 0]) if multimask else ([0], [0])
        found = self._first_look(embedding, prompts, leading)
        if prompts.closely and prompts.logits is None and len(prompts):
            found = look_closely(self, embedding, prompts, found, leading)
        return MaskLogits(found.logits[:, given], found.frames, found.scores[:, given])

    def _first_look(self, embedding: NanoEmbedding, prompts: PromptBatch, chosen: list[int]) -> MaskLogits:
        """All four masks of each object."""
        extents = prompt_extents(prompts, embedding)
        level = finest_level(extents, len(embedding.levels))
        todo = torch.arange(len(prompts), device=level.device)
        results: list[tuple[Tensor, MaskLogits]] = []
        while len(todo):
            again = []
            for index in level[todo].unique().tolist():
                rows = todo[level[todo] == index]
                found, outside = self._decode_on(embedding, index, prompts, extents, rows, chosen)
                keep = ~outside
                results.append(
                    (rows[keep], MaskLogits(found.logits[keep], found.frames[keep], found.scores[keep]))
                )
                again.append(rows[outside])
            todo = torch.cat(again)
            level[todo] += 1
        order = torch.cat([rows for rows, _ in results]).argsort()
        return MaskLogits(
            torch.cat([m.logits for _, m in results])[order],
            torch.cat([m.frames for _, m in results])[order],
            torch.cat([m.scores for _, m in results])[order],
        )

    def centres(self, embedding: Embedding) -> Tensor:
        """Where objects of any size are, by the dense head; see :meth:`PromptableModel.centres`."""
        return object_centres(_own(embedding))

    def instances(self, embedding: Embedding) -> Instances:
        """Objects of any size, by the dense head alone; see :meth:`PromptableModel.instances`."""
        return object_instances(_own(embedding))

    def _decode_on(
        self,
        embedding: NanoEmbedding,
        index: int,
        prompts: PromptBatch,
        extents: Tensor,
        rows: Tensor,
        chosen: list[int],
    ) -> tuple[MaskLogits, Tensor]:
        level = embedding.levels[index]
        origins = place(extents[rows], index, level)
        per_pixel = 2.0**index / torch.tensor(embedding.scale[::-1], device=origins.device)
        corner = origins.flip(-1) * per_pixel
        frames = torch.cat([corner, corner + WINDOW * per_pixel], dim=-1).float()
        points, boxes, logits = to_window_frame(prompts, rows, frames, max(embedding.original_size))
        features = NanoFeatures(*(crop(m, origins, s) for m, s in zip(level.features, STRIDES, strict=True)))
        labels = prompts.labels[rows]
        masks, scores = self.decode_windows(features, points, labels, boxes, logits)
        if logits is None:
            masks, scores = self._second_look(masks, scores, features, points, labels, boxes)
        # The coarsest window holds the plane, so that nothing runs out of it.
        outside = runs_out(masks, frames, embedding.original_size)
        found = MaskLogits(masks, frames, scores.masked_fill(outside, 0))
        return found, of_best(outside, scores, chosen)

    def _second_look(
        self,
        masks: Tensor,
        scores: Tensor,
        features: NanoFeatures,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What is answered to several prompts with the first of their masks; to a single point, what was.

        In two steps, a small decoder gets further than in one. Where logits are fed back from click to click
        it does so, too, but here the answer is the same in whatever order the clicks came. A single point is
        ambiguous: all its candidates would become the first mask.
        """
        rows = have_several(labels, boxes).nonzero()[:, 0]
        if len(rows) == 0:
            return masks, scores
        if len(rows) < len(labels):
            features = NanoFeatures(*(part[rows] for part in features))
        again = self.decode_windows(features, points[rows], labels[rows], boxes[rows], masks[rows, :1])
        return masks.index_copy(0, rows, again[0]), scores.index_copy(0, rows, again[1])

    def decode_windows(
        self,
        features: NanoFeatures,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor,
        logits: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Decode prompts in window coordinates on the windows' features, as the image encoder returns them.

        Returns
        -------
        logits : Tensor, shape (B, 4, 128, 128), float32
        scores : Tensor, shape (B, 4), float32
        """
        embedding, skip4, skip2, per_pixel = features
        tokens, present, dense, dense4, maps = self.prompt_encoder(points, labels, boxes, logits, per_pixel)
        positions = self.prompt_encoder.grid_positions()
        masks, scores = self.mask_decoder(
            embedding + dense, skip4 + dense4, skip2, tokens, present, positions, maps, per_pixel
        )
        return masks, scores


def _own(embedding: Embedding) -> NanoEmbedding:
    if not isinstance(embedding, NanoEmbedding):
        raise TypeError("nano decodes only its own embeddings; encode the image with this model.")
    return embedding


def _resized(pixels: Tensor, scale: float) -> Tensor:
    """Pixels, shape (C, H, W), enlarged by ``scale``."""
    height, width = (max(1, round(side * scale)) for side in pixels.shape[-2:])
    if (height, width) == pixels.shape[-2:]:
        return pixels
    return F.interpolate(
        pixels[None], (height, width), mode="bilinear", antialias=scale < 1, align_corners=False
    )[0]
