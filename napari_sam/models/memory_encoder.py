"""Memory encoder of SAM 2: a frame's embedding and an object's mask become a memory.

Ravi et al. 2024, SAM 2: Segment Anything in Images and Videos, section 4 and appendix D.1. The defaults are
the published configuration of all sizes, the parameter names those of the checkpoints.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.layers import LayerNorm2d
from napari_sam.models.positions import sine_positions

__all__ = ["MemoryEncoder"]


class MemoryEncoder(nn.Module):
    """Brings a mask to the embedding's resolution, adds the two and mixes them with convolutions.

    Parameters
    ----------
    dim : int
        Channels of the image embedding.
    out_dim : int
        Channels of a memory.
    depth : int
        Number of ConvNeXt blocks.
    """

    def __init__(self, dim: int = 256, out_dim: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.mask_downsampler = _MaskDownsampler(dim)
        self.pix_feat_proj = nn.Conv2d(dim, dim, 1)
        self.fuser = _Fuser(dim, depth)
        self.out_proj = nn.Conv2d(dim, out_dim, 1)

    def forward(self, embedding: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one frame.

        Parameters
        ----------
        embedding : Tensor, shape (B, dim, H, W)
        masks : Tensor, shape (B, 1, 16 * H, 16 * W)
            What the mask downsampler was trained on: foreground probabilities (or a 0/1 mask), scaled and
            shifted as the checkpoint's configuration says (times 20, minus 10).

        Returns
        -------
        memory : Tensor, shape (B, out_dim, H, W)
        positions : Tensor, shape (1, out_dim, H, W)
            Their position encoding, the same for all of the batch.
        """
        x = self.pix_feat_proj(embedding.contiguous(memory_format=torch.channels_last))
        x = self.out_proj(self.fuser(x + self.mask_downsampler(masks)))
        return x, sine_positions(x.shape[2], x.shape[3], x.shape[1], device=x.device, dtype=x.dtype)


class _MaskDownsampler(nn.Module):
    """Four convolutions of stride 2, each with four times the channels, and a projection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for narrow, wide in pairwise((1, 4, 16, 64, 256)):
            stages += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), LayerNorm2d(wide), nn.GELU()]
        self.encoder = nn.Sequential(*stages, nn.Conv2d(256, dim, 1))

    def forward(self, masks: Tensor) -> Tensor:
        return self.encoder(masks)


class _Fuser(nn.Module):
    """A stack of ConvNeXt blocks."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_ConvNextBlock(dim) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class _ConvNextBlock(nn.Module):
    """Depthwise convolution, layer normalisation, MLP, scale, shortcut (Liu et al. 2022, figure 4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.pwconv2(F.gelu(self.pwconv1(y)))
        return torch.addcmul(x, y.permute(0, 3, 1, 2), self.gamma[:, None, None])
