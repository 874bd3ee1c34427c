"""SAM's prompt encoder, which SAM 2 shares (Kirillov et al. 2023, Segment Anything, appendix A).

Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from napari_sam.models.layers import LayerNorm2d

__all__ = ["CORNER_LABELS", "PromptEncoder", "RandomPositions", "box_corners"]

CORNER_LABELS = (2, 3)
"""Labels of the upper left and the lower right corner of a box, beside those of points."""
_MASK_CHANNELS = 16


class RandomPositions(nn.Module):
    """Positions by random Fourier features (Tancik et al. 2020), always in float32."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode positions (..., 2) between 0 and 1, shape (..., dim), float32."""
        with torch.autocast(xy.device.type, enabled=False):  # in training, too
            angles = 2 * math.pi * ((2 * xy.float() - 1) @ self.positional_encoding_gaussian_matrix.float())
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points, boxes and masks to tokens and to a dense embedding.

    Parameters
    ----------
    dim : int
        Width of tokens and of the image embedding.
    grid : int
        Side of the image embedding.
    image_size : int
        Side of the square frame that prompts are given in, in pixels.
    """

    def __init__(self, dim: int = 256, grid: int = 64, image_size: int = 1024) -> None:
        super().__init__()
        self.grid = grid
        self.image_size = image_size
        self.pe_layer = RandomPositions(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, _MASK_CHANNELS // 4, kernel_size=2, stride=2),
            LayerNorm2d(_MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(_MASK_CHANNELS // 4, _MASK_CHANNELS, kernel_size=2, stride=2),
            LayerNorm2d(_MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(_MASK_CHANNELS, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.no_mask_embed.weight.dtype

    def points(self, xy: Tensor, labels: Tensor) -> Tensor:
        """Tokens of points.

        Parameters
        ----------
        xy : Tensor, shape (B, N, 2), float32
            In pixels of the frame; an integer is the centre of a pixel.
        labels : Tensor, shape (B, N), int64
            1 positive, 0 negative, :data:`CORNER_LABELS` for the corners of a box, -1 for none of these.

        Returns
        -------
        Tensor, shape (B, N, dim)
        """
        embeddings = [self.not_a_point_embed, *self.point_embeddings]
        kinds = torch.cat([cast("nn.Embedding", e).weight for e in embeddings])
        places = self.pe_layer((xy + 0.5) / self.image_size)
        tokens = places * (labels >= 0)[..., None] + kinds.float()[labels + 1]
        return tokens.to(self.dtype)

    def tokens(self, xy: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor:
        """Tokens of points and boxes as SAM orders them, shape (B, N + 1 or N + 2, dim).

        Without boxes a token that stands for none follows the points.

        Parameters
        ----------
        xy, labels
            As in :meth:`points`.
        boxes : Tensor, shape (B, 4), float32, or None
            x0, y0, x1, y1; NaN where an object has no box.
        """
        if boxes is None:
            if xy.shape[1]:
                xy, labels = nn.functional.pad(xy, (0, 0, 0, 1)), nn.functional.pad(labels, (0, 1), value=-1)
        else:
            corners, corner_labels = box_corners(boxes)
            xy, labels = torch.cat([xy, corners], dim=1), torch.cat([labels, corner_labels], dim=1)
        return self.points(xy, labels)

    def masks(self, logits: Tensor | None) -> Tensor:
        """What mask prompts add to the image tokens.

        Parameters
        ----------
        logits : Tensor, shape (B, 1, 4 * grid, 4 * grid), or None

        Returns
        -------
        Tensor, shape (B, grid * grid, dim), or (1, 1, dim) without masks
        """
        if logits is None:
            return self.no_mask_embed.weight[None]
        return self.mask_downscaling(logits.to(self.dtype)).flatten(2).transpose(1, 2)

    def grid_positions(self) -> Tensor:
        """Positions of the image tokens, shape (1, grid * grid, dim), float32."""
        line = (torch.arange(self.grid, device=self.no_mask_embed.weight.device) + 0.5) / self.grid
        y, x = torch.meshgrid(line, line, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).flatten(0, 1)[None]


def box_corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (B, 4) as points (B, 2, 2) and their labels (B, 2), which are -1 for a box of NaN."""
    labels = torch.tensor(CORNER_LABELS, device=boxes.device).expand(len(boxes), -1)
    absent = boxes.isnan().any(dim=1, keepdim=True)
    return boxes.nan_to_num().unflatten(1, (2, 2)), labels.masked_fill(absent, -1)
