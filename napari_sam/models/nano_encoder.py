"""The image encoder of ``nano``: a convolutional hierarchy with a top-down path, made for CPUs.

Plain 3x3 convolutions, batch normalisation that folds away, ReLU: what a CPU runs at its full speed. It
knows no positions, so that any image size gives the features that it was trained for.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.layers import ConvNorm, ResidualBlock, UpBlock

__all__ = [
    "CENTRE_UNIT",
    "EMBED_DIM",
    "FINE_STRIDE",
    "SKIP_DIMS",
    "STRIDE",
    "STRIDES",
    "NanoEncoder",
    "NanoFeatures",
]

STRIDE = 8
"""Pixels per cell of the embedding; sizes must be multiples of 32, the coarsest stride."""
FINE_STRIDE = 2
"""Pixels per cell of the finest features, of the dense head, and of masks' logits."""
EMBED_DIM = 96
SKIP_DIMS = (24, 48)
"""Channels of the skip features at strides 2 and 4."""
CENTRE_UNIT = 16.0
"""Pixels to which a length of 1 corresponds in the ways to object centres."""

_WIDTHS = (48, 96, 160, 224)
_DEPTHS = (2, 5, 4, 2)


STRIDES = (STRIDE, 4, FINE_STRIDE, FINE_STRIDE)
"""Pixels per cell of each of the features."""


class NanoFeatures(NamedTuple):
    """What the encoder returns: features of one or more images, or of windows cut out of them.

    Attributes
    ----------
    embedding : Tensor, shape (B, 96, H/8, W/8)
    skip4 : Tensor, shape (B, 48, H/4, W/4)
    skip2 : Tensor, shape (B, 24, H/2, W/2)
    dense : Tensor, shape (B, 4, H/2, W/2)
        For every pixel, whatever the prompt: logits of foreground and of object boundary, and the way (x, y)
        to the centre of the object that the pixel belongs to, in units of ``CENTRE_UNIT`` pixels.
    """

    embedding: Tensor
    skip4: Tensor
    skip2: Tensor
    dense: Tensor


class NanoEncoder(nn.Module):
    """A hierarchy of residual blocks down to stride 32, and a top-down path back to stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, SKIP_DIMS[0], stride=2), ConvNorm(SKIP_DIMS[0], SKIP_DIMS[0]))
        self.stages = nn.ModuleList()
        width = SKIP_DIMS[0]
        for out, depth in zip(_WIDTHS, _DEPTHS, strict=True):
            blocks = [ResidualBlock(out) for _ in range(depth)]
            self.stages.append(nn.Sequential(ConvNorm(width, out, stride=2), *blocks))
            width = out
        self.laterals = nn.ModuleList(
            ConvNorm(c, EMBED_DIM, kernel_size=1, activate=False) for c in _WIDTHS[1:]
        )
        self.smooth = ConvNorm(EMBED_DIM, EMBED_DIM)
        self.up4 = UpBlock(EMBED_DIM, SKIP_DIMS[1])
        self.up2 = UpBlock(SKIP_DIMS[1], SKIP_DIMS[0])
        self.dense = nn.Conv2d(SKIP_DIMS[0], 4, 1)

    def forward(self, x: Tensor) -> NanoFeatures:
        """Encode normalised pixels, shape (B, 3, H, W); H and W are multiples of 32."""
        fine = self.stem(x)
        maps = []
        y = fine
        for stage in self.stages:
            y = stage(y)
            maps.append(y)
        top = self.laterals[2](maps[3])
        for lateral, level in ((self.laterals[1], maps[2]), (self.laterals[0], maps[1])):
            top = lateral(level) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        embedding = self.smooth(top)
        skip4 = self.up4(embedding, maps[0])
        skip2 = self.up2(skip4, fine)
        return NanoFeatures(embedding, skip4, skip2, self.dense(skip2))
