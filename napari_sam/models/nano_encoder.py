"""The image encoder of ``nano``: a convolutional hierarchy with a top-down path, made for CPUs.

Plain 3x3 convolutions, batch normalisation that folds away, ReLU: what a CPU runs at its full speed. It
knows no positions, so that any image size gives the features that it was trained for.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.layers import ConvNorm, ResidualBlock

__all__ = ["EMBED_DIM", "SKIP_DIMS", "STRIDE", "NanoEncoder"]

STRIDE = 8
"""Pixels per cell of the embedding; sizes must be multiples of 32, the coarsest stride."""
EMBED_DIM = 96
SKIP_DIMS = (24, 48)
"""Channels of the skip features at strides 2 and 4."""

_WIDTHS = (48, 96, 160, 224)
_DEPTHS = (1, 3, 3, 2)


class NanoEncoder(nn.Module):
    """Features at strides 8 (the embedding), 4 and 2 (the skips)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, SKIP_DIMS[0], stride=2), ConvNorm(SKIP_DIMS[0], SKIP_DIMS[0]))
        self.stages = nn.ModuleList()
        width = SKIP_DIMS[0]
        for out, depth in zip(_WIDTHS, _DEPTHS, strict=True):
            blocks = [ResidualBlock(out) for _ in range(depth)]
            self.stages.append(nn.Sequential(ConvNorm(width, out, stride=2), *blocks))
            width = out
        self.laterals = nn.ModuleList(nn.Conv2d(c, EMBED_DIM, 1) for c in _WIDTHS[1:])
        self.smooth = ConvNorm(EMBED_DIM, EMBED_DIM)
        self.skip4 = nn.Conv2d(_WIDTHS[0], SKIP_DIMS[1], 1)
        self.skip2 = nn.Conv2d(SKIP_DIMS[0], SKIP_DIMS[0], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode.

        Parameters
        ----------
        x : Tensor, shape (B, 3, H, W)
            Normalised pixels; H and W are multiples of 32.

        Returns
        -------
        embedding : Tensor, shape (B, 96, H/8, W/8)
        skip4 : Tensor, shape (B, 48, H/4, W/4)
        skip2 : Tensor, shape (B, 24, H/2, W/2)
        """
        fine = self.stem(x)
        maps = []
        y = fine
        for stage in self.stages:
            y = stage(y)
            maps.append(y)
        top = self.laterals[2](maps[3])
        for lateral, level in ((self.laterals[1], maps[2]), (self.laterals[0], maps[1])):
            top = lateral(level) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return self.smooth(top), self.skip4(maps[0]), self.skip2(fine)
