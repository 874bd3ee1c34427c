"""The neck of SAM 2's image encoder (Ravi et al. 2024, appendix D.1).

A feature pyramid (Lin et al. 2017, Feature Pyramid Networks) of which only stride 16 gets features from
above, from stride 32; strides 4 and 8 go to the mask decoder as they are. Convolutions are 1 x 1, so they
are linear maps of tokens. The sine positions that go with the features in videos are those of
:func:`napari_sam.models.positions.sine_positions`. Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.hiera import HieraStage

__all__ = ["FpnNeck"]


class FpnNeck(nn.Module):
    """Features of Hiera to those of the decoders.

    Parameters
    ----------
    dims : sequence of int
        Channels of Hiera's stages, finest first.
    out_dim : int
    """

    def __init__(self, dims: Sequence[int], out_dim: int = 256) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_Lateral(dim, out_dim) for dim in reversed(dims))

    def forward(self, fine: HieraStage, coarse: HieraStage) -> Tensor:
        """The image embedding, shape (H, W, out_dim) of ``fine``.

        Parameters
        ----------
        fine, coarse : HieraStage
            At stride 16 and 32.
        """
        top, x = (
            stage.in_place(F.linear(stage.tokens, conv.weight.flatten(1), conv.bias))
            for stage, conv in ((coarse, self._conv(3)), (fine, self._conv(2)))
        )
        # Each coarse token is added to the 2 x 2 fine ones of its place.
        blocks = x.unflatten(1, (-1, 2)).unflatten(0, (-1, 2))
        return (blocks + top[:, None, :, None]).view_as(x)

    def project(self, level: int, tokens: Tensor, then: nn.Conv2d) -> Tensor:
        """Tokens (N, C) of a fine stage through the neck and ``then``, shape (N, channels of ``then``).

        Two linear maps in a row are one, and this one is several times smaller.
        """
        conv = self._conv(level)
        assert conv.bias is not None
        first, second = conv.weight.flatten(1).float(), then.weight.flatten(1).float()
        bias = second @ conv.bias.float()
        if then.bias is not None:
            bias = bias + then.bias.float()
        return F.linear(tokens, (second @ first).to(tokens.dtype), bias.to(tokens.dtype))

    def _conv(self, level: int) -> nn.Conv2d:
        """The convolution of a level; they are kept coarsest first."""
        return cast("_Lateral", self.convs[len(self.convs) - 1 - level]).conv


class _Lateral(nn.Module):
    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out_dim, kernel_size=1)
