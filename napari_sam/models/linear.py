"""Linear layers as fast as a CPU can: one place for what PyTorch does not offer publicly."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["linear", "linear_gelu", "linear_relu"]

_X86 = platform.machine().lower() in ("x86_64", "amd64")


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)``."""
    return _onednn(x, layer, "none") if _fits(x) else layer(x)


def linear_gelu(x: Tensor, layer: nn.Linear) -> Tensor:
    """``F.gelu(layer(x))``, without the activation before GELU going through memory where possible."""
    return _onednn(x, layer, "gelu") if _fits(x) else F.gelu(layer(x))


def linear_relu(x: Tensor, layer: nn.Linear) -> Tensor:
    """``F.relu(layer(x))``, likewise."""
    return _onednn(x, layer, "relu") if _fits(x) else F.relu(layer(x), inplace=True)


def _fits(x: Tensor) -> bool:
    """Whether to ask oneDNN: in float32 PyTorch takes MKL instead, which is slower on CPUs of AMD."""
    return (
        _X86
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and not torch.is_grad_enabled()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _onednn(x: Tensor, layer: nn.Linear, activation: str) -> Tensor:
    # Private in PyTorch, whose compiler replaces linear layers by it; there is no public way to oneDNN's
    # float32 product, nor to a product that ends in an activation. It has no gradient.
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, activation, [], "none")  # noqa: SLF001
