"""TinyViT, the image encoder of MobileSAM.

Wu et al. 2022, TinyViT: Fast Pretraining Distillation for Small Vision Transformers, section 3.3, with the
changes of Zhang et al. 2023, Faster Segment Anything: Towards Lightweight SAM for Mobile Applications: the
last stage keeps the resolution of the one before, and SAM's neck follows. Parameter names are those of
MobileSAM's checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from napari_sam.models.layers import LayerNorm2d

__all__ = ["TinyViT"]

_WIDTHS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_WINDOWS = (7, 7, 14, 7)
_HEAD_DIM = 32
_EXPANSION = 4
_OUT_DIM = 256
_STRIP_ELEMENTS = 2**20


class TinyViT(nn.Module):
    """Image encoder: a stage of inverted bottlenecks, three of windowed attention, and SAM's neck.

    All maps have their channels last in memory, so that convolutions and attention share them without a copy.
    """

    img_size = 1024

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(_WIDTHS[0])
        self.layers = nn.ModuleList()
        for i, (width, depth, window) in enumerate(zip(_WIDTHS, _DEPTHS, _WINDOWS, strict=True)):
            blocks = [_MBConv(width) if i == 0 else _AttentionBlock(width, window) for _ in range(depth)]
            wider = _WIDTHS[i + 1] if i + 1 < len(_WIDTHS) else None
            self.layers.append(_Stage(blocks, width, wider, stride=1 if wider == _WIDTHS[-1] else 2))
        # The classifier of the pretraining: in the checkpoints, and not in the forward pass.
        self.norm_head = nn.LayerNorm(_WIDTHS[-1])
        self.head = nn.Linear(_WIDTHS[-1], 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(_WIDTHS[-1], _OUT_DIM, 1, bias=False),
            LayerNorm2d(_OUT_DIM),
            nn.Conv2d(_OUT_DIM, _OUT_DIM, 3, padding=1, bias=False),
            LayerNorm2d(_OUT_DIM),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode normalised pixels.

        Parameters
        ----------
        pixels : Tensor, shape (B, 3, H, W)
            H and W are multiples of 16; the published weights were trained for 1024.

        Returns
        -------
        Tensor, shape (B, 256, H / 16, W / 16)
        """
        x = self.patch_embed(pixels.contiguous(memory_format=torch.channels_last))
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)

    def fuse(self) -> None:
        """Make faster, for inference only: fold normalisation into convolutions, gather attention biases.

        Afterwards the parameters are no longer those of a checkpoint. A second call changes nothing.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, (_ConvNorm, _WindowAttention)):
                module.fuse()
        self.to(memory_format=torch.channels_last)


def _in_strips(
    function: Callable[[Tensor], Tensor], x: Tensor, width: int, *, stride: int = 1, halo: int = 1
) -> Tensor:
    """``function(x)``, strip by strip of rows: wide activations inside it stay small enough for the caches.

    Allocating a whole one anew, zeroed by the system page by page, takes longer than computing it.

    Parameters
    ----------
    function
        From maps to maps, each output row looking no further than ``halo`` output rows.
    x : Tensor, shape (B, C, H, W)
    width : int
        Channels of the widest activation inside.
    stride : int
        Rows of ``x`` per row of the result.
    """
    if torch.is_grad_enabled():
        # For gradients the wide activations are computed again, one function after the other.
        again: Tensor = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
        return again
    rows = max(1, _STRIP_ELEMENTS // (x.shape[0] * x.shape[3] * width * stride))
    height = x.shape[2] // stride
    if rows >= height or x.device.type != "cpu":
        return function(x)
    strips = []
    for top in range(0, height, rows):
        first, last = max(top - halo, 0), min(top + rows + halo, height)
        strip = function(x[:, :, first * stride : last * stride])
        strips.append(strip[:, :, top - first : min(top + rows, height) - first])
    return torch.cat(strips, dim=2)


class _ConvNorm(nn.Module):
    """Convolution and batch normalisation, named as in the checkpoints."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.c(x))

    def fuse(self) -> None:
        if isinstance(self.bn, nn.BatchNorm2d):
            self.c = fuse_conv_bn_eval(self.c, self.bn)
            self.bn = nn.Identity()


class _PatchEmbed(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            _ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), _ConvNorm(width // 2, width, 3, stride=2)
        )
        self.width = width

    def forward(self, pixels: Tensor) -> Tensor:
        return _in_strips(self.seq, pixels, self.width, stride=4)


class _MBConv(nn.Module):
    """Inverted bottleneck: widen, depthwise convolution, narrow, shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = _EXPANSION * width
        self.conv1 = _ConvNorm(width, self.wide)
        self.conv2 = _ConvNorm(self.wide, self.wide, 3, groups=self.wide)
        self.conv3 = _ConvNorm(self.wide, width)

    def forward(self, x: Tensor) -> Tensor:
        return _in_strips(self._block, x, self.wide)

    def _block(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(self.conv3(y) + x)


class _PatchMerging(nn.Module):
    """To the width, and with stride 2 to half the resolution, of the next stage."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.wider = wider
        self.stride = stride
        self.conv1 = _ConvNorm(width, wider)
        self.conv2 = _ConvNorm(wider, wider, 3, stride, groups=wider)
        self.conv3 = _ConvNorm(wider, wider)

    def forward(self, x: Tensor) -> Tensor:
        return _in_strips(self._merge, x, self.wider, stride=self.stride)

    def _merge(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class _Stage(nn.Module):
    """Blocks of one width, and unless it is the last stage, the way to the next."""

    def __init__(self, blocks: Iterable[nn.Module], width: int, wider: int | None, stride: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = None if wider is None else _PatchMerging(width, wider, stride)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class _AttentionBlock(nn.Module):
    """Attention inside windows, a depthwise convolution across them, an MLP."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.attn = _WindowAttention(width, window)
        self.mlp = _MLP(width)
        self.local_conv = _ConvNorm(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return _in_strips(self.mlp, self.local_conv(x), self.mlp.wide, halo=0)


class _MLP(nn.Module):
    """Normalisation and two layers, around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = _EXPANSION * width
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, self.wide)
        self.fc2 = nn.Linear(self.wide, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(F.gelu(self.fc1(self.norm(x.permute(0, 2, 3, 1)))))
        return x + y.permute(0, 3, 1, 2)


class _WindowAttention(nn.Module):
    """Attention inside square windows, with a learned bias for each distance in rows and columns."""

    index: Tensor
    bias: Tensor | None

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.heads = width // _HEAD_DIM
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window * window))
        at = torch.arange(window)
        apart = (at[:, None] - at).abs()
        index = apart[:, None, :, None] * window + apart[None, :, None, :]
        self.register_buffer("index", index.reshape(window**2, window**2), persistent=False)
        self.register_buffer("bias", None, persistent=False)

    def fuse(self) -> None:
        self.bias = self._gathered().detach()

    def _gathered(self) -> Tensor:
        """The bias of each head for each pair of places in a window, shape (1, heads, places, places)."""
        return self.attention_biases[None, :, self.index]

    def forward(self, x: Tensor) -> Tensor:
        """Attend; tokens in rows and columns, shape (B, H, W, width)."""
        batch, height, width, channels = x.shape
        side = self.window
        down, across = -(-height // side), -(-width // side)
        # Zeros that fill the last windows are normalised and attended to like any token: so trained.
        x = F.pad(x, (0, 0, 0, across * side - width, 0, down * side - height))
        x = x.unflatten(2, (across, side)).unflatten(1, (down, side)).transpose(2, 3)
        qkv = self.qkv(self.norm(x.reshape(-1, side * side, channels)))
        q, k, v = qkv.unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(3, dim=-1)
        bias = self._gathered() if self.bias is None else self.bias
        # with a batch dimension of its own the bias does not keep torch from its fast kernels
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        y = y.view(batch, down, across, side, side, channels).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return self.proj(y[:, :height, :width])
