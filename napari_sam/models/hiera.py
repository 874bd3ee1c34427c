"""Hiera, the image encoder of SAM 2.

A hierarchical vision transformer without convolutions but the first (Ryali et al. 2023, Hiera: A Hierarchical
Vision Transformer without the Bells-and-Whistles), with window attention, a few blocks of global attention and
absolute positions that repeat in every window (Bolya et al. 2023, Window Attention is Bugged), as in SAM 2 (Ravi
et al. 2024, appendix D). Parameter names are those of the published SAM 2 checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.hiera_windows import WindowGroup, window_groups, window_order

__all__ = ["HIERA", "Hiera", "HieraConfig", "HieraStage"]

_STRIDE = 4
_CHUNK_BYTES = 4 << 20
"""Size of the widest activation that one pass through a block makes on a CPU: what stays in its cache."""


@dataclass(frozen=True, slots=True)
class HieraConfig:
    """The numbers that make a Hiera.

    Attributes
    ----------
    dim, heads : int
        Channels and attention heads of the first stage; both double with each stage.
    stages : tuple of int
        Blocks of each stage.
    global_blocks : tuple of int
        Blocks that attend to the whole image.
    positions : int
        Side of the position embedding that is stretched over the image.
    windows : tuple of int
        Side of the attention windows of each stage, in tokens. The first block of a stage, which pools, still
        attends within the windows of the stage before.
    """

    dim: int
    heads: int
    stages: tuple[int, ...]
    global_blocks: tuple[int, ...]
    positions: int = 7
    windows: tuple[int, ...] = (8, 4, 14, 7)

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.dim << i for i in range(len(self.stages)))


HIERA = {
    "hiera_tiny": HieraConfig(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "hiera_small": HieraConfig(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "hiera_base_plus": HieraConfig(112, 2, (2, 3, 16, 3), (12, 16, 20), positions=14),
    "hiera_large": HieraConfig(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}
"""The published sizes (Ravi et al. 2024, appendix D.2)."""


@dataclass(frozen=True, slots=True)
class HieraStage:
    """What one stage returns.

    Attributes
    ----------
    tokens : Tensor, shape (H * W, C)
        In window order.
    raster : Tensor, shape (H * W,), int64
        For each token in raster order, its place in ``tokens``.
    size : tuple of int
        H and W.
    """

    tokens: Tensor
    raster: Tensor
    size: tuple[int, int]


class _Attention(nn.Module):
    """Multi-head attention within windows; queries may be pooled 2 x 2 (Hiera, section 3)."""

    def __init__(self, dim: int, dim_out: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor, group: WindowGroup, pool: bool) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, -1)).unbind(2)
        if group.missing:
            # The tokens that fill up a window are zero before they become keys and values.
            _, pad_k, pad_v = self.qkv.bias.view(3, -1).expand(len(x), group.missing, 3, -1).unbind(2)
            k, v = torch.cat([k, pad_k], dim=1), torch.cat([v, pad_v], dim=1)
        if pool:
            q = _max_pool(q, group)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[1](F.gelu(self.layers[0](x)))


class _Block(nn.Module):
    """Attention and MLP with residual connections; from ``dim`` to more channels, it pools 2 x 2."""

    def __init__(self, dim: int, dim_out: int, heads: int) -> None:
        super().__init__()
        self.pool = dim != dim_out
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, dim_out, heads)
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        self.mlp = _MLP(dim_out)
        if self.pool:
            self.proj = nn.Linear(dim, dim_out)

    def forward(self, x: Tensor, groups: tuple[WindowGroup, ...]) -> Tensor:
        """From tokens (N, dim) in window order to (N, dim_out), or to (N / 4, dim_out) if pooled."""
        return torch.cat([self._windows(w, group).flatten(0, 1) for w, group in self._chunks(x, groups)])

    def _windows(self, x: Tensor, group: WindowGroup) -> Tensor:
        normed = self.norm1(x)
        shortcut = _max_pool(self.proj(normed), group) if self.pool else x
        x = shortcut + self.attn(normed, group, self.pool)
        return x + self.mlp(self.norm2(x))

    def _chunks(self, x: Tensor, groups: tuple[WindowGroup, ...]) -> Iterator[tuple[Tensor, WindowGroup]]:
        """Windows of one shape, (n, tokens, dim): as many as give activations that stay in a CPU's cache."""
        widest = self.mlp.layers[0].out_features * x.element_size()
        parts = x.split([group.tokens for group in groups])
        for part, group in zip(parts, groups, strict=True):
            windows = part.view(group.count, -1, part.shape[-1])
            size = group.count
            if x.device.type == "cpu":
                size = max(1, _CHUNK_BYTES // (widest * windows.shape[1]))
            for chunk in windows.split(size):
                yield chunk, group


class _PatchEmbed(nn.Module):
    """A convolution that makes one token of every 4 x 4 pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=_STRIDE, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)


class Hiera(nn.Module):
    """Image encoder that returns features at strides 4, 8, 16 and 32.

    Parameters
    ----------
    config : HieraConfig
    """

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _PatchEmbed(config.dim)
        side, window = config.positions, config.windows[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, config.dim, side, side))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.dim, window, window))
        self.blocks = nn.ModuleList()
        dim = config.dim
        for stage, depth in enumerate(config.stages):
            for _ in range(depth):
                self.blocks.append(_Block(dim, config.dims[stage], config.heads << stage))
                dim = config.dims[stage]

    def forward(self, image: Tensor) -> list[HieraStage]:
        """Encode one image.

        Parameters
        ----------
        image : Tensor, shape (1, 3, H, W)
            Normalised; H and W are multiples of 32.

        Returns
        -------
        list of HieraStage
            Finest first.
        """
        features = self.patch_embed(image)[0].permute(1, 2, 0)
        height, width = features.shape[:2]
        features = features + self.positions(height, width)
        window = self.config.windows[0]
        order = window_order(height, width, window).to(image.device)
        groups = window_groups(height, width, window)
        x = features.flatten(0, 1)[order]
        raster = order.argsort()
        ends = [end - 1 for end in accumulate(self.config.stages)]
        outputs: list[HieraStage] = []
        for index, block in enumerate(self.blocks):
            stage = len(outputs)
            if block.pool:
                x = block(x, groups)
                height, width, window = height // 2, width // 2, window // 2
                groups = tuple(group.pooled() for group in groups)
                order = window_order(height, width, window).to(image.device)
                raster = order.argsort()
                if window != self.config.windows[stage]:
                    window = self.config.windows[stage]
                    order = window_order(height, width, window).to(image.device)
                    groups = window_groups(height, width, window)
                    x = x[raster[order]]
                    raster = order.argsort()
            elif index in self.config.global_blocks:
                x = block(x, (WindowGroup(1, height, width, 0),))
            else:
                x = block(x, groups)
            if index in ends:
                outputs.append(HieraStage(x, raster, (height, width)))
        return outputs

    def positions(self, height: int, width: int) -> Tensor:
        """Position embedding of a grid of tokens: shape (height, width, dim).

        One part is stretched over the image, the other repeats in every window (Bolya et al. 2023, section 4).
        """
        stretched = F.interpolate(self.pos_embed, (height, width), mode="bicubic")
        side = self.pos_embed_window.shape[-1]
        repeated = self.pos_embed_window.repeat(1, 1, height // side, width // side)
        return (stretched + repeated)[0].permute(1, 2, 0)


def _max_pool(x: Tensor, group: WindowGroup) -> Tensor:
    """2 x 2 maximum within windows: (n, height * width, C) to (n, height * width / 4, C)."""
    x = x.unflatten(1, (group.height // 2, 2, group.width // 2, 2))
    rows = torch.maximum(x[:, :, 0], x[:, :, 1])
    return torch.maximum(rows[:, :, :, 0], rows[:, :, :, 1]).flatten(1, 2)
