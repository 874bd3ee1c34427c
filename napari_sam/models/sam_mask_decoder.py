"""The mask decoder of SAM (Kirillov et al. 2023, appendix A) and of SAM 2 (Ravi et al. 2024, appendix D).

Parameter names are those of the published checkpoints. Everything is computed on tokens, channels last: a
transposed convolution whose stride is its size is a linear map of each token to the pixels of its block, and
blocks are put in their places only when four or fewer channels are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.layers import MLP, LayerNorm2d
from napari_sam.models.linear import product
from napari_sam.models.two_way import ImageTokens, TwoWayTransformer

__all__ = ["NUM_MASKS", "Decoded", "MaskDecoder", "Skips", "blocks", "decode_in_pieces"]

NUM_MASKS = 4
"""One mask for unambiguous prompts, then the three of an ambiguous one."""
_CPU_PROMPTS = 2
"""Prompts decoded at once on a CPU: more would not fit its caches."""


class Skips(NamedTuple):
    """High-resolution features, by blocks: (1, N, 4, dim / 4) and (1, N, 16, dim / 8)."""

    coarse: Tensor
    fine: Tensor


class Decoded(NamedTuple):
    """What the decoder says of B prompts.

    Attributes
    ----------
    logits : Tensor, shape (B, C, 256, 256)
        Of the masks asked for.
    scores : Tensor, shape (B, C)
        Predicted IoUs.
    objectness : Tensor, shape (B, 1), or None
        Logits of whether the object is there at all.
    tokens : Tensor, shape (B, C, dim)
        The mask tokens.
    """

    logits: Tensor
    scores: Tensor
    objectness: Tensor | None
    tokens: Tensor


class MaskDecoder(nn.Module):
    """Image tokens and prompt tokens to mask logits and predicted IoUs.

    Parameters
    ----------
    dim : int
        Width of the tokens.
    skips : bool
        Whether high-resolution features join on the way up (SAM 2).
    objectness : bool
        Whether a token says if the object is there (SAM 2).
    sigmoid_scores : bool
        Whether predicted IoUs pass through a sigmoid (SAM 2).
    mlp : type
        Of the transformer's MLPs.
    """

    def __init__(
        self,
        dim: int = 256,
        *,
        skips: bool = False,
        objectness: bool = False,
        sigmoid_scores: bool = False,
        mlp: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, dim=dim, num_heads=8, mlp_dim=2048, mlp=mlp)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(NUM_MASKS, dim)
        if objectness:
            self.obj_score_token = nn.Embedding(1, dim)
            self.pred_obj_score_head = MLP(dim, dim, 1, depth=3)
        self.objectness = objectness
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        if skips:
            self.conv_s0 = nn.Conv2d(dim, dim // 8, kernel_size=1)
            self.conv_s1 = nn.Conv2d(dim, dim // 4, kernel_size=1)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, dim // 8, depth=3) for _ in range(NUM_MASKS)
        )
        self.iou_prediction_head = MLP(dim, dim, NUM_MASKS, depth=3, sigmoid=sigmoid_scores)

    def forward(
        self, image: ImageTokens, prompts: Tensor, chosen: slice, skips: Skips | None = None
    ) -> Decoded:
        """Decode.

        Parameters
        ----------
        image : ImageTokens
            From the transformer's ``prepare``, mask prompts added to the image.
        prompts : Tensor, shape (B, T, dim)
        chosen : slice
            Which of the four masks to compute.
        skips : Skips, optional
        """
        own = [self.iou_token.weight, self.mask_tokens.weight]
        if self.objectness:
            own.insert(0, self.obj_score_token.weight)
        outputs = torch.cat(own).expand(len(prompts), -1, -1)
        tokens, features = self.transformer(image, torch.cat([outputs, prompts], dim=1))
        first = len(own) - 2
        scores = self.iou_prediction_head(tokens[:, first])[:, chosen]
        masks = tokens[:, first + 1 : first + 1 + NUM_MASKS][:, chosen]
        nets = list(self.output_hypernetworks_mlps)[chosen]
        weights = torch.stack([net(masks[:, i]) for i, net in enumerate(nets)], dim=1)
        logits = _unblock(self._upscale(features, skips) @ weights.transpose(1, 2))
        objectness = self.pred_obj_score_head(tokens[:, 0]) if self.objectness else None
        return Decoded(logits, scores, objectness, masks)

    def _upscale(self, features: Tensor, skips: Skips | None) -> Tensor:
        """Four times the resolution, by blocks: (B, N, dim) to (B, N * 16, dim / 8)."""
        up4, norm, _, up2, _ = self.output_upscaling
        x = _up(features, cast("nn.ConvTranspose2d", up4)).unflatten(2, (4, -1))
        if skips is not None:
            x += skips.coarse
        norm = cast("LayerNorm2d", norm)
        x = F.gelu(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        x = _up(x, cast("nn.ConvTranspose2d", up2)).unflatten(3, (4, -1)).flatten(2, 3)
        if skips is not None:
            x += skips.fine
        return F.gelu(x).flatten(1, 2)


def decode_in_pieces(
    decode: Callable[[slice], Decoded], count: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Decode some of ``count`` prompts at a time; logits and scores of all, float32."""
    step = _CPU_PROMPTS if device.type == "cpu" else count
    parts = [decode(slice(start, start + step)) for start in range(0, count, step)]
    return torch.cat([p.logits for p in parts]).float(), torch.cat([p.scores for p in parts]).float()


def blocks(x: Tensor, levels: int) -> Tensor:
    """A map (B, C, h * 2**levels, w * 2**levels) by blocks of h * w tokens, shape (B, h * w, 4**levels, C).

    Within a block, pixels are in the order in which successive transposed convolutions make them.
    """
    batch, channels = x.shape[:2]
    h, w = (side // 2**levels for side in x.shape[2:])
    x = x.reshape(batch, channels, h, *[2] * levels, w, *[2] * levels)
    rows, columns = range(2, 3 + levels), range(3 + levels, 4 + 2 * levels)
    pixels = [axis for pair in zip(rows[1:], columns[1:], strict=True) for axis in pair]
    return x.permute(0, rows[0], columns[0], *pixels, 1).reshape(batch, h * w, 4**levels, channels)


def _up(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution of size and stride 2 on tokens (..., in), shape (..., 4 * out)."""
    assert layer.bias is not None
    weight = layer.weight.flatten(1).unflatten(1, (-1, 4)).transpose(1, 2).flatten(1).t()
    return product(x, weight, layer.bias.repeat(4))


def _unblock(x: Tensor) -> Tensor:
    """Values of the pixels by blocks, (B, N * 16, C), as a map (B, C, 256, 256)."""
    side = round((x.shape[1] / 16) ** 0.5)
    x = x.unflatten(1, (side, side, 2, 2, 2, 2))
    # rows: token, first block, second block; then columns
    return x.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(len(x), x.shape[-1], 4 * side, 4 * side)
