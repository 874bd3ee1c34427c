"""Small blocks that the networks share."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["MLP", "ConvNorm", "LayerNorm2d", "ResidualBlock", "UpBlock", "fuse_norms"]


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, unless ``activate`` is false, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.act: nn.Module = nn.ReLU(inplace=True) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def fuse(self) -> None:
        """Fold the normalisation into the convolution; only for inference."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of maps (B, C, H, W); without a copy if channels are last."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, Deep Residual Learning, section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels)
        self.conv2 = ConvNorm(channels, channels, activate=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)) + x)


class UpBlock(nn.Module):
    """Twice the resolution: transposed convolution, a skip connection added, one 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.conv = ConvNorm(out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(self.act(self.up(x) + skip))


class MLP(nn.Module):
    """Linear layers with ReLU between them, and a sigmoid at the end if ``sigmoid``."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, depth: int, sigmoid: bool = False) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        widths = [in_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        out: Tensor = self.layers[-1](x)
        return out.sigmoid() if self.sigmoid else out


def fuse_norms(module: nn.Module) -> None:
    """Fold every batch normalisation of ``module`` into the convolution before it."""
    for child in module.modules():
        if isinstance(child, ConvNorm):
            child.fuse()
