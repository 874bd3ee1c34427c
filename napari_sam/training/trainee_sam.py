"""How SAM, MobileSAM and SAM 2 are trained on a user's images."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.base import PromptBatch
from napari_sam.models.sam import Sam, SamEmbedding
from napari_sam.models.sam2 import Sam2, Sam2Embedding
from napari_sam.models.sam_mask_decoder import Skips
from napari_sam.training.augment import augment
from napari_sam.training.data import unit
from napari_sam.training.losses import sam_prompt_loss
from napari_sam.training.trainee import Features, Part, Trainee

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam.models.base import Embedding
    from napari_sam.training.data import LabelledImage
    from napari_sam.training.prompts import SimulatedPrompts

__all__ = ["Sam2Trainee", "SamTrainee"]

_CELL = 16
"""Pixels per cell of the embedding, along each side."""
_CHANNELS, _SKIP_CHANNELS = 256, 64 * 4 + 32 * 16
"""Numbers per cell: of the embedding, and of SAM 2's finer maps."""
_WHOLE = 0.4
"""How often the window is the whole image."""
_LEAST_SHARE = 0.25
_LEAST_SIDE = 48
"""Smallest part of an image that is enlarged to a window: of its sides, and in pixels."""


Model = TypeVar("Model", bound=Sam | Sam2)


class _PublishedTrainee(Trainee[Model]):
    """What the published families have in common: windows of a fixed size, the paper's losses and prompts."""

    stride = 4
    least_area = 64
    rates: ClassVar[dict[Part, float]] = {"all": 2e-5, "decoder": 1e-4, "lora": 2e-4}

    def __init__(self, model: Model, part: Part, rank: int, seed: int) -> None:
        super().__init__(model, part, rank, seed)
        self.side = model.image_size

    def window(
        self, item: LabelledImage, rng: np.random.Generator, *, plain: bool = False
    ) -> tuple[Tensor, Tensor]:
        labels = item.labels[int(rng.integers(len(item.labels)))]
        rows, columns = (slice(0, n) for n in labels.shape) if plain else _part(labels, rng)
        ids = torch.from_numpy(np.ascontiguousarray(labels[rows, columns])).float()[None, None]
        pixels = unit(item.pixels[rows, columns]).expand(3, -1, -1)[None]
        size = self.input_size(ids.shape[-2], ids.shape[-1])
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)[0]
        ids = F.interpolate(ids, size, mode="nearest-exact")[0, 0].long()
        if not plain:
            pixels, ids = augment(pixels * 2 - 1, ids, rng)
            pixels = ((pixels + 1) / 2).clamp(0, 1)
        height, width = ids.shape
        padding = (0, self.side - width, 0, self.side - height)
        # The padding is zero after normalisation, as in inference.
        return F.pad(self.normalised(pixels), padding), F.pad(ids, padding)

    @abstractmethod
    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which a part of an image is scaled."""

    @abstractmethod
    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels (3, h, w) between 0 and 1 as the encoder takes them, on the CPU."""

    def loss(self, found: Tensor, scores: Tensor, target: Tensor, prompts: SimulatedPrompts) -> Tensor:
        alone = ((prompts.labels >= 0).sum(1) == 1) & prompts.boxes.isnan().any(1)
        return sam_prompt_loss(found, scores, target, alone)


class SamTrainee(_PublishedTrainee[Sam]):
    """SAM and MobileSAM: windows are scaled to 1024 pixels on the longest side and padded."""

    family = "sam"

    def decoders(self) -> list[nn.Module]:
        return [self.model.prompt_encoder, self.model.mask_decoder]

    @property
    def view_nbytes(self) -> int:
        return super().view_nbytes + 2 * _CHANNELS * (self.side // _CELL) ** 2

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        scale = self.side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def normalised(self, pixels: Tensor) -> Tensor:
        return self.model.normalised(pixels).cpu()

    def features(self, pixels: Tensor) -> Features:
        return (self.model.image_encoder(pixels),)

    def decode(
        self, features: Features, prompts: SimulatedPrompts, logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        (maps,) = features
        with self.precision():
            # Prompts are given between pixel edges here.
            tokens = self.model.prompt_encoder.tokens(
                prompts.points - 0.5, prompts.labels, prompts.boxes - 0.5
            )
            image = self.model.image_tokens(maps, logits)
            decoded = self.model.mask_decoder(image, tokens, slice(None))
        return decoded.logits.float(), decoded.scores.float()

    def refreshed(self, embedding: Embedding) -> Embedding:
        assert isinstance(embedding, SamEmbedding)
        return replace(embedding, tokens=self.model.image_tokens(embedding.features, None))


class Sam2Trainee(_PublishedTrainee[Sam2]):
    """SAM 2 on images: windows are stretched to 1024 x 1024 pixels. What only videos need stays as it is."""

    family = "sam2"

    def decoders(self) -> list[nn.Module]:
        return [self.model.sam_prompt_encoder, self.model.sam_mask_decoder]

    @property
    def view_nbytes(self) -> int:
        return super().view_nbytes + 2 * (_CHANNELS + _SKIP_CHANNELS) * (self.side // _CELL) ** 2

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return self.side, self.side

    def normalised(self, pixels: Tensor) -> Tensor:
        return self.model.normalised(pixels.to(self.model.device))[0].cpu()

    def features(self, pixels: Tensor) -> Features:
        maps, coarse, fine = [], [], []
        for image in pixels:
            found, skips = self.model.image_features(image[None])
            maps.append((found + self.model.no_mem_embed[0]).flatten(0, 1))
            coarse.append(skips.coarse[0])
            fine.append(skips.fine[0])
        return torch.stack(maps), torch.stack(coarse), torch.stack(fine)

    def decode(
        self, features: Features, prompts: SimulatedPrompts, logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        maps, coarse, fine = features
        size = (self.side, self.side)
        given = PromptBatch(prompts.points - 0.5, prompts.labels, prompts.boxes - 0.5)
        tokens = self.model.prompt_tokens(given, size)
        with self.precision():
            image = self.model.image_tokens(maps, logits)
            decoded = self.model.sam_mask_decoder(image, tokens, slice(None), Skips(coarse, fine))
        return decoded.logits.float(), decoded.scores.float()

    def refreshed(self, embedding: Embedding) -> Embedding:
        assert isinstance(embedding, Sam2Embedding)
        tokens = self.model.image_tokens(embedding.features.flatten(2).transpose(1, 2), None)
        return replace(embedding, tokens=tokens)


def _part(labels: NDArray[np.int32], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random part around a random object, or everything."""
    shape = np.array(labels.shape)
    rows, columns = np.nonzero(labels)
    if rng.random() < _WHOLE or not len(rows):
        return slice(0, int(shape[0])), slice(0, int(shape[1]))
    share = np.exp(rng.uniform(np.log(_LEAST_SHARE), 0))
    size = np.minimum(shape, np.maximum(_LEAST_SIDE, np.round(shape * share))).astype(int)
    pick = rng.integers(len(rows))
    centre = np.array([rows[pick], columns[pick]]) + rng.uniform(-0.35, 0.35, 2) * size
    start = np.clip(np.round(centre - size / 2), 0, shape - size).astype(int)
    stop = start + size
    return slice(int(start[0]), int(stop[0])), slice(int(start[1]), int(stop[1]))
