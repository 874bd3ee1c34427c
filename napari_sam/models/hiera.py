"""Hiera, the image encoder of SAM 2.

A hierarchical vision transformer without convolutions but the first (Ryali et al. 2023, Hiera: A Hierarchical
Vision Transformer without the Bells-and-Whistles), with window attention, a few blocks of global attention
and absolute positions that repeat in every window (Bolya et al. 2023, Window Attention is Bugged), as in
SAM 2 (Ravi et al. 2024, appendix D). Parameter names are those of the published SAM 2 checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from napari_sam.models.hiera_windows import WindowGroup, window_groups, window_order
from napari_sam.models.linear import linear, linear_gelu
from napari_sam.models.tiled_attention import attend_in_tiles

__all__ = ["HIERA_SIZES", "Hiera", "HieraSize", "HieraStage"]

_STRIDE = 4
_CHUNK_BYTES = 16 << 20
"""Size of the widest activation that one pass through a block makes on a CPU: what stays in its cache."""
_SMALL = 256
"""Tokens of the largest windows whose attention a CPU computes at once."""


@dataclass(frozen=True, slots=True)
class HieraSize:
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
        return tuple(self.dim << stage for stage in range(len(self.stages)))


HIERA_SIZES = {
    "hiera_tiny": HieraSize(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "hiera_small": HieraSize(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "hiera_base_plus": HieraSize(112, 2, (2, 3, 16, 3), (12, 16, 20), positions=14),
    "hiera_large": HieraSize(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}
"""The published sizes (Ravi et al. 2024, appendix D.2)."""


@dataclass(frozen=True, slots=True)
class HieraStage:
    """What one stage returns.

    Attributes
    ----------
    tokens : Tensor, shape (N, C)
        In window order.
    raster : Tensor, shape (H, W), int64
        Where in ``tokens`` the token of each cell is; H * W is N.
    """

    tokens: Tensor
    raster: Tensor

    def in_place(self, tokens: Tensor) -> Tensor:
        """Tokens (N, D) in the order of this stage as a map (H, W, D)."""
        return tokens.index_select(0, self.raster.flatten()).view(*self.raster.shape, -1)


class Hiera(nn.Module):
    """Image encoder that returns features at strides 4, 8, 16 and 32.

    Parameters
    ----------
    size : HieraSize
    image_size : int
        Side of the square image, in pixels.
    """

    def __init__(self, size: HieraSize, image_size: int = 1024) -> None:
        super().__init__()
        self.size = size
        self.grid = image_size // _STRIDE
        self.patch_embed = _PatchEmbed(size.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, size.dim, size.positions, size.positions))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, size.dim, size.windows[0], size.windows[0]))
        self.placed: Tensor | None
        self.register_buffer("placed", None, persistent=False)
        self.blocks = nn.ModuleList()
        dim = size.dim
        for stage, depth in enumerate(size.stages):
            for _ in range(depth):
                self.blocks.append(_Block(dim, size.dims[stage], size.heads << stage))
                dim = size.dims[stage]
        for stage, window in enumerate(size.windows):
            grid = self.grid >> stage
            order = window_order(grid, grid, window)
            # Pooling leaves the tokens in windows of half the side, which may not be those of the next stage.
            before = (
                window_order(grid, grid, size.windows[stage - 1] // 2) if stage else torch.arange(grid**2)
            )
            self.register_buffer(f"enter{stage}", before.argsort()[order], persistent=False)
            self.register_buffer(f"raster{stage}", order.argsort().view(grid, grid), persistent=False)

    def forward(self, image: Tensor) -> list[HieraStage]:
        """Encode one image.

        Parameters
        ----------
        image : Tensor, shape (1, 3, image_size, image_size)
            Normalised.

        Returns
        -------
        list of HieraStage
            Finest first.
        """
        positions = self.placed
        if positions is None or torch.is_grad_enabled():
            positions = self.positions()
        x = (self.patch_embed.proj(image)[0].permute(1, 2, 0) + positions).flatten(0, 1)
        x = x.index_select(0, self.get_buffer("enter0"))
        outputs: list[HieraStage] = []
        for stage, (start, stop) in enumerate(pairwise([0, *accumulate(self.size.stages)])):
            for index in range(start, stop):
                block = self.blocks[index]
                if index in self.size.global_blocks:
                    x = block(x, (WindowGroup(1, self.grid >> stage, self.grid >> stage, 0),))
                elif index == start and stage:
                    x = block(x, self._groups(stage - 1))
                    if self.size.windows[stage] != self.size.windows[stage - 1] // 2:
                        x = x.index_select(0, self.get_buffer(f"enter{stage}"))
                else:
                    x = block(x, self._groups(stage))
            outputs.append(HieraStage(x, self.get_buffer(f"raster{stage}")))
        return outputs

    def place(self) -> None:
        """Compute the positions once, for inference with the present weights."""
        self.placed = self.positions().detach()

    def positions(self) -> Tensor:
        """Position embedding of the tokens: shape (grid, grid, dim).

        One part is stretched over the image, the other repeats in every window (Bolya et al. 2023,
        section 4).
        """
        stretch = _bicubic(self.size.positions, self.grid).to(self.pos_embed.device)
        rows = stretch @ self.pos_embed[0].float().permute(1, 2, 0).flatten(1)
        stretched = stretch @ rows.unflatten(1, (self.size.positions, -1))
        side = self.size.windows[0]
        windows = stretched.unflatten(1, (-1, side)).unflatten(0, (-1, side))
        repeated = self.pos_embed_window[0].permute(1, 2, 0)[:, None]
        return (windows + repeated).view_as(stretched).to(self.pos_embed.dtype)

    def _groups(self, stage: int) -> tuple[WindowGroup, ...]:
        return window_groups(self.grid >> stage, self.grid >> stage, self.size.windows[stage])


class _PatchEmbed(nn.Module):
    """A convolution that makes one token of every 4 x 4 pixels and their surroundings."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=_STRIDE, padding=3)


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
        """From tokens (N, dim) in window order to (N, dim_out), or to (N / 4, dim_out) if pooled.

        Without gradients, and unless it pools, a block changes the tokens in place: fresh memory is slow on a
        CPU.
        """
        if torch.is_grad_enabled():
            # What the gradient needs is computed again, one block after the other.
            out: Tensor = checkpoint(self._anew, x, groups, use_reentrant=False, preserve_rng_state=False)
            return out
        if self.pool:
            return self._anew(x, groups)
        for windows, group in self._chunks(x, groups):
            self._windows(windows, group, out=windows)
        return x

    def _anew(self, x: Tensor, groups: tuple[WindowGroup, ...]) -> Tensor:
        return torch.cat([self._windows(w, group).flatten(0, 1) for w, group in self._chunks(x, groups)])

    def _windows(self, x: Tensor, group: WindowGroup, out: Tensor | None = None) -> Tensor:
        normed = self.norm1(x)
        shortcut = _max_pool(linear(normed, self.proj), group) if self.pool else x
        x = shortcut + self.attn(normed, group, self.pool)
        return torch.add(x, self.mlp(self.norm2(x)), out=out)

    def _chunks(self, x: Tensor, groups: tuple[WindowGroup, ...]) -> Iterator[tuple[Tensor, WindowGroup]]:
        """Windows of one shape, (n, tokens, dim): as many as give activations that stay in a CPU's cache."""
        widest = self.mlp.hidden * x.element_size()
        parts = x.split([group.tokens for group in groups])
        for part, group in zip(parts, groups, strict=True):
            windows = part.view(group.count, -1, part.shape[-1])
            count = group.count
            if x.device.type == "cpu":
                count = max(1, _CHUNK_BYTES // (widest * windows.shape[1]))
            for chunk in windows.split(count):
                yield chunk, group


class _Attention(nn.Module):
    """Multi-head attention within windows; queries may be pooled 2 x 2 (Hiera, section 3)."""

    def __init__(self, dim: int, dim_out: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor, group: WindowGroup, pool: bool) -> Tensor:
        q, k, v = linear(x, self.qkv).unflatten(-1, (3, -1)).unbind(2)
        if group.missing:
            # The tokens that fill up a window are zero before they become keys and values.
            _, pad_k, pad_v = self.qkv.bias.view(3, -1).expand(len(x), group.missing, 3, -1).unbind(2)
            k, v = torch.cat([k, pad_k], dim=1), torch.cat([v, pad_v], dim=1)
        if pool:
            q = _max_pool(q, group)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return linear(_attend(q, k, v).transpose(1, 2).flatten(2), self.proj)


class _MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)])
        self.hidden = 4 * dim

    def forward(self, x: Tensor) -> Tensor:
        first, second = cast("list[nn.Linear]", list(self.layers))
        return linear(linear_gelu(x, first), second)


def _max_pool(x: Tensor, group: WindowGroup) -> Tensor:
    """2 x 2 maximum within windows: (n, height * width, C) to (n, height * width / 4, C)."""
    x = x.unflatten(1, (group.height // 2, 2, group.width // 2, 2))
    rows = torch.maximum(x[:, :, 0], x[:, :, 1])
    return torch.maximum(rows[:, :, :, 0], rows[:, :, :, 1]).flatten(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention within n windows, (n, heads, N, d), whichever way is fastest."""
    if q.device.type != "cpu" or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    if k.shape[2] > _SMALL:
        return attend_in_tiles(q, k, v)
    if q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v)
    return _half_attention(q, k, v)


def _half_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in half precision on a CPU, (n, heads, N, d).

    PyTorch's fused one is slower than two matrix products on CPUs without matrix units.
    """
    batch = q.shape[:2]
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    mixed = torch.softmax(torch.bmm(q * q.shape[2] ** -0.5, k.transpose(1, 2).contiguous()), dim=-1) @ v
    return mixed.unflatten(0, batch)


def _bicubic(cells: int, new_cells: int) -> Tensor:
    """The matrix (new_cells, cells) that stretches a line by bicubic interpolation."""
    line = torch.eye(cells)[None, :, :, None]
    return F.interpolate(line, (new_cells, 1), mode="bicubic")[0, :, :, 0].t()
