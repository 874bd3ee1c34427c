"""How ``nano`` is trained on a user's images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_sam.models.nano import Nano
from napari_sam.models.nano_encoder import FINE_STRIDE, NanoFeatures
from napari_sam.models.nano_prompts import WINDOW
from napari_sam.training.augment import augment
from napari_sam.training.data import dense_target, random_crop
from napari_sam.training.loop import DENSE_WEIGHT, SECOND_LOOKS
from napari_sam.training.losses import dense_loss, prompt_loss
from napari_sam.training.trainee import Features, Part, Trainee

if TYPE_CHECKING:
    from napari_sam.training.data import LabelledImage
    from napari_sam.training.prompts import SimulatedPrompts

__all__ = ["NanoTrainee"]


class NanoTrainee(Trainee[Nano]):
    """Windows of 256 x 256 pixels at about the scale that inference would use, and at others."""

    side = WINDOW
    stride = FINE_STRIDE
    least_area = 12
    jitter, most_jitter = (0.0, 0.05), 10.0
    second_looks = SECOND_LOOKS
    windows, objects = 4, 4
    rates: ClassVar[dict[Part, float]] = {"all": 3e-4, "decoder": 6e-4}
    caches = False
    half = True
    family = "nano"

    def decoders(self) -> list[nn.Module]:
        return [self.model.prompt_encoder, self.model.mask_decoder]

    def window(
        self, item: LabelledImage, rng: np.random.Generator, *, plain: bool = False
    ) -> tuple[Tensor, Tensor]:
        pixels, labels = random_crop(item, rng)
        return (pixels, labels) if plain else augment(pixels, labels, rng)

    def features(self, pixels: Tensor) -> Features:
        return tuple(self.model.image_encoder(pixels.contiguous(memory_format=torch.channels_last)))

    def decode(
        self, features: Features, prompts: SimulatedPrompts, logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        embedding, skip4, skip2, dense = features
        # What the encoder says of each pixel is drawn for the decoder, which is not to change it.
        owned = NanoFeatures(embedding, skip4, skip2, dense.detach())
        with self.precision():
            return self.model.decode_windows(owned, prompts.points, prompts.labels, prompts.boxes, logits)

    def loss(self, found: Tensor, scores: Tensor, target: Tensor, prompts: SimulatedPrompts) -> Tensor:
        return prompt_loss(found, scores, target)

    def dense_loss(self, features: Features, labels: Tensor, items: list[LabelledImage]) -> Tensor | None:
        if not self.encoder_learns:
            return None
        targets = [
            dense_target(ids, item.group, partial=item.partial)
            for ids, item in zip(labels.cpu(), items, strict=True)
        ]
        return DENSE_WEIGHT * dense_loss(
            NanoFeatures(*features).dense, torch.stack(targets).to(labels.device)
        )
