"""SAM's image encoder: a plain ViT with windowed and global attention.

Li et al. (2022), Exploring Plain Vision Transformer Backbones for Object Detection, section 3; decomposed
relative positions as in Li et al. (2022), MViTv2, section 4.1. Parameter names are those of the published
checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_sam.models.layers import LayerNorm2d
from napari_sam.models.linear import linear, linear_gelu
from napari_sam.models.relative_attention import Scratch, attention_with_relative_positions

__all__ = ["VIT_SIZES", "ImageEncoderViT", "ViTSize"]

_PATCH = 16
_WINDOW = 14
_MLP_ROWS = 1024
"""Tokens whose MLP is computed at once on a CPU: what comes in between then stays in its cache."""


@dataclass(frozen=True, slots=True)
class ViTSize:
    """Width, depth, number of heads, and which blocks attend to the whole image."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


VIT_SIZES = {
    "vit_b": ViTSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": ViTSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": ViTSize(1280, 32, 16, (7, 15, 23, 31)),
}


class ImageEncoderViT(nn.Module):
    """Normalised pixels to an image embedding.

    Parameters
    ----------
    size : ViTSize
    image_size : int
        Side of the image, in pixels.
    out_dim : int
        Channels of the embedding.
    """

    def __init__(self, size: ViTSize, image_size: int = 1024, out_dim: int = 256) -> None:
        super().__init__()
        self.img_size = image_size
        grid = image_size // _PATCH
        self.patch_embed = _PatchEmbed(size.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, size.dim))
        self.blocks = nn.ModuleList(
            _Block(size.dim, size.heads, grid, grid if i in size.global_blocks else _WINDOW)
            for i in range(size.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(size.dim, out_dim, kernel_size=1, bias=False),
            LayerNorm2d(out_dim),
            nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_dim),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed images (B, 3, side, side), shape (B, out_dim, side / 16, side / 16)."""
        maps = []
        scratch = Scratch()
        for image in pixels:
            # One image at a time: the blocks' memory does not grow with the batch.
            patches = self.patch_embed.proj(image[None]).permute(0, 2, 3, 1)
            # Residuals keep the order in memory of the first tokens: channels last.
            x = (patches.contiguous() + self.pos_embed)[0].flatten(0, 1)
            for block in self.blocks:
                if torch.is_grad_enabled():
                    # What a global block's gradient needs takes a gigabyte: of one block at a time.
                    x = checkpoint(block, x, scratch, use_reentrant=False, preserve_rng_state=False)
                else:
                    x = block(x, scratch)
            maps.append(x.t().unflatten(1, self.pos_embed.shape[1:3]))
        return self.neck(torch.stack(maps))


class _PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=_PATCH, stride=_PATCH)


class _Block(nn.Module):
    """Attention in windows or over the whole image, then an MLP."""

    def __init__(self, dim: int, heads: int, grid: int, window: int) -> None:
        super().__init__()
        self.grid, self.window = grid, window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _MLP(dim)
        into, back = _window_order(grid, window)
        self.register_buffer("into", into, persistent=False)
        self.register_buffer("back", back, persistent=False)

    into: Tensor
    back: Tensor

    def forward(self, x: Tensor, scratch: Scratch) -> Tensor:
        """Tokens (grid * grid, dim) after the block."""
        normed = self.norm1(x)
        if self.window == self.grid:
            mixed = self.attn(normed, None, scratch)
        else:
            # Padding is a zero before the projection, so that it attends and is attended to.
            padded = torch.cat([normed, normed.new_zeros(1, normed.shape[1])])
            mixed = self.attn(padded, self.into, scratch).index_select(0, self.back)
        x = x + linear(mixed, self.attn.proj)
        if torch.is_grad_enabled():
            return x + self.mlp(self.norm2(x))
        rows = _MLP_ROWS if x.device.type == "cpu" else len(x)
        for part in x.split(rows):
            part.add_(self.mlp(self.norm2(part)))
        return x


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window - 1, dim // heads))

    def forward(self, x: Tensor, order: Tensor | None, scratch: Scratch) -> Tensor:
        """Attend within windows; ``order`` says which token of ``x`` comes where.

        Returns the heads side by side, (windows * window * window, dim), not yet projected.
        """
        qkv = linear(x, self.qkv)
        if order is not None:
            qkv = scratch.select("windows", qkv, order)
        q, k, v = qkv.view(-1, self.window**2, 3, self.heads, qkv.shape[-1] // (3 * self.heads)).unbind(2)
        mixed = attention_with_relative_positions(
            q, k, v, self.rel_pos_h, self.rel_pos_w, self.window, scratch
        )
        return mixed.reshape(len(qkv), -1)


class _MLP(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, 4 * dim)
        self.lin2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return linear(linear_gelu(x, self.lin1), self.lin2)


def _window_order(grid: int, window: int) -> tuple[Tensor, Tensor]:
    """Which token is at each place of the padded windows, and at which place each token is.

    Places beyond the image hold the number after the last token.
    """
    count = -(-grid // window)
    tokens = torch.full((count * window, count * window), grid * grid)
    tokens[:grid, :grid] = torch.arange(grid * grid).view(grid, grid)
    into = tokens.view(count, window, count, window).transpose(1, 2).flatten()
    inside = into < grid * grid
    back = torch.empty(grid * grid, dtype=torch.long)
    back[into[inside]] = inside.nonzero()[:, 0]
    return into, back
