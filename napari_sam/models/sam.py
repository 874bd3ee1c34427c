"""SAM and MobileSAM: an image encoder, a prompt encoder and a mask decoder.

Kirillov et al. (2023), Segment Anything; Zhang et al. (2023), Faster Segment Anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.base import Embedding, MaskLogits, PromptableModel, PromptBatch
from napari_sam.models.pixels import resize
from napari_sam.models.sam_image_encoder import VIT_SIZES, ImageEncoderViT, ViTSize
from napari_sam.models.sam_mask_decoder import Decoded, MaskDecoder, decode_in_pieces
from napari_sam.models.sam_prompt_encoder import PromptEncoder
from napari_sam.models.tiny_vit import TinyViT
from napari_sam.models.two_way import ImageTokens

__all__ = ["Sam", "SamEmbedding", "build_sam"]

_PIXEL_MEAN = (123.675, 116.28, 103.53)
_PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class SamEmbedding(Embedding):
    """The image embedding of one plane.

    Attributes
    ----------
    features : Tensor, shape (1, 256, 64, 64)
    input_size : tuple of int
        Height and width of the plane after scaling its longest side to 1024 pixels.
    tokens : ImageTokens
        What the decoder needs of the image whatever the prompt, without a mask prompt.
    image_size : int
        Side of the square that the image was padded to, in pixels.
    """

    features: Tensor
    input_size: tuple[int, int]
    tokens: ImageTokens
    image_size: int

    @property
    def tensors(self) -> list[Tensor]:
        return [self.features, *self.tokens]

    @property
    def low_res_frame(self) -> tuple[float, float, float, float]:
        """The square that the padded image fills, in pixels of the plane."""
        (height, width), (new_height, new_width) = self.original_size, self.input_size
        return 0.0, 0.0, self.image_size * width / new_width, self.image_size * height / new_height


class Sam(PromptableModel):
    """Segment Anything.

    Parameters
    ----------
    image_encoder : ImageEncoderViT or TinyViT
        From normalised pixels (B, 3, ``img_size``, ``img_size``) to (B, 256, h, h).
    """

    keeps_embeddings = True
    float32_buffers = frozenset({"pixel_mean", "pixel_std", "positional_encoding_gaussian_matrix"})

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, image_encoder: ImageEncoderViT | TinyViT) -> None:
        super().__init__()
        self.image_size = image_encoder.img_size
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(grid=self.image_size // 16, image_size=self.image_size)
        self.mask_decoder = MaskDecoder()
        for name, values in (("pixel_mean", _PIXEL_MEAN), ("pixel_std", _PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def prepare(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Make ready for inference; positions and pixel statistics stay in float32."""
        if isinstance(self.image_encoder, TinyViT):
            self.image_encoder.fuse()
        return super().prepare(device, dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.prompt_encoder.dtype

    def encode(self, pixels: Tensor) -> SamEmbedding:
        height, width = pixels.shape[-2:]
        size = self._input_size(height, width)
        if pixels.dtype == torch.uint8 and tuple(pixels.shape[-2:]) != size:
            pixels = pixels.cpu()  # where PyTorch resizes bytes as Pillow does
        plane = self.normalised(resize(pixels, size))
        padded = F.pad(plane, (0, self.image_size - size[1], 0, self.image_size - size[0]))
        features = self.image_encoder(padded[None].to(self.dtype))
        return self.restored({"features": features}, (height, width))

    def kept(self, embedding: Embedding) -> dict[str, Tensor]:
        return {"features": _own(embedding).features}

    def restored(self, kept: Mapping[str, Tensor], original_size: tuple[int, int]) -> SamEmbedding:
        features, cells = kept["features"], self.image_size // 16
        if features.shape != (1, 256, cells, cells):
            raise ValueError(f"Features of SAM have the shape (1, 256, {cells}, {cells}).")
        height, width = original_size
        tokens = self.image_tokens(features, None)
        return SamEmbedding(
            (height, width), features, self._input_size(height, width), tokens, self.image_size
        )

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        """Of a plane, once its longest side is that of the network's."""
        scale = self.image_size / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def normalised(self, plane: Tensor) -> Tensor:
        """A plane (3, H, W) or planes (B, 3, H, W) as the encoder takes them, float32, still to be padded.

        Parameters
        ----------
        plane : Tensor
            uint8, or float32 between 0 and 1.
        """
        plane = plane.to(self.device)
        values = plane.float() if plane.dtype == torch.uint8 else plane * 255
        return (values - self.pixel_mean) / self.pixel_std

    def image_tokens(self, features: Tensor, logits: Tensor | None) -> ImageTokens:
        """The image's side of the decoder, with mask prompts added.

        Parameters
        ----------
        features : Tensor, shape (B or 1, 256, h, h)
        logits : Tensor, shape (B, 1, 4 * h, 4 * h), or None
        """
        image = features.flatten(2).transpose(1, 2) + self.prompt_encoder.masks(logits)
        positions = self.prompt_encoder.grid_positions().to(image.dtype)
        return self.mask_decoder.transformer.prepare(image, positions)

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        embedding = _own(embedding)
        (height, width), (new_height, new_width) = embedding.original_size, embedding.input_size
        scale = prompts.points.new_tensor([new_width / width, new_height / height])
        boxes = None if prompts.boxes is None else prompts.boxes * scale.repeat(2)
        tokens = self.prompt_encoder.tokens(prompts.points * scale, prompts.labels, boxes)
        chosen = slice(1, None) if multimask else slice(0, 1)

        def decode(part: slice) -> Decoded:
            image = embedding.tokens
            if prompts.logits is not None:
                image = self.image_tokens(embedding.features, prompts.logits[part])
            return self.mask_decoder(image, tokens[part], chosen)

        logits, scores = decode_in_pieces(decode, len(prompts), self.device)
        frames = logits.new_tensor(embedding.low_res_frame).expand(len(prompts), -1)
        return MaskLogits(logits, frames, scores, via=embedding.input_size)


def build_sam(encoder: str | ViTSize) -> Sam:
    """An untrained SAM.

    Parameters
    ----------
    encoder : str or ViTSize
        ``"vit_b"``, ``"vit_l"``, ``"vit_h"``, ``"vit_t"`` (MobileSAM), or the size of another ViT.
    """
    if encoder == "vit_t":
        return Sam(TinyViT())
    return Sam(ImageEncoderViT(VIT_SIZES[encoder] if isinstance(encoder, str) else encoder))


def _own(embedding: Embedding) -> SamEmbedding:
    if not isinstance(embedding, SamEmbedding):
        raise TypeError("SAM decodes only its own embeddings; encode the image with this model.")
    return embedding
