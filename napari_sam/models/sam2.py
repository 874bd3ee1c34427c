"""SAM 2 and 2.1 (Ravi et al. 2024, SAM 2: Segment Anything in Images and Videos), for images.

The parameters that only videos need (memory attention, memory encoder, object pointers) are there as well, so
that one checkpoint serves both; what is done with them is in :mod:`napari_sam.models.memory_steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.base import Embedding, MaskLogits, PromptableModel, PromptBatch
from napari_sam.models.fpn_neck import FpnNeck
from napari_sam.models.hiera import HIERA_SIZES, Hiera, HieraSize, HieraStage
from napari_sam.models.layers import MLP
from napari_sam.models.memory_attention import MemoryAttention
from napari_sam.models.memory_encoder import MemoryEncoder
from napari_sam.models.pixels import resize
from napari_sam.models.sam2_mask_decoder import Sam2MaskDecoder
from napari_sam.models.sam_mask_decoder import Decoded, Skips, blocks, decode_in_pieces
from napari_sam.models.sam_prompt_encoder import PromptEncoder, box_corners
from napari_sam.models.two_way import ImageTokens

__all__ = ["Sam2", "Sam2Embedding", "build_sam2"]

_PIXEL_MEAN = (0.485, 0.456, 0.406)
_PIXEL_STD = (0.229, 0.224, 0.225)
_DIM = 256
_MEMORY_DIM = 64
_MEMORIES = 7
_STRIDE = 16
_STRIP_PIXELS = 1 << 22
"""Pixels that are widened to float32 at once; bounds memory on huge images."""
_PROMPT_LIMIT = 32.0
"""Logits that become a mask prompt are cut off here, as published."""


@dataclass(frozen=True, slots=True)
class Sam2Embedding(Embedding):
    """The image embedding of one plane, which was stretched to a square.

    Attributes
    ----------
    features : Tensor, shape (1, 256, 64, 64)
        With the embedding that stands for no memory added.
    tokens : ImageTokens
        What the decoder needs of the image whatever the prompt, without a mask prompt.
    skips : Skips
        High-resolution features for the decoder.
    """

    features: Tensor
    tokens: ImageTokens
    skips: Skips

    @property
    def tensors(self) -> list[Tensor]:
        return [self.features, *self.tokens, *self.skips]

    @property
    def low_res_frame(self) -> tuple[float, float, float, float]:
        """The whole image."""
        height, width = self.original_size
        return 0.0, 0.0, float(width), float(height)


class Sam2(PromptableModel):
    """Segment Anything 2.

    Parameters
    ----------
    size : HieraSize
        Of the image encoder.
    pointer_positions : bool
        Whether object pointers know their distance in time and memories of frames without the object are
        marked (SAM 2.1).
    image_size : int
        Side of the square that images are stretched to, in pixels.
    """

    keeps_embeddings = True
    float32_buffers = frozenset({"pixel_mean", "pixel_std", "positional_encoding_gaussian_matrix"})

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, size: HieraSize, *, pointer_positions: bool = True, image_size: int = 1024) -> None:
        super().__init__()
        self.image_size = image_size
        self.pointer_positions = pointer_positions
        self.image_encoder = _ImageEncoder(size, image_size)
        self.sam_prompt_encoder = PromptEncoder(_DIM, image_size // _STRIDE, image_size)
        self.sam_mask_decoder = Sam2MaskDecoder()
        self.memory_attention = MemoryAttention()
        self.memory_encoder = MemoryEncoder()
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(_MEMORIES, 1, 1, _MEMORY_DIM))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, _DIM))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, _DIM))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, _DIM))
        self.obj_ptr_proj = MLP(_DIM, _DIM, _DIM, depth=3)
        if pointer_positions:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, _MEMORY_DIM))
            self.obj_ptr_tpos_proj = nn.Linear(_DIM, _MEMORY_DIM)
        for name, values in (("pixel_mean", _PIXEL_MEAN), ("pixel_std", _PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which features are computed and kept."""
        return self.no_mem_embed.dtype

    def prepare(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Make ready for inference; frequencies of positions and pixel statistics stay in float32."""
        super().prepare(device, dtype)
        self.image_encoder.trunk.place()
        return self

    def encode(self, pixels: Tensor) -> Sam2Embedding:
        height, width = pixels.shape[-2:]
        features, skips = self.image_features(self.normalised(_stretch(pixels, self.image_size, self.device)))
        features = (features + self.no_mem_embed[0]).permute(2, 0, 1)[None]
        return self.restored({"features": features, **skips._asdict()}, (height, width))

    def kept(self, embedding: Embedding) -> dict[str, Tensor]:
        own = _own(embedding)
        return {"features": own.features, **own.skips._asdict()}

    def restored(self, kept: Mapping[str, Tensor], original_size: tuple[int, int]) -> Sam2Embedding:
        features, cells = kept["features"], self.image_size // _STRIDE
        if features.shape != (1, _DIM, cells, cells):
            raise ValueError(f"Features of SAM 2 have the shape (1, {_DIM}, {cells}, {cells}).")
        tokens = self.image_tokens(features.flatten(2).transpose(1, 2), None)
        height, width = original_size
        return Sam2Embedding(
            (height, width), features, tokens, Skips(*(kept[name] for name in Skips._fields))
        )

    def normalised(self, square: Tensor) -> Tensor:
        """A square plane as the encoder takes it: shape (1, 3, image_size, image_size).

        Parameters
        ----------
        square : Tensor, shape (3, image_size, image_size), or (1, image_size, image_size) if gray
            float32 between 0 and 1.
        """
        return torch.sub(square, self.pixel_mean).div_(self.pixel_std)[None].to(self.dtype)

    def image_features(self, image: Tensor) -> tuple[Tensor, Skips]:
        """Features of one image, the same for images and videos.

        Parameters
        ----------
        image : Tensor, shape (1, 3, image_size, image_size)
            Normalised, in the dtype of the weights.

        Returns
        -------
        features : Tensor, shape (image_size / 16, image_size / 16, 256)
        skips : Skips
            At strides 8 and 4, projected for the mask decoder.
        """
        decoder, neck = self.sam_mask_decoder, self.image_encoder.neck
        stages = self.image_encoder.trunk(image)
        fine, coarse = (
            _by_blocks(neck.project(level, stages[level].tokens, conv), stages[level], 2 - level)
            for level, conv in ((0, decoder.conv_s0), (1, decoder.conv_s1))
        )
        return neck(*stages[2:]), Skips(coarse, fine)

    def decode(self, embedding: Embedding, prompts: PromptBatch, *, multimask: bool) -> MaskLogits:
        embedding = _own(embedding)
        tokens = self.prompt_tokens(prompts, embedding.original_size)

        def decode(part: slice) -> Decoded:
            image = embedding.tokens
            if prompts.logits is not None:
                features = embedding.features.flatten(2).transpose(1, 2)
                image = self.image_tokens(features, prompts.logits[part])
            return self.sam_mask_decoder.predict(image, tokens[part], embedding.skips, multimask=multimask)

        logits, scores = decode_in_pieces(decode, len(prompts), self.device)
        frames = logits.new_tensor(embedding.low_res_frame).expand(len(prompts), -1)
        return MaskLogits(logits, frames, scores, limit=_PROMPT_LIMIT)

    def image_tokens(self, features: Tensor, logits: Tensor | None) -> ImageTokens:
        """The image's side of the decoder, with mask prompts added.

        Parameters
        ----------
        features : Tensor, shape (B or 1, N, 256)
        logits : Tensor, shape (B, 1, image_size / 4, image_size / 4), or None
        """
        image = features + self.sam_prompt_encoder.masks(logits)
        positions = self.sam_prompt_encoder.grid_positions().to(image.dtype)
        return self.sam_mask_decoder.transformer.prepare(image, positions)

    def prompt_tokens(self, prompts: PromptBatch, size: tuple[int, int]) -> Tensor:
        """Tokens of the corners of boxes, then of points, then one that stands for none: shape (B, T, 256).

        Parameters
        ----------
        prompts : PromptBatch
        size : tuple of int
            Height and width of the plane that they are on, in pixels.
        """
        extent = prompts.points.new_tensor([size[1], size[0]])
        points, labels = prompts.points, prompts.labels
        if prompts.boxes is not None:
            corners, corner_labels = box_corners(prompts.boxes)
            points, labels = torch.cat([corners, points], dim=1), torch.cat([corner_labels, labels], dim=1)
        if labels.shape[1]:
            points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        return self.sam_prompt_encoder.points(points / extent * self.image_size, labels)


class _ImageEncoder(nn.Module):
    def __init__(self, size: HieraSize, image_size: int) -> None:
        super().__init__()
        self.trunk = Hiera(size, image_size)
        self.neck = FpnNeck(size.dims)


def build_sam2(size: str | HieraSize, *, version: str = "2.1", image_size: int = 1024) -> Sam2:
    """An untrained SAM 2.

    Parameters
    ----------
    size : str or HieraSize
        ``"hiera_tiny"``, ``"hiera_small"``, ``"hiera_base_plus"``, ``"hiera_large"``, or the size of
        another Hiera.
    version : {"2", "2.1"}
        2.1 has three parameters more, for videos.
    image_size : int
        Side of the square that images are stretched to, in pixels; 1024 in all published models.

    Raises
    ------
    ValueError
        If the version is unknown.
    """
    if version not in ("2", "2.1"):
        raise ValueError(f"There is no SAM {version}: give '2' or '2.1'.")
    encoder = HIERA_SIZES[size] if isinstance(size, str) else size
    return Sam2(encoder, pointer_positions=version == "2.1", image_size=image_size)


def _by_blocks(tokens: Tensor, stage: HieraStage, levels: int) -> Tensor:
    """Tokens (N, D) of a stage in the order of the decoder: shape (1, N / 4**levels, 4**levels, D)."""
    order = blocks(stage.raster[None, None], levels)[..., 0]
    return tokens.index_select(0, order.flatten()).view(*order.shape, -1)


def _stretch(pixels: Tensor, side: int, device: torch.device) -> Tensor:
    """A plane (3, H, W) as a square of ``side`` pixels, float32 between 0 and 1, bilinear with antialiasing.

    A plane of one repeated channel comes back with that channel alone.
    """
    if pixels.stride(0) == 0:
        pixels = pixels[:1]
    rows = max(1, _STRIP_PIXELS // pixels.shape[2])
    # Columns first, as PyTorch does it for the whole plane.
    narrow = torch.cat(
        [resize(_unit(strip.to(device)), (strip.shape[1], side)) for strip in pixels.split(rows, 1)], 1
    )
    return resize(narrow, (side, side))


def _unit(pixels: Tensor) -> Tensor:
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()


def _own(embedding: Embedding) -> Sam2Embedding:
    if not isinstance(embedding, Sam2Embedding):
        raise TypeError("SAM 2 decodes only its own embeddings; encode the image with this model.")
    return embedding
